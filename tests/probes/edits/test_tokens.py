"""One definition of which tokens: slots of a text, and places of a window."""

import pytest
import torch

from cache.errors import InputError
from probes.directions.codes import LAST
from probes.edits.tokens import POSITION_SETS, places_of, tokens_of

MEMBERS = torch.tensor([[False, True, False, True, False], [False, False, True, False, True]])


@pytest.mark.parametrize("bos", [True, False])
def test_every_set_names_its_tokens(bos):
    found = {name: tokens_of(name, MEMBERS, bos=bos).int().tolist() for name in POSITION_SETS}
    assert found["last"] == [[0, 0, 0, 0, 1]] * 2
    assert found["members"] == MEMBERS.int().tolist()
    assert found["both"] == [[0, 1, 0, 1, 1], [0, 0, 1, 0, 1]]
    assert found["all"] == [[int(not bos), 1, 1, 1, 1]] * 2


def test_places_are_those_of_the_shown_members_and_of_the_last_token():
    assert places_of("last", 3) == (LAST,)
    assert places_of("members", 3) == (0, 1, 2)
    assert places_of("both", 2) == (0, 1, LAST)


def test_other_sets_are_refused():
    with pytest.raises(InputError, match=r"no position set 'all'; there are last, members, both$"):
        places_of("all", 3)
    with pytest.raises(InputError, match=r"no position set 'first'; there are last, members, both, all$"):
        tokens_of("first", MEMBERS, bos=True)
