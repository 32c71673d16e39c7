"""Numbers agree with the word for what they count."""

import pytest

from cache.shown.counts import number_of, numbers_in


@pytest.mark.parametrize(
    ("n", "several", "words"),
    [
        (0, "", "0 contexts"),
        (1, "", "1 context"),
        (2, "", "2 contexts"),
        (1234567, "", "1,234,567 contexts"),
        (1, "many", "1 context"),
        (7, "many", "7 many"),
    ],
)
def test_one_is_one_and_all_else_several(n, several, words):
    assert number_of(n, "context", several) == words


def test_a_line_counts_what_is_asked_for_in_that_order_and_in_other_words():
    line = {"n_members": 1, "n_rows": 1076, "n_templates": 0}
    assert numbers_in(line, "row", "member") == "1,076 rows, 1 member"
    assert numbers_in(line, "template", "member", member="pair") == "0 templates, 1 pair"
