"""docs/tour.ipynb: the README's tour as a notebook. Run it and write it anew with: python -m tests.tour."""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"


def executed(folder):
    """The notebook with what its cells give here; everything that they write lies in the folder."""
    notebook = nbformat.read(TOUR, as_version=4)
    for cell in cells(notebook):
        cell.outputs = []
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}, record_timing=False).execute()
    return notebook


def cells(notebook):
    """The cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def results(cell):
    """What a cell gives, without the bars that slow work shows on the way."""
    return [output for output in cell.outputs if output.output_type != "display_data"]


def main():
    """Write the notebook as it runs here, without what another machine would give otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(folder)
    for cell in cells(notebook):
        cell.outputs = results(cell)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
