import pytest

from cache.errors import InputError
from geometry.rows.names import names_of, pairs_of


@pytest.mark.parametrize(
    "given", ["digits,months", " digits , months,digits,", ["digits", "months"], ("digits", "months", "digits")]
)
def test_names_come_one_by_one_or_in_a_string(given):
    assert names_of(given) == ["digits", "months"]


def test_no_names_are_none():
    assert names_of("") == names_of([]) == names_of(",") == []


@pytest.mark.parametrize("given", [[("a", "b")], [["a", "b"]], ("a", "b"), ["a", "b"], (("a", "b"),), [("a", "b")] * 1])
def test_pairs_come_in_any_make_and_one_may_stand_alone(given):
    assert pairs_of(given) == [("a", "b")]
    assert pairs_of([]) == []


@pytest.mark.parametrize(
    "given", ["a,b", "ab", ["a"], ["a", "b", "c"], [("a", "b", "c")], [("a", 1)], [("a", "b"), "c"]]
)
def test_what_is_no_pair_is_refused(given):
    with pytest.raises(InputError, match=r"^pairs are given as \[\('digits', 'numwords'\)\]; got "):
        pairs_of(given)
