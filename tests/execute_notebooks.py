"""Run the reference notebooks from a clean kernel and save them with their outputs:

    python -m tests.execute_notebooks                   # all of notebooks/
    python -m tests.execute_notebooks notebooks/01_forward_noising.ipynb
    python -m tests.execute_notebooks drafts/07_new.py  # writes notebooks/07_new.ipynb

A .py file is a notebook in jupytext's percent format. There the four cells of an exercise are
marked in their headers, the last with its points:

    # %% [markdown] exercise="add_noise:task"
    # %% exercise="add_noise:answer"
    # %% exercise="add_noise:check"
    # %% exercise="add_noise:graded" points=2
"""

import argparse
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from cfd_course.widgets import VIEW

# The same whoever runs it: the kernel would add the version of its Python.
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def read(path: Path) -> NotebookNode:
    """The notebook of an .ipynb file, or of a .py file in jupytext's percent format."""
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4)
    notebook = jupytext.read(path, fmt="py:percent")
    for index, cell in enumerate(notebook.cells):
        cell.id = (
            f"cell-{index:02d}"  # not random: the saved file changes only where the lesson did
        )
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own
        name, _, kind = cell.metadata.pop("exercise", "").partition(":")
        points = cell.metadata.pop("points", None)
        if name:
            cell.metadata["nbgrader"] = {
                "grade": kind == "graded",
                "grade_id": f"{name}-{kind}",
                "locked": kind != "answer",
                "schema_version": 3,
                "solution": kind == "answer",
                "task": False,
            } | ({"points": int(points)} if kind == "graded" else {})
    return notebook


def slide_type(cell: NotebookNode, first: bool) -> str:
    """How docs/slides shows a cell, unless somebody decides otherwise."""
    if cell.cell_type == "code":
        pictures = any({"image/png", "text/html"} & set(o.get("data", {})) for o in cell.outputs)
        return "subslide" if pictures else "skip"
    if first or cell.source.startswith("## "):
        return "slide"
    return "subslide" if "$$" in cell.source or cell.source.startswith("#") else "notes"


def mark(notebook: NotebookNode) -> None:
    """Each cell's metadata say how the slides show it; what stands there already is kept."""
    for index, cell in enumerate(notebook.cells):
        of_slides = cell.metadata.setdefault("slideshow", {})
        of_slides.setdefault("slide_type", slide_type(cell, first=index == 0))


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run all cells in a new kernel whose working folder is `folder`; the outputs are put into the
    notebook. Raises nbclient's CellExecutionError where a cell does."""
    notebook.metadata = nbformat.from_dict(METADATA)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 5
    for cell in notebook.cells:
        # A saved widget is dead; without it, readers see the picture or the text beside it.
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(VIEW, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
    mark(notebook)
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code" and c.source]
    assert counts == list(range(1, len(counts) + 1)), counts


def main() -> None:
    """Run what the command line names."""
    reference = Path(__file__).resolve().parent.parent / "notebooks"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path)
    for path in parser.parse_args().paths or sorted(reference.glob("*.ipynb")):
        began = time.monotonic()
        notebook = read(path)
        execute(notebook, reference)
        out = path if path.suffix == ".ipynb" else reference / f"{path.stem}.ipynb"
        nbformat.write(notebook, out)
        print(f"{out.name}: {len(notebook.cells)} cells, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
