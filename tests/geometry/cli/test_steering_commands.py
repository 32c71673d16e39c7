"""`geometry direction`, `steer` and `sweep`, run as a user types them."""

import json
import shlex

import pandas as pd
import pytest
import torch

from cache import ActivationStore, Hook, load_model
from geometry.cli import main
from geometry.cli.console.recorded_model import model_words
from geometry.results.result import LayerResult
from probes.directions.direction import direction_of
from probes.directions.features import saved_feature
from probes.directions.files import load_direction, save_direction
from probes.directions.members import member_edit, reversal
from probes.edits.edit import addition, exchange
from probes.edits.generation import generate, text_tokens
from probes.edits.hooks import steer
from tests.probes.sweeps import small_store


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return go


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("steering")
    small_store(gpt2, folder).close()
    return folder / "sweep.h5"


def test_a_direction_is_saved_with_its_stability(run, store, tmp_path, gpt2):
    code, out, err = run("direction", store, "--from", "digits", "--to", "numwords", "--layer", 1)
    path = tmp_path / "directions" / "digits-numwords-resid_post-1.safetensors"
    assert (code, path.is_file()) == (0, True), err
    assert "24 pairs, 6 answers, 4 templates, cosine between halves of the templates" in out
    assert f"geometry steer --model {gpt2.name} --direction directions" in " ".join(err.split())
    assert load_direction(path).hook == Hook("resid_post", 1)


@pytest.mark.parametrize("method", ["pca", "logistic", "lda", "mean_only", "unembedding_difference"])
def test_every_method_can_be_asked_for(run, store, tmp_path, method):
    code, out, err = run(
        *("direction", store, "--from", "digits", "--to", "numwords", "--layer", "-1", "--method", method),
        *("--out", "d/two.safetensors", "--json"),
    )
    assert code == 0, err
    described = json.loads(out)
    found = load_direction(tmp_path / "d" / "two.safetensors")
    assert (found.method, found.hook.layer) == (method, 2)
    assert described["norm"] == found.norm > 0
    assert described["n_pairs"] == 24


def test_steer_shows_tokens_before_and_after_and_goes_on(run, gpt2, model_folders, tmp_path):
    step = 30 * torch.randn(33, generator=torch.Generator().manual_seed(3))
    one = direction_of(step, Hook("resid_post", 1), "drawn", source="a", target="b")
    save_direction(one, tmp_path / "d.safetensors")
    asked = ("steer", "--model", model_folders["gpt2"], "--direction", "d.safetensors", "--prompt", "1,2,3,")
    code, out, err = run(*asked, "--json", "--top", 3, "--tokens", 4, "--alpha", 2)
    assert code == 0, err
    said = json.loads(out)
    with steer(gpt2, one, 2.0), torch.inference_mode():
        chances = gpt2.last_logits(text_tokens(gpt2, "1,2,3,"))[0].softmax(dim=0)
        goes_on = generate(gpt2, "1,2,3,", 4)
    assert [line["token"] for line in said["after"]["top"]] == [
        gpt2.tokenizer.decode([int(i)]) for i in chances.topk(3).indices
    ]
    assert [line["probability"] for line in said["after"]["top"]] == pytest.approx(chances.topk(3).values.tolist())
    assert said["after"]["continuation"] == gpt2.tokenizer.decode(goes_on)
    assert said["before"] != said["after"]
    code, out, _ = run(*asked, "--alpha", 0)
    before, after = [
        line.split(":", 1)[1] for line in out.splitlines() if line.lstrip().startswith(("before:", "after:"))
    ]
    assert before == after


@pytest.fixture(scope="module")
def two_ways(gpt2, tmp_path_factory):
    """Increasing and decreasing prompts of digits."""
    folder = tmp_path_factory.mktemp("two-ways")
    small_store(gpt2, folder, names="digits", kinds=("increasing", "decreasing")).close()
    return folder / "sweep.h5"


@pytest.mark.parametrize(
    ("ends", "find"),
    [
        (("2", "5"), lambda store: member_edit(store, Hook("resid_post", 1), "digits", 2, 5)),
        (("next", "previous"), lambda store: reversal(store, Hook("resid_post", 1), "digits")),
        (("previous", "next"), lambda store: -reversal(store, Hook("resid_post", 1), "digits")),
    ],
)
def test_within_a_family_one_member_acts_as_another_and_next_is_turned_to_previous(
    run, two_ways, tmp_path, gpt2, model_folders, ends, find
):
    asked = ("direction", two_ways, "--family", "digits", "--from", ends[0], "--to", ends[1], "--layer", 1)
    code, out, err = run(*asked)
    assert code == 0, err
    with ActivationStore.open(two_ways) as store:
        truth = find(store)
    found = load_direction(tmp_path / "directions" / f"digits-{ends[0]}-{ends[1]}-resid_post-1.safetensors")
    assert torch.equal(found.step, truth.step)
    assert (found.method, found.source, found.target) == (truth.method, f"digits {ends[0]}", f"digits {ends[1]}")
    assert f"{found.method}, digits {ends[0]} -> digits {ends[1]} at blocks.1.hook_resid_post: norm" in out
    tried = shlex.split(next(line for line in err.splitlines() if line.startswith("try: ")).removeprefix("try: "))
    tried[tried.index("--model") + 1] = str(model_folders["gpt2"])
    assert ("--positions" in tried) == (ends == ("2", "5"))
    if "--positions" in tried:  # where the 2 stands, BOS not counted
        text, place = (tried[tried.index(option) + 1] for option in ("--prompt", "--positions"))
        assert gpt2.tokenizer.decode([int(text_tokens(gpt2, text)[0, 1 + int(place)])]).strip() == "2"
    assert run(*tried[1:])[0] == 0
    described = json.loads(run(*asked, "--json")[1])
    assert set(described) == {"hook", "head", "method", "source", "target", "norm", "file"}


def test_directions_are_exchanged(run, gpt2, model_folders, tmp_path):
    steps = [torch.randn(33, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    both = [
        direction_of(30 * step, Hook("resid_post", 1), "drawn", source=end, target="c")
        for step, end in zip(steps, "ab", strict=True)
    ]
    for one in both:
        save_direction(one, tmp_path / one.source)
    asked = ("steer", "--model", model_folders["gpt2"], "--prompt", "1,2,3,", "--exchange", "a", "b")
    code, out, err = run(*asked, "--json", "--tokens", 4)
    assert code == 0, err
    goes_on = generate(gpt2, "1,2,3,", 4, edits=[exchange(*both)])
    assert json.loads(out)["after"]["continuation"] == gpt2.tokenizer.decode(goes_on)
    code, out, err = run(*asked, "--direction", "a")
    assert code == 0, err
    assert "a -> c at blocks.1.hook_resid_post, a -> c for b -> c at blocks.1.hook_resid_post" in " ".join(out.split())


def test_a_saved_feature_is_steered_along(run, store, gpt2, model_folders):
    assert run("pca", store, "--layers", "1", "--components", 2, "--model", "none", "--out", "p", "--quiet")[0] == 0
    asked = ("steer", "--model", model_folders["gpt2"], "--prompt", "1,2,3,", "--basis", "p", "--layer", 1)
    code, out, err = run(*asked, "--feature", 1, "--alpha", 3, "--tokens", 4, "--json")
    assert code == 0, err
    feature = saved_feature(LayerResult.load("p"), 1, 1)
    goes_on = generate(gpt2, "1,2,3,", 4, edits=[addition(feature, 3.0)])
    assert json.loads(out)["after"]["continuation"] == gpt2.tokenizer.decode(goes_on)
    assert "feature 1 at blocks.1.hook_resid_post" in " ".join(run(*asked, "--feature", 1)[1].split())
    code, _, err = run(*asked)
    assert (code, "--basis, --layer and --feature go together" in err) == (2, True)
    code, _, err = run(*asked[:-3], "nowhere", "--layer", 1, "--feature", 0)
    assert (code, "result.nc is not there; give a folder that an analysis has written" in " ".join(err.split())) == (
        3,
        True,
    )
    code, _, err = run(*asked, "--feature", 7)
    assert (code, "features of this basis are numbered 0 to 1; got 7" in err) == (2, True)


def test_sweep_writes_tables_and_figures(run, store, tmp_path, monkeypatch):
    code, out, err = run(
        *("sweep", store, "--from", "digits", "--to", "numwords", "--layers", "2", "--alphas", "1,3"),
        *("--positions", "last", "--out", "swept", "--seed", 4),
    )
    assert code == 0, err
    names = {path.name for path in (tmp_path / "swept").iterdir()}
    tables = {f"{name}.csv" for name in ("table", "rows", "summary", "answers", "before_after", "collateral")}
    figures = {f"{name}.{suffix}" for name in ("success", "grid") for suffix in ("png", "svg", "txt")}
    assert names == tables | figures | {"result.nc", "result.json"}
    described = json.loads((tmp_path / "swept" / "result.json").read_text())
    assert described["parameters"]["seed"] == 4
    summary = pd.read_csv(tmp_path / "swept" / "summary.csv")
    assert {"mean_difference", "unembedding_difference", "sign_flipped", "wrong_target"} <= set(summary["method"])
    assert {"n_members", "n_templates", "n_rows", "se"} <= set(summary.columns)
    answers = pd.read_csv(tmp_path / "swept" / "answers.csv")
    assert len(answers) == 6
    assert "mean_difference, answer by answer" in out
    swept = LayerResult.load(tmp_path / "swept")
    assert swept.values("success").shape[0] == 1
    monkeypatch.setattr("geometry.report._pictures", lambda _, formats: dict.fromkeys(formats, b""))
    code, out, _ = run(
        *("sweep", store, "--from", "digits", "--to", "numwords", "--layers", "2", "--alphas", "1", "--json", "--quiet")
    )
    folder = tmp_path / "figures" / "sweep-digits-numwords"
    assert (code, len(json.loads(out))) == (0, len(pd.read_csv(folder / "table.csv")))
    assert (folder / "summary.csv").is_file()


WRONG = {
    "no family or group": ("direction", "--from", "digit", "--to", "numwords", "--layer", "1"),
    "leads from one group to another": ("direction", "--from", "digits", "--to", "digits", "--layer", "1"),
    "no method 'mean'": ("direction", "--from", "digits", "--to", "numwords", "--layer", "1", "--method", "mean"),
    "has no 'blocks.9.hook_resid_post'": ("direction", "--from", "digits", "--to", "numwords", "--layer", "9"),
    "--alphas takes numbers": ("sweep", "--from", "digits", "--to", "numwords", "--alphas", "one"),
    "positions must be of": ("sweep", "--from", "digits", "--to", "numwords", "--positions", "first"),
    "layers": ("sweep", "--from", "digits", "--to", "numwords", "--layers", "7"),
    "numbers of its members (2 and 5), or next and previous; got two and 5": (
        *("direction", "--family", "digits", "--from", "two", "--to", "5", "--layer", "1"),
    ),
    "no context has both members 2 and 77 of 'digits'": (
        *("direction", "--family", "digits", "--from", "2", "--to", "77", "--layer", "1"),
    ),
    "within a family a direction is a mean difference; got --method lda": (
        *("direction", "--family", "digits", "--from", "2", "--to", "5", "--layer", "1", "--method", "lda"),
    ),
    "record kinds increasing,decreasing": (
        *("direction", "--family", "digits", "--from", "next", "--to", "previous", "--layer", "1"),
    ),
    "name it with --model": ("sweep", "--from", "digits", "--to", "numwords", "--model", "none"),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said_in_one_line(run, store, message):
    command, *options = WRONG[message]
    code, out, err = run(command, store, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_steer_refuses_what_it_cannot_do(run, model_folders, tmp_path):
    asked = ("steer", "--model", model_folders["gpt2"], "--prompt", "1,2,3,", "--direction")
    code, _, err = run(*asked, "missing.safetensors")
    assert (code, "no direction 'missing.safetensors'" in err) == (3, True)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of the kind")
    code, _, err = run(*asked, "bad.safetensors")
    assert (code, "is no direction" in err) == (4, True)
    save_direction(direction_of(torch.ones(20), Hook("resid_post", 1), "ones"), tmp_path / "d.safetensors")
    code, _, err = run(*asked, "d.safetensors")
    assert (code, "has width 33; the edit has 20" in " ".join(err.split())) == (2, True)
    code, _, err = run(*asked, "d.safetensors", "--positions", "first")
    assert (code, "--positions takes last, all, or numbers" in err) == (2, True)
    code, _, err = run(*asked[:3], "--prompt", "", "--direction", "d.safetensors")
    assert (code, "--prompt takes a text" in err) == (2, True)
    code, _, err = run(*asked[:5])
    assert (code, "give --direction, --basis, --sae, or --exchange with two directions" in " ".join(err.split())) == (
        2,
        True,
    )
    code, _, err = run(*asked[:5], "--exchange", "d.safetensors", "d.safetensors")
    assert (code, "the two directions are parallel" in err) == (2, True)
    code, _, err = run(*asked, "d.safetensors", "--top", 0)
    assert (code, "--top and --tokens must be 1 or more" in err) == (2, True)


def test_an_interrupted_command_says_so_and_leaves_nothing(run, store, tmp_path, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probes.directions.contrasts.contrast", stopped)
    code, out, err = run("direction", store, "--from", "digits", "--to", "numwords", "--layer", 1)
    assert (code, out) == (130, "")
    assert err.strip() == "interrupted; the same command begins again"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"), [({"bos": False}, ["--no-bos"]), ({"processing": "compatibility"}, ["--processing"])]
)
def test_the_command_to_try_loads_the_model_as_it_was_recorded(run, model_folders, tmp_path, options, words):
    model = load_model(str(model_folders["gpt2"]), device="cpu", **options)
    (tmp_path / "with space").mkdir()
    small_store(model, tmp_path / "with space", names="digits,numwords").close()
    out = tmp_path / "with space" / "two.safetensors"
    asked = ("direction", tmp_path / "with space" / "sweep.h5", "--from", "digits", "--to", "numwords", "--layer", 1)
    code, _, err = run(*asked, "--out", out)
    assert code == 0, err
    tried = shlex.split(next(line for line in err.splitlines() if line.startswith("try: ")).removeprefix("try: "))
    assert tried[0] == "geometry"
    assert set(words) <= set(tried)
    tried[tried.index("--model") + 1] = str(model_folders["gpt2"])
    code, _, err = run(*tried[1:])
    assert code == 0, err


def test_a_hub_commit_is_named_in_the_command_to_try(store):
    with ActivationStore.open(store) as opened:
        assert model_words(opened) == ["--model", opened.manifest["soft"]["model"]]
        opened.manifest["hard"]["model revision"] = "0123456789abcdef" * 2 + "01234567"
        assert model_words(opened)[2:] == ["--revision", "0123456789abcdef" * 2 + "01234567"]
