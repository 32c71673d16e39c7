"""Families and groups named to be formulas, markup, escape sequences and paths: every command takes them as names."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from cache import Prompts, SequenceDesign, load_dataset, plan_recording, record
from cache.families.family import FAMILIES
from geometry.cli import main
from geometry.cli.console.options import file_stem

FORMULA, MARKUP = r"$\frac$_^{", "[/b]\x1b[31m[red]:smile:"
PATH = "../../../etc/" + "x" * 300
NAMES = {"digits": FORMULA, "numwords": MARKUP, "months": PATH}


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
    """Four families' prompts, three of them named badly."""
    design = SequenceDesign(
        (FAMILIES["digits"],), ("quote", "list"), ("increasing",), (2,), (1, 2, 3, 4, 5), templates=3
    )
    prompts = load_dataset("digits,numwords,months,control:0", design)
    named = Prompts(tuple(replace(one, family=NAMES.get(one.family, one.family)) for one in prompts))
    path = tmp_path_factory.mktemp("hostile") / "a.h5"
    record(gpt2, plan_recording(gpt2, named, sites="resid", positions="members"), path)
    return path


ONE_LAYER = ("--layers", "2")
COMMANDS = [
    pytest.param(("pca", "--layers", "2"), marks=pytest.mark.slow),
    pytest.param(("svd",), marks=pytest.mark.slow),  # drawn as pca is
    pytest.param(("nmf",), marks=pytest.mark.slow),
    pytest.param(("demix",), marks=pytest.mark.slow),
    ("compare",),
    pytest.param(("compare", "--measure", "cka"), marks=pytest.mark.slow),
    pytest.param(("compare", "--between", "layers"), marks=pytest.mark.slow),
    pytest.param(("probe", "--target", "family", "--leave-out", "member", "--layers", "2"), marks=pytest.mark.slow),
    pytest.param(("transfer", "--layers", "2"), marks=pytest.mark.slow),
    pytest.param(("erase", "--layers", "2"), marks=pytest.mark.slow),  # drawn as transfer is
    pytest.param(("cosines", "--layers", "2"), marks=pytest.mark.slow),
    pytest.param(("sweep", "--from", FORMULA, "--to", MARKUP, *ONE_LAYER, "--alphas", "1"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:3:2]))
def test_every_command_prints_and_draws_any_name(command, run, store, tmp_path):
    name, *options = command
    code, out, err = run(name, store, *options, "--out", "f")
    assert code == 0, err
    assert "\x1b" not in out + err
    drawn = [*(tmp_path / "f").rglob("*.svg")]
    assert drawn
    for path in drawn:
        ElementTree.parse(path)
        assert "mathdefault" not in path.read_text()  # a number as a formula that is not set as one


def test_files_named_after_groups_stay_in_their_folder(run, store, no_pictures, tmp_path):
    for ends in ((FORMULA, MARKUP), (PATH, FORMULA), (MARKUP, PATH)):
        code, out, err = run("direction", store, "--from", ends[0], "--to", ends[1], "--layer", 1)
        assert code == 0, err
        assert "\x1b" not in out + err
    made = [*(tmp_path / "directions").iterdir()]
    assert len(made) == 3
    assert [*tmp_path.iterdir()] == [tmp_path / "directions"]
    code, out, err = run("sweep", store, "--from", PATH, "--to", FORMULA, "--layers", "2", "--alphas", "1")
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"directions", "figures"}
    assert len([*(tmp_path / "figures").iterdir()]) == 1


def test_a_direction_s_names_do_not_steer_the_terminal(run, store, model_folders):
    run("direction", store, "--from", MARKUP, "--to", FORMULA, "--layer", 1, "--out", "d.safetensors")
    code, out, err = run(
        *("steer", "--model", model_folders["gpt2"], "--direction", "d.safetensors", "--prompt", "[/b] $x$")
    )
    assert code == 0, err
    assert "\x1b" not in out + err
    assert "[/b] $x$" in out
    assert r"[/b]\x1b[31m[red]:smile:" in "".join(out.split())


def test_a_model_s_name_is_no_markup(run):
    code, _, err = run("cache", "--model", "[/b]")
    assert code in (2, 3)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("digits", "numwords", "z", "3"), "digits-numwords-z-3"),
        (("control:0", "a/b", ""), "control0-a-b"),
        (("../../x", "..\\y"), "..-..-x-..-y"),
        (("a\0b\x1b\n", "c"), "a-x00b-x1b-n-c"),
    ],
)
def test_a_file_name_has_no_folders_and_no_control_characters(parts, name):
    assert file_stem(*parts) == name


def test_long_names_are_cut_and_stay_apart():
    one, other = (file_stem("日" * 200, end) for end in "ab")
    assert one != other
    assert max(len(one.encode()), len(other.encode())) <= 160


@pytest.fixture(scope="module")
def grouped(gpt2, tmp_path_factory):
    """Own prompts with groups and no families."""
    folder = tmp_path_factory.mktemp("grouped")
    lines = [
        {"text": f"{word} is {what}", "group": group}
        for group, what in (("1", "good"), ("0", "bad"))
        for word in ("one", "two", "three")
    ]
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    plan = plan_recording(gpt2, load_dataset(f"by-line:{folder / 'own.jsonl'}"), sites="resid", positions="all")
    record(gpt2, plan, folder / "own.h5")
    return folder / "own.h5"


GROUPS = (
    "its prompts have groups (1, 0) and no families; directions and sweeps lead between groups, all else needs prompts "
    "with a column family or pair"
)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("compare", "--families", "1,0"), f"families are compared, and the store has none: {GROUPS}"),
        (("compare",), f"a comparison needs two families that are not controls; got 0 from the store: {GROUPS}"),
        (("demix", "--families", "1,0"), f"the store has no family '1'; {GROUPS}"),
        (("demix",), f"families are compared, and the store has none: {GROUPS}"),
        (("probe", "--families", "1,0"), f"the store has no family '1'; {GROUPS}"),
        (("probe",), f"a probe needs families that are not controls; got none from the store: {GROUPS}"),
    ],
)
def test_groups_are_said_to_be_no_families(command, message, run, grouped):
    name, *options = command
    code, _, err = run(name, grouped, *options, "--quiet")
    assert (code, err) == (2, f"error: {message}\n")


def test_a_direction_leads_between_groups(run, grouped):
    code, out, err = run("direction", grouped, "--from", "1", "--to", "0", "--layer", 1)
    assert (code, "3 pairs" in out) == (0, True), err
    assert "--prompt 'one is good'" in err
