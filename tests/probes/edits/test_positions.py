"""Positions count a text's own tokens, whether the pass is the whole text, its continuation or a restart."""

import pytest
import torch

from cache.errors import InputError
from cache.models.restart import Prefix
from cache.prompts.prompt import Prompt, Prompts
from probes.edits.positions import check_positions, edited_slots, member_positions, text_positions


class Cached:
    """A key/value cache that holds some tokens."""

    def __init__(self, length):
        self.length = length

    def get_seq_length(self, layer=0):
        return self.length + (layer == 0)  # the first block's keys are there already when the second runs


@pytest.mark.parametrize("positions", ["last", "all", [0], [3, 1], [], [[0], [1, 2]], [[], []], ((0, 1), (2,))])
def test_positions_are_last_all_numbers_or_numbers_a_text(positions):
    check_positions(positions)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ("first", "positions must be last, all, or numbers counted in the text's tokens; got 'first'"),
        ("members", r"where members stand depends on the prompts: give member_positions\(model, prompts\)"),
        ([-1], r"positions count a text's tokens from 0 \(BOS is not counted\); got -1"),
        ([[0], [2, -3]], "from 0 .* got -3"),
        ([True], "got True"),
    ],
)
def test_anything_else_is_refused(positions, message):
    with pytest.raises(InputError, match=message):
        check_positions(positions)


def test_a_member_stands_where_its_last_token_does(loaded):
    """Counted by hand: every word is one token of the test tokenizer, with and without a space."""
    prompts = Prompts(
        (
            Prompt("cat=one; dog=two; cat=", values=(1, 2), members=("one", "two"), spans=((4, 7), (13, 16))),
            Prompt("Van is a van"),
            Prompt("zzz cat", values=(1,), members=("zzz",), spans=((0, 3),)),
        )
    )
    model = loaded["gpt2"]
    texts = [model.tokenizer.tokenize(prompt.text) for prompt in prompts]
    assert texts[0] == ["cat", "=", "one", ";", "Ġdog", "=", "two", ";", "Ġcat", "="]
    assert texts[2] == ["z", "z", "z", "Ġcat"]
    assert member_positions(model, prompts) == [[2, 6], [], [2]]


def test_a_pass_with_position_ids_stands_where_they_say_bos_apart():
    ids = torch.arange(5)[None]
    places, ends = text_positions({"position_ids": ids}, 5, bos=True)
    assert (places.tolist(), ends) == ([[-1, 0, 1, 2, 3]], True)
    places, ends = text_positions({"position_ids": ids}, 5, bos=False)
    assert (places.tolist(), ends) == ([[0, 1, 2, 3, 4]], True)


def test_a_pass_that_continues_does_not_end_the_text_and_a_restart_does():
    ids = torch.tensor([[5, 6]])
    places, ends = text_positions({"position_ids": ids, "past_key_values": Cached(5)}, 2, bos=True)
    assert (places.tolist(), ends) == ([[4, 5]], False)
    prefix = Prefix((torch.zeros(1, 1, 5, 2),), (torch.zeros(1, 1, 5, 2),))
    places, ends = text_positions({"position_ids": ids, "layer_past": prefix}, 2, bos=True)
    assert (places.tolist(), ends) == ([[4, 5]], True)


def test_without_position_ids_a_whole_text_begins_at_its_beginning():
    for nothing in ({}, {"past_key_values": None}, {"past_key_values": Cached(0)}):
        places, ends = text_positions(nothing, 3, bos=True, layer=1)
        assert (places.tolist(), ends) == ([[-1, 0, 1]], True)


def test_without_position_ids_the_blocks_own_cache_says_where_a_pass_goes_on():
    places, ends = text_positions({"past_key_values": Cached(3)}, 2, bos=True, layer=1)
    assert (places.tolist(), ends) == ([[2, 3]], False)


PLACES = torch.arange(-1, 4)[None]


@pytest.mark.parametrize(
    ("positions", "slots"),
    [
        ("last", [[4], [4]]),
        ("all", [[1, 2, 3, 4], [1, 2, 3, 4]]),
        ([0, 3], [[1, 4], [1, 4]]),
        ([], [[], []]),
        ([7], [[], []]),
        ([[0], [2, 3]], [[1], [3, 4]]),
        ([[], [2]], [[], [3]]),
        ([0, [2]], [[1], [3]]),
        ([[1]], [[2], [2]]),
    ],
)
def test_the_slots_of_a_whole_text(positions, slots):
    chosen = edited_slots(positions, PLACES, 2, ends=True)
    assert [row.nonzero().flatten().tolist() for row in chosen] == slots


def test_last_of_a_continuing_pass_is_nowhere():
    assert not edited_slots("last", PLACES, 2, ends=False).any()


def test_texts_come_in_turn_in_every_copy_of_a_batch():
    chosen = edited_slots([[0], [2]], PLACES, 6, ends=True)
    assert [row.nonzero().flatten().tolist() for row in chosen] == [[1], [3]] * 3


def test_places_may_be_given_for_each_text():
    places = torch.tensor([[-1, 0, 1], [0, 1, 2], [-1, 0, 1], [0, 1, 2]])
    assert edited_slots([1], places, 4, ends=True).nonzero().tolist() == [[0, 2], [1, 1], [2, 2], [3, 1]]
    assert edited_slots("all", places, 4, ends=True).sum() == 10
    by_text = edited_slots([[0], [2]], places, 4, ends=True)
    assert by_text.nonzero().tolist() == [[0, 1], [1, 2], [2, 1], [3, 2]]


def test_positions_for_another_number_of_texts_are_refused():
    with pytest.raises(InputError, match="positions are given for 3 texts; the batch has 2"):
        edited_slots([[0], [1], [2]], PLACES, 2, ends=True)
