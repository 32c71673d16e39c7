"""No command draws a figure without saying what is drawn, of how many, and how it was made."""

import re

import pytest

from tests.geometry.cli.every_command import COMMANDS
from tests.geometry.cli.test_faults import OPTIONS

DRAWING = [name for name in COMMANDS if "formats" in OPTIONS[name]]


@pytest.mark.parametrize("command", DRAWING)
def test_every_figure_has_its_caption(run_here, place, circles, no_pictures, tmp_path, command):
    call = place.call(command)
    code, _, err = run_here(*call, "--out", "made", "--format", "png")
    assert code == 0, err
    pictures = {path.stem for path in (tmp_path / "here").rglob("*.png")}
    captions = {path.stem: path.read_text() for path in (tmp_path / "here").rglob("*.txt")}
    assert pictures
    assert captions.keys() == pictures
    for name, text in captions.items():
        said, *made = text.split("\n\n")
        assert re.match(r"[A-Z].{80,}\.$", said), name
        assert "nan" not in said.split()
        assert name == "loadings" or re.search(r"\d members|\d answers", said), said
        (lines,) = [part.strip().split("\n") for part in made]
        assert [line.split(": ")[0] for line in lines] == ["Parameters", "Store", "Command", "Made with"]
        assert "site resid_post" in lines[0]
        assert ("seed 0" in lines[0]) == ("seed" in OPTIONS[command])
        kept = [word for word in call[1:] if word != "--quiet"]
        assert lines[2] == " ".join(["Command: geometry", command, *kept, "--format png"])
