"""Which layers have a panel: a few, evenly spread, or those that are named."""

from itertools import pairwise

import pytest

from cache.errors import InputError
from geometry.figures.panels import MOST_SHOWN, shown_layers

WHOLE = range(-1, 30)


@pytest.mark.parametrize("there", [range(1), range(-1, 2), range(MOST_SHOWN), WHOLE, [0, 5, 6, 7, 20, 21, 22, 23, 40]])
@pytest.mark.parametrize("n", [1, 2, 3, MOST_SHOWN, 100])
def test_so_many_are_spread_over_all_with_the_first_and_the_last(there, n):
    shown = shown_layers(there, n)
    assert len(shown) == len(set(shown)) == min(n, len(there))
    assert shown == sorted(shown)
    assert shown[0] == 0
    assert n == 1 or shown[-1] == len(there) - 1
    steps = [after - before for before, after in pairwise(shown)]
    assert not steps or max(steps) - min(steps) <= 1


@pytest.mark.parametrize(
    ("layers", "shown"),
    [("all", [*range(31)]), ("0", [0, 1]), ("3,5-6", [4, 6, 7]), ("-1", [30]), ([7, 2], [3, 8]), ((29,), [30])],
)
def test_named_layers_are_shown_and_the_embedding_goes_with_layer_0(layers, shown):
    assert shown_layers(WHOLE, layers) == shown


def test_of_layers_that_are_named_those_analysed_are_shown():
    assert shown_layers([4, 8, 20], "0-8") == [0, 1]


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (0, "a number from 1, a list such as 0,4-7,-1, or all; got 0"),
        (True, "a number from 1"),
        ("5", "layers analysed are 4, 8; got 5 to show"),
        ("9", "layers 0 to 8; got '9'"),
        ("few", "a list such as 0,4-7,-1; got 'few'"),
    ],
)
def test_what_names_no_layer_is_told(layers, told):
    with pytest.raises(InputError, match=told):
        shown_layers([4, 8], layers)
