import itertools

import numpy as np
import pytest
import torch

from cache import Hook, load_model, plan_recording
from cache.errors import FingerprintError, InputError
from probes.directions.contrasts import contrast, load_pairs
from probes.directions.direction import direction_of
from probes.edits.hooks import steer
from probes.steering.cells import nested_cells, success_by_layer, sweep_summary
from probes.steering.settings import EVERY, Grid
from probes.steering.sweep import sweep
from tests.probes.sweeps import small_store
from tests.recordings import recorded

ALPHAS = (0.0, 1.0, 4.0)
GRID = Grid(ALPHAS, methods=("mean_difference", "mean_only"))


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    with small_store(gpt2, tmp_path_factory.mktemp("sweep")) as store:
        yield store


@pytest.fixture(scope="module")
def result(store, gpt2):
    return sweep(store.view(), gpt2, "digits", "numwords", GRID)


OUTCOMES = ("success", "within_families", "probability_moved", "old_rank", "top1")


def naive(store, model, hook, alpha, positions, trial):
    """One trial by hand: leave out, average, steer the whole model, look at every token."""
    pairs = contrast(store.view(), "digits", "numwords")
    me = pairs.table.iloc[trial]
    keep = [
        i
        for i, other in pairs.table.iterrows()
        if other["context"] != me["context"] and other["answer"] != me["answer"] and me["answer"] not in other["shown"]
    ]
    x, y = load_pairs(store, hook, pairs)
    step = (y[keep] - x[keep]).mean(dim=0)
    text = store.prompts["text"][me["source_prompt"]]
    tokens = torch.tensor([[model.tokenizer.bos_token_id, *model.tokenizer.encode(text, add_special_tokens=False)]])
    clean = model.last_logits(tokens)[0].detach()
    if not float(step.norm()):
        return clean, clean, me
    with steer(model, direction_of(step, hook, "by hand"), alpha, positions), torch.inference_mode():
        return clean, model.last_logits(tokens)[0], me


@pytest.mark.parametrize("positions", ["last", "all"])
def test_outcomes_are_those_of_steering_each_prompt_by_hand(store, gpt2, result, positions):
    word = {answer: gpt2.tokenizer.encode(answer, add_special_tokens=False)[0] for answer in "3 4 5 6 7 8".split()}
    names = "three four five six seven eight".split()
    word |= {answer: gpt2.tokenizer.encode(answer, add_special_tokens=False)[0] for answer in names}
    family = list(word.values())
    for (number, hook), trial in itertools.product(enumerate(result.hooks), (0, 9, 23)):
        setting = result.parameters["settings"].index(["mean_difference", 4.0, positions])
        clean, after, me = naive(store, gpt2, hook, 4.0, positions, trial)
        target, source = word[me["answer"]], word[me["source_answer"]]
        got = {name: result.values(f"trial_{name}")[number, setting, trial] for name in OUTCOMES}
        assert got["top1"] == int(after.argmax())
        assert got["success"] == (int(after.argmax()) == target)
        assert got["within_families"] == (family[int(after[family].argmax())] == target)
        assert got["old_rank"] == int((after > after[source]).sum())
        moved = after.softmax(dim=0)[target] - clean.softmax(dim=0)[target]
        assert got["probability_moved"] == pytest.approx(float(moved), abs=1e-5)


def test_alpha_zero_moves_nothing(result):
    still = [i for i, (_, alpha, _) in enumerate(result.parameters["settings"]) if alpha == 0]
    assert np.nanmax(np.abs(result.values("trial_probability_moved")[:, still])) < 1e-5
    ranks = result.values("trial_old_rank")[:, still]
    assert (np.isnan(ranks) | (ranks == ranks[0, 0])).all()


def test_every_method_is_tried_at_the_cells_that_the_mean_difference_chose(result):
    for positions in ("last", "all"):
        cells = nested_cells(result, positions=[positions])
        for method in {name for name, _, _ in result.parameters["settings"]}:
            mine = nested_cells(result, method, [positions])
            assert mine[["layer", "alpha", "positions"]].equals(cells[["layer", "alpha", "positions"]])
            assert mine["success"].notna().all()
    summary = sweep_summary(result)
    assert len(summary) == 2 * len({name for name, _, _ in result.parameters["settings"]})
    assert (summary.groupby("positions")[["layer", "alpha"]].nunique() == 1).all(axis=None)
    shown = summary.set_index("method")["hindsight"].notna()
    assert set(shown.index[shown]) == {"mean_difference", "unembedding_difference"}


def test_controls_are_tried_by_layer_at_every_third_and_two_methods_everywhere(result):
    for method in ("sign_flipped", "wrong_target", "control_difference", "random"):
        tried = set(success_by_layer(result, method, ["last"])["layer"])
        assert {hook.table_layer for hook in result.hooks[::EVERY]} <= tried
    for method in ("mean_difference", "unembedding_difference"):
        mine = [i for i, (name, _, _) in enumerate(result.parameters["settings"]) if name == method]
        assert len(mine) == 2 * len(ALPHAS)
        assert np.isfinite(result.values("trial_success")[:, mine]).all()


def test_the_table_counts_answers_templates_and_prompts(result):
    assert set(result.table["n_members"]) == {6}
    assert set(result.table["n_templates"]) == {4}
    assert set(result.table["n_rows"]) == {24}
    line = result.table[(result.table["layer"] == 1) & (result.table["alpha"] == 4)].iloc[0]
    settings = result.parameters["settings"]
    mine = result.values("trial_success")[2, settings.index(["mean_difference", 4.0, "last"])]
    assert result.hooks[2] == Hook("resid_post", 1)
    assert line["success"] == mine.mean()
    by_answer = [mine[(result.rows["answer"] == answer).to_numpy()].mean() for answer in set(result.rows["answer"])]
    assert line["worst_answer"] == min(by_answer)
    if 0 < mine.mean() < 1:
        assert line["se"] == pytest.approx(np.std(by_answer, ddof=1) / 6**0.5)
    else:
        assert np.isnan(line["se"])


def test_a_sweep_is_saved_with_its_seed_and_gives_the_same_again(store, gpt2, result, tmp_path):
    again = sweep(store.view(), gpt2, "digits", "numwords", GRID)
    assert again.table.equals(result.table)
    assert {path.name for path in result.save(tmp_path)} == {"result.nc", "result.json", "table.csv", "rows.csv"}
    assert result.parameters["seed"] == 0
    assert result.parameters["wrong_target"] == "months"


def test_members_are_a_position_set(store, gpt2):
    result = sweep(store.view(layers="1"), gpt2, "numwords", "digits", Grid((1.0,), ("members",), ("pca",)))
    assert {place for _, _, place in result.parameters["settings"]} == {"members"}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"positions": ("first",)}, "positions must be of last, members, both, all; got first"),
        ({"positions": ()}, "positions must be of last, members, both, all; got none"),
        ({"methods": ("means",)}, "methods must be of .*; got means"),
        ({"alphas": (float("nan"),)}, "alphas must be finite numbers"),
        ({"alphas": ()}, "alphas must be finite numbers"),
    ],
)
def test_choices_that_do_not_exist_are_refused(choice, message):
    with pytest.raises(InputError, match=message):
        Grid(**choice)


def test_only_sites_between_blocks_are_steered(gpt2, tmp_path):
    plan = plan_recording(gpt2, ["a b"], sites="mlp_out")
    with (
        recorded(gpt2, plan, tmp_path / "a.h5") as store,
        pytest.raises(InputError, match="resid_post; got"),
    ):
        sweep(store.view("mlp_out"), gpt2, "digits", "numwords")


def test_another_model_is_refused(store, model_folders):
    with pytest.raises(FingerprintError, match="other weights"):
        sweep(store.view(), load_model(str(model_folders["llama"]), device="cpu"), "digits", "numwords")
