"""Laws of edits, at every site: what changes, where it changes, what follows from it, and that nothing stays."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch

from cache import Hook
from cache.errors import FingerprintError, InputError
from cache.models.restart import clean_run, restart
from geometry.bases.basis import LinearBasis, orthonormal_basis
from probes.directions.direction import Direction
from probes.edits.edit import addition, exchange
from probes.edits.hooks import EDITABLE, ablate, edited, steer
from tests.probes.readings import block_sites, n_hooks, random_direction, random_tokens, read
from tests.variants import some

SITES = [(name, kind, None) for name in ("gpt2", "llama") for kind in EDITABLE]
SITES += [("neox", kind, None) for kind in EDITABLE if kind != "resid_mid"]
SITES += [(name, "z", head) for name in ("gpt2", "llama", "neox") for head in (0, 2)]
IN_SUITE = [one for one in SITES if one[0] == "llama"]
IN_SUITE += [("gpt2", "resid_post", None), ("gpt2", "attn_out", None), ("neox", "resid_pre", None), ("neox", "z", 0)]
LAYER = 1


@pytest.fixture(params=some(SITES, *IN_SUITE), ids=lambda site: "-".join(map(str, site)))
def place(loaded, request):
    """A model and one of its sites."""
    name, kind, head = request.param
    return loaded[name], Hook(kind, LAYER, head)


def flat(model, hook, found):
    """What stands at a site, of its head if it names one, as vectors."""
    output = found[Hook(hook.kind, hook.layer)]
    if hook.head is None:
        return output.reshape(*output.shape[:2], -1)
    return output.reshape(*output.shape[:2], *model.row_shape(hook))[:, :, hook.head]


def sites_of(model, hook):
    return [*block_sites(model), Hook("z", hook.layer)]


def parallel(model):
    """Whether attention and MLP read the same stream."""
    return Hook("resid_mid", 0).name not in model.points


# --- what changes, and where


@pytest.mark.parametrize(
    ("positions", "changed"),
    [("last", [8]), ("all", range(1, 9)), ([2, 5], [3, 6]), ([[0, 7], [3]], [[1, 8], [4]])],
    ids=["last", "all", "indices", "by text"],
)
def test_exactly_the_step_is_added_at_the_chosen_positions_and_nothing_before_them(place, positions, changed):
    model, hook = place
    direction = random_direction(model, hook)
    tokens = random_tokens(model)
    clean, clean_logits = read(model, tokens, sites_of(model, hook))
    with steer(model, direction, alpha=-1.5, positions=positions):
        run, logits = read(model, tokens, sites_of(model, hook))
    before, after = flat(model, hook, clean), flat(model, hook, run)
    by_text = changed if isinstance(changed[0], list) else [list(changed)] * 2
    for text, where in enumerate(by_text):
        first = where[0]
        torch.testing.assert_close(
            after[text, first], before[text, first] - 1.5 * 3.0 * direction.vector, rtol=0, atol=2e-5
        )
        for site in run:
            assert torch.equal(run[site][text, :first], clean[site][text, :first])
        assert torch.equal(logits[text, :first], clean_logits[text, :first])
        assert float((logits[text, first] - clean_logits[text, first]).abs().max()) > 0.1


def test_at_the_edited_site_itself_every_chosen_position_gets_the_step_and_no_other(place):
    """Of its inputs nothing has changed in the layer where the edit is made, so it can be seen alone."""
    model, hook = place
    direction = random_direction(model, hook)
    tokens = random_tokens(model)
    clean, _ = read(model, tokens, sites_of(model, hook))
    with steer(model, direction, 2.0, positions=[0, 4]):
        run, _ = read(model, tokens, sites_of(model, hook))
    shift = flat(model, hook, run) - flat(model, hook, clean)
    torch.testing.assert_close(shift[:, [1, 5]], (6.0 * direction.vector).expand(2, 2, -1), rtol=0, atol=2e-5)
    rest = [p for p in range(9) if p not in (1, 5)]
    assert torch.equal(flat(model, hook, run)[:, rest], flat(model, hook, clean)[:, rest])


def test_other_heads_are_left_alone(loaded):
    for model in loaded.values():
        tokens, hook = random_tokens(model), Hook("z", LAYER)
        clean, _ = read(model, tokens, [hook])
        with steer(model, random_direction(model, Hook("z", LAYER, 1)), positions="all"):
            run, _ = read(model, tokens, [hook])
        shape = (*tokens.shape, *model.row_shape(hook))
        same = (run[hook].reshape(shape) == clean[hook].reshape(shape)).all(dim=3)
        assert same[:, :, [0, *range(2, shape[2])]].all()
        assert not same[:, 1:, 1].any()


def test_the_blocks_equations_hold_on_the_edited_run(place):
    """The stream that later parts read is the one that was edited: no part goes on with the old one."""
    model, hook = place
    direction = random_direction(model, hook)
    with steer(model, direction, 2.0, positions="all"):
        run, _ = read(model, random_tokens(model), block_sites(model))
    step = (2.0 * direction.step)[None, None].repeat(2, 9, 1)
    step[:, 0] = 0  # BOS
    for layer in range(3):
        here = {kind: run.get(Hook(kind, layer)) for kind in ("resid_pre", "attn_out", "resid_mid", "mlp_out")}
        post = run[Hook("resid_post", layer)]
        edit = step if hook == Hook("resid_post", layer) else torch.zeros_like(post)
        if parallel(model):
            assert_equal(post, here["resid_pre"] + here["attn_out"] + here["mlp_out"] + edit)
        else:
            assert_equal(here["resid_mid"], here["resid_pre"] + here["attn_out"])
            assert_equal(post, here["resid_mid"] + here["mlp_out"] + edit)
        if layer:
            edit = step if hook == Hook("resid_pre", layer) else torch.zeros_like(post)
            assert_equal(here["resid_pre"], run[Hook("resid_post", layer - 1)] + edit)


def assert_equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(b.abs().max()) + 1e-5)


@pytest.mark.parametrize("kind", ["resid_mid", "attn_out"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_an_edit_of_resid_mid_reaches_the_mlp_and_the_skip_path(loaded, name, kind):
    """It is the edit of attn_out: the MLP reads the moved stream, and the block's output has the step in."""
    model = loaded[name]
    direction, tokens = random_direction(model, Hook(kind, LAYER)), random_tokens(model)
    clean, _ = read(model, tokens, block_sites(model))
    with steer(model, direction, positions="last"):
        run, _ = read(model, tokens, block_sites(model))
    mlp = run[Hook("mlp_out", LAYER)][:, -1] - clean[Hook("mlp_out", LAYER)][:, -1]
    assert float(mlp.abs().max()) > 1e-3
    moved = run[Hook("resid_post", LAYER)][:, -1] - clean[Hook("resid_post", LAYER)][:, -1]
    torch.testing.assert_close(moved, direction.step + mlp, rtol=0, atol=2e-5)


def test_an_edit_of_z_changes_attn_out_by_the_vector_through_that_heads_output_weights(loaded):
    for model in loaded.values():
        for head in (None, 0, 2):
            hook = Hook("z", LAYER, head)
            direction, tokens = random_direction(model, hook), random_tokens(model)
            w_o = model.bridge.blocks[LAYER].attn.W_O.detach()
            vector = direction.vector.reshape(-1, w_o.shape[1])
            written = torch.einsum("hd,hdm->m", vector, w_o if head is None else w_o[head : head + 1])
            clean, _ = read(model, tokens, [Hook("attn_out", LAYER)])
            with steer(model, direction, 2.0, positions="all"):
                run, _ = read(model, tokens, [Hook("attn_out", LAYER)])
            moved = run[Hook("attn_out", LAYER)] - clean[Hook("attn_out", LAYER)]
            torch.testing.assert_close(moved[:, 1:], (6.0 * written).expand_as(moved[:, 1:]), rtol=1e-4, atol=1e-4)
            assert not moved[:, 0].any()


def test_alpha_0_changes_no_bit_and_touches_nothing(place):
    model, hook = place
    tokens = random_tokens(model)
    clean, clean_logits = read(model, tokens, sites_of(model, hook))
    before = n_hooks(model)
    with steer(model, random_direction(model, hook), alpha=0.0, positions="all"):
        assert n_hooks(model) == before
        run, logits = read(model, tokens, sites_of(model, hook))
    assert torch.equal(logits, clean_logits)
    assert all(torch.equal(run[site], clean[site]) for site in run)


def test_several_layers_at_once_are_edits_one_within_the_other(loaded):
    for model in loaded.values():
        directions = [random_direction(model, Hook("resid_post", layer), seed=layer) for layer in range(3)]
        tokens = random_tokens(model)
        with steer(model, directions, 0.7, positions="all"):
            _, at_once = read(model, tokens, [])
        with ExitStack() as stack:
            for one in directions:
                stack.enter_context(steer(model, one, 0.7, positions="all"))
            _, nested = read(model, tokens, [])
        assert torch.equal(at_once, nested)


def test_several_edits_at_one_site_add_up(place):
    """Also of resid_mid, which is made of two sites, and where one block stands inside another."""
    model, hook = place
    one, other = random_direction(model, hook, 1), random_direction(model, hook, 2)
    tokens = random_tokens(model)
    with steer(model, one + other, positions="all"):
        _, summed = read(model, tokens, [])
    with steer(model, [one, other], positions="all"):
        _, together = read(model, tokens, [])
    with steer(model, one, positions="all"), steer(model, other, positions="all"):
        _, nested = read(model, tokens, [])
    assert_equal(together, summed)
    assert_equal(nested, summed)


@pytest.mark.parametrize("kinds", [("resid_mid", "attn_out"), ("attn_out", "resid_mid"), ("resid_mid", "resid_pre")])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_resid_mid_is_edited_beside_what_it_is_the_sum_of(loaded, name, kinds):
    model, tokens = loaded[name], random_tokens(loaded[name])
    directions = [random_direction(model, Hook(kind, LAYER), seed) for seed, kind in enumerate(kinds)]
    with steer(model, directions, positions="all"):
        run, _ = read(model, tokens, block_sites(model))
    with steer(model, directions[1], positions="all"), steer(model, directions[0], positions="all"):
        nested, _ = read(model, tokens, block_sites(model))
    for site in run:
        assert_equal(run[site], nested[site])
    assert_equal(run[Hook("resid_mid", LAYER)], run[Hook("resid_pre", LAYER)] + run[Hook("attn_out", LAYER)])


def test_bos_is_never_edited_by_all_and_positions_count_from_the_text(gpt2):
    tokens, hook = random_tokens(gpt2, batch=1), Hook("resid_pre", 0)
    clean, _ = read(gpt2, tokens, [hook])
    for positions, moved in (("all", list(range(1, 9))), ([0], [1]), ([[7]], [8]), ([], []), ([99], []), ([[]], [])):
        with steer(gpt2, random_direction(gpt2, hook), positions=positions):
            run, _ = read(gpt2, tokens, [hook])
        assert (run[hook] != clean[hook]).all(dim=2)[0].nonzero().flatten().tolist() == moved


# --- removal and exchange


def test_ablating_leaves_no_component_and_doing_it_twice_is_doing_it_once(place):
    model, hook = place
    direction, tokens = random_direction(model, hook), random_tokens(model)
    clean, _ = read(model, tokens, sites_of(model, hook))
    with ablate(model, direction):
        run, once = read(model, tokens, sites_of(model, hook))
    with ablate(model, direction), ablate(model, direction):
        _, twice = read(model, tokens, [])
    after, before = flat(model, hook, run), flat(model, hook, clean)
    assert float((after[:, 1:] @ direction.vector).abs().max()) < 1e-5 * float(before.abs().max())
    rest = before - (before @ direction.vector)[..., None] * direction.vector
    torch.testing.assert_close(after[:, 1:], rest[:, 1:], rtol=0, atol=1e-5 * float(before.abs().max()))
    assert torch.equal(after[:, 0], before[:, 0])
    assert_equal(twice, once)


def test_ablating_a_basis_sets_its_features_to_0_around_its_offset(gpt2):
    hook, tokens = Hook("resid_post", 1), random_tokens(gpt2)
    rng = np.random.default_rng(0)
    span = torch.from_numpy(np.linalg.qr(rng.normal(size=(33, 3)))[0].T).float()
    basis = orthonormal_basis(span, torch.from_numpy(rng.normal(size=33)).float(), hook)
    clean, _ = read(gpt2, tokens, [hook])
    with ablate(gpt2, basis, positions="last"):
        run, _ = read(gpt2, tokens, [hook])
    values = basis.encode(run[hook])
    torch.testing.assert_close(values[:, -1], torch.zeros(2, 3), rtol=0, atol=1e-4)
    assert float(basis.encode(clean[hook])[:, -1].abs().min()) > 1e-3
    torch.testing.assert_close(values[:, :-1], basis.encode(clean[hook])[:, :-1], rtol=0, atol=0)


def test_exchanging_twice_is_nothing(place):
    model, hook = place
    one, other = random_direction(model, hook, 1, norm=2.0), random_direction(model, hook, 2, norm=5.0)
    tokens = random_tokens(model)
    clean, clean_logits = read(model, tokens, sites_of(model, hook))
    with edited(model, [exchange(one, other)], "all"):
        _, once = read(model, tokens, [])
    with edited(model, [exchange(one, other), exchange(other, one)], "all"):
        run, twice = read(model, tokens, sites_of(model, hook))
    assert float((once - clean_logits).abs().max()) > 0.1
    for site in run:
        assert_equal(run[site], clean[site])
    assert_equal(twice, clean_logits)


# --- nothing stays


def test_hooks_are_gone_after_the_block_also_when_it_raises(place):
    model, hook = place
    before = n_hooks(model)
    direction = random_direction(model, hook)
    with steer(model, [direction, direction]):
        assert n_hooks(model) > before
    assert n_hooks(model) == before
    with pytest.raises(KeyError), ablate(model, direction):
        raise KeyError
    with pytest.raises(IndexError), edited(model, [exchange(direction, random_direction(model, hook, 9))]):
        model.run(torch.full((1, 2), 10**6))
    assert n_hooks(model) == before
    wrong = Direction(Hook("q", 0), torch.eye(12)[0], 1.0, "by hand")
    with pytest.raises(InputError), steer(model, [direction, wrong]):
        pass
    assert n_hooks(model) == before


def test_after_the_block_the_model_computes_what_it_did(place):
    model, hook = place
    tokens = random_tokens(model)
    _, clean = read(model, tokens, [])
    with steer(model, random_direction(model, hook)):
        read(model, tokens, [])
    assert torch.equal(read(model, tokens, [])[1], clean)


# --- with a restart


@pytest.mark.parametrize("new", [1, 3, 9])
@pytest.mark.parametrize("positions", ["last", "all", [7], [[7], [6, 7]]])
def test_a_restart_inside_the_block_is_edited_as_a_whole_pass_is(loaded, positions, new):
    for model in loaded.values():
        clean = clean_run(model, random_tokens(model))
        directions = [random_direction(model, Hook("resid_post", LAYER)), random_direction(model, Hook("z", 2, 1))]
        edits = [addition(one, 1.3) for one in directions]
        stream = clean.streams[LAYER, None, :, -new:].repeat(2, 1, 1, 1)
        chosen = positions
        if new == 1 and positions != "last":  # what stands before the recomputed positions keeps the clean run's values
            chosen = [[7], [7]] if isinstance(positions, list) else [7]
        elif positions == "all" and new < 9:
            chosen = list(range(8 - new, 8))
        with edited(model, edits, chosen):
            found = restart(clean, stream, LAYER)
            run, _ = read(model, clean.tokens, [Hook("resid_post", 2)])
        for copied in found:
            assert_equal(copied, run[Hook("resid_post", 2)][:, -new:])
        assert not torch.allclose(found[0], clean.streams[-1, :, -new:])


# --- what cannot be edited


def test_resid_mid_is_refused_where_blocks_have_none(loaded):
    direction = Direction(Hook("resid_mid", 1), torch.eye(36)[0], 1.0, "by hand")
    with (
        pytest.raises(InputError, match=r"has no blocks.1.hook_resid_mid: its blocks have no resid_mid"),
        steer(loaded["neox"], direction),
    ):
        pass


def test_resid_mid_is_refused_where_it_is_not_the_sum_of_its_parts(loaded, monkeypatch):
    """A block that adds something else to the stream beside attn_out."""
    model = loaded["llama"]
    norm = model.points[Hook("resid_mid", 1).name]
    handle = norm.register_forward_hook(lambda _, __, output: output * 1.5)
    try:
        with (
            pytest.raises(InputError, match=r"is not resid_pre \+ attn_out, so it cannot be edited; edit resid_post"),
            steer(model, random_direction(model, Hook("resid_mid", 1))),
        ):
            model.run(random_tokens(model))
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("hook", "width", "message"),
    [
        (
            Hook("q", 0),
            33,
            r"blocks.0.attn.hook_q cannot be edited; sites that can are resid_pre, resid_mid, resid_post",
        ),
        (Hook("mlp_post", 0), 71, "blocks.0.mlp.hook_post cannot be edited"),
        (Hook("resid_post", 3), 33, r"has layers 0 to 2; got blocks.3.hook_resid_post"),
        (Hook("z", 0, 3), 11, "has heads 0 to 2; got 3"),
        (Hook("resid_post", 0), 32, "blocks.0.hook_resid_post of .* has width 33; the edit has 32"),
        (Hook("z", 0, 1), 33, "has width 11; the edit has 33"),
        (Hook("z", 0), 11, "has width 33; the edit has 11"),
    ],
)
def test_a_site_that_cannot_be_edited_is_refused_before_anything_runs(gpt2, hook, width, message):
    direction = Direction(hook, torch.eye(width)[0], 1.0, "by hand")
    with pytest.raises(InputError, match=message), steer(gpt2, direction, alpha=0.0):
        pass


def test_no_direction_and_no_positions_are_refused(gpt2):
    with pytest.raises(InputError, match="no edit is given; give at least one direction"), steer(gpt2, []):
        pass
    direction = random_direction(gpt2, Hook("resid_post", 0))
    with pytest.raises(InputError, match="positions must be last, all"), steer(gpt2, direction, positions="first"):
        pass
    basis = LinearBasis(torch.zeros(33), torch.eye(33)[:1], torch.eye(33)[:1])
    with pytest.raises(InputError, match="must know its site"), ablate(gpt2, basis):
        pass


def test_positions_for_another_number_of_texts_are_refused_when_the_model_runs(gpt2):
    direction = random_direction(gpt2, Hook("resid_post", 0))
    with (
        pytest.raises(InputError, match="positions are given for 3 texts; the batch has 2"),
        steer(gpt2, direction, positions=[[0], [1], [2]]),
    ):
        gpt2.run(random_tokens(gpt2))


def test_a_direction_of_another_model_is_refused(loaded):
    one = replace(random_direction(loaded["gpt2"], Hook("resid_post", 1)), weights=loaded["llama"].weights)
    with pytest.raises(FingerprintError, match="other weights than"), steer(loaded["gpt2"], one):
        pass
    with pytest.raises(FingerprintError, match="the direction or basis comes from other"), ablate(loaded["gpt2"], one):
        pass
    with steer(loaded["gpt2"], replace(one, weights=loaded["gpt2"].weights)):
        pass
