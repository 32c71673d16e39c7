"""Documents, templates and frames are left out whole, and no row is of two parts."""

import numpy as np
import pandas as pd
import pytest

from cache.errors import InputError
from probes.sae_training.split import PARTS, split_rows
from tests.probes.sae_training.stores import labels

ROWS = labels()


def names(split, part, column):
    return set(ROWS[column].to_numpy()[split.rows(part)])


def test_what_is_left_out_is_left_out_whole_and_the_rest_trains():
    split = split_rows(ROWS, documents=0.25, templates=1, frames=["lines"], seed=3)
    assert len(split.left_out["documents"]) == 2
    assert names(split, "documents", "group") == set(split.left_out["documents"])
    assert names(split, "text", "group") == {f"d{one}" for one in range(8)} - set(split.left_out["documents"])
    assert names(split, "frames", "frame") == {"lines"}
    assert names(split, "templates", "frame") == names(split, "sequences", "frame") == {"quote", "list"}
    assert names(split, "templates", "template") == {1}
    assert names(split, "sequences", "template") == {0}
    assert split.left_out["templates"] == ("list 1", "quote 1")
    of_parts = np.concatenate([split.rows(part) for part in PARTS])
    assert len(of_parts) == len(set(of_parts))
    assert sorted(of_parts) == np.flatnonzero(ROWS["position"] > 0).tolist()  # neither BOS nor the first token


def test_documents_are_drawn_by_the_seed_alone():
    drawn = [split_rows(ROWS, seed=seed, documents=0.4).left_out["documents"] for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_nothing_is_left_out_where_nothing_is_asked_for_and_a_frames_only_template_trains():
    split = split_rows(ROWS, documents=0, templates=0)
    assert [len(split.rows(part)) for part in PARTS[2:]] == [0, 0, 0]
    assert len(split_rows(labels(n_templates=1)).rows("templates")) == 0


def test_it_is_described_by_rows_and_names():
    told = split_rows(ROWS, frames=["list"]).described()
    assert told["left_out"]["frames"] == ["list"]
    assert sum(told["rows"].values()) == (ROWS["position"] > 0).sum()


def test_fewer_tokens_are_whole_documents_and_leave_out_the_same():
    whole = split_rows(ROWS, documents=0.25, seed=3)
    n_rows = len(whole.rows("text"))
    for tokens in (1, n_rows // 2, n_rows):
        fewer = split_rows(ROWS, documents=0.25, seed=3, tokens=tokens)
        for part in PARTS[1:]:
            assert fewer.rows(part).tolist() == whole.rows(part).tolist()
        kept = names(fewer, "text", "group")
        assert sorted(fewer.rows("text")) == [row for row in whole.rows("text") if ROWS["group"][row] in kept]
        assert len(kept) == max(1, tokens // (n_rows // 6))  # six documents of one size
    assert len(fewer.rows("text")) == n_rows


def test_of_rows_that_begin_alike_one_is_in_a_part_and_it_trains_if_any_does():
    texts = [("d0", "", [7, 1, 2, 3]), ("d1", "", [7, 1, 2, 4]), ("d2", "", [7, 1, 2, 3])]
    texts += [("", "quote", [7, 1, 5, 2]), ("", "quote", [7, 1, 5, 3]), ("", "lines", [7, 1, 2, 3, 9])]
    lines = [
        {"prompt": i, "position": place - 1, "token": token, "group": group, "frame": frame, "template": 0}
        | {"family": "digits" if frame else ""}
        for i, (group, frame, tokens) in enumerate(texts)
        for place, token in enumerate(tokens)
    ]
    split = split_rows(pd.DataFrame(lines), documents=0, templates=0, frames=["lines"])
    assert split.rows("text").tolist() == [2, 3, 7]  # [7 1 2], [... 3], [... 4]
    assert split.rows("sequences").tolist() == [14, 15, 19]  # [7 1 5], [... 2], [... 3]
    assert split.rows("frames").tolist() == [24]  # [7 1 2 3 9] alone is new
    broken = pd.DataFrame(lines).drop(index=1)  # of the first text not every token is there: nothing is known of it
    assert split_rows(broken, documents=0, templates=0).rows("text").tolist() == [1, 2, 5, 6, 10]
    unknown = pd.DataFrame(lines).assign(token=-1)
    assert len(split_rows(unknown, documents=0, templates=0).rows("text")) == 6


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"frames": ["verse"]}, "no prompt has the frame 'verse'; there are quote, list, lines"),
        ({"tokens": 0}, "tokens must be 1 or more; got 0"),
        ({"documents": 1.0}, "documents must be a share from 0 to below 1; got 1.0"),
    ],
)
def test_what_is_not_there_is_told(choices, message):
    with pytest.raises(InputError, match=message):
        split_rows(ROWS, **choices)


def test_something_has_to_train():
    table = labels(n_documents=0)
    with pytest.raises(InputError, match="no row is left to train on"):
        split_rows(table, frames=["quote", "list", "lines"])


def test_a_part_is_one_of_them():
    with pytest.raises(InputError, match="part must be one of text"):
        split_rows(ROWS).rows("words")
