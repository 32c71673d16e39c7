"""A result that a command has saved draws the pictures that the command wrote, by their names."""

import pytest

from geometry.figures.plain import PlainFigure
from geometry.results.result import LayerResult
from tests.variants import some

BESIDE = {"loadings"}  # of a table beside the result
DRAWING = ["svd", "pca", "nmf", "demix", "umap", "compare", "cosines", "probe", "query", "transfer", "erase", "sweep"]


@pytest.mark.usefixtures("circles")
@pytest.mark.parametrize("command", some(DRAWING, "pca", "umap", "compare", "query", "transfer", "erase", "sweep"))
def test_a_result_draws_what_its_command_wrote(place, run_here, tmp_path, command):
    code, _, err = run_here(*place.call(command), "--out", tmp_path / "out")
    assert code == 0, err
    pictures = LayerResult.load(tmp_path / "out").pictures()
    assert pictures.keys() | BESIDE == {path.stem for path in (tmp_path / "out").glob("*.png")} | BESIDE
    assert all(isinstance(draw(), PlainFigure) for draw in pictures.values())
