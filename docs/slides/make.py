"""The lessons as slides: `make slides`, then open build/slides/06_classifier_free_guidance.html.

A cell's own metadata say whether it is shown (JupyterLab: Property Inspector, Slide Type). Of a
text a slide keeps what an audience can read: headlines, the first sentences, formulas, lists. The
rest are the speaker's notes, in a window that the key S opens. Code is not shown, for much of it is
what the class will write. All works without a network.
"""

import re
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

HERE = Path(__file__).parent
COURSE = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "site"))

from reading import in_line, mathml  # noqa: E402

from cfd_course.classroom import lessons  # noqa: E402

DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.S)
FOLDED = re.compile(r"<details>(?:(?!<details>).)*</details>", re.S)  # and nothing folded in it
ASIDE = re.compile(r"#|\*Difficulty")  # what stands before a text's first sentences
SHOWN = re.compile(r"#|\$\$|[-*>|] |\d+\. |!\[")  # how a paragraph begins that is no prose
CODE = re.compile(r"^```.*?^```", re.S | re.M)


def as_mathml(text: str) -> str:
    """The text with its formulas, displayed ones as well, as MathML."""
    return in_line(
        DISPLAYED.sub(lambda found: mathml(found[1], block=True).replace("\n", " "), text)
    )


def cells_of(text: str, kind: str) -> list[NotebookNode]:
    """A text's cells on the slides: for each headline a slide, and the speaker's notes."""
    while FOLDED.search(text):
        text = FOLDED.sub("", text)
    cells = []
    parts = re.split(r"\n(?=##)", CODE.sub("", text))
    for part in parts:
        if part.startswith("## Read more"):
            continue
        paragraphs = [p for p in re.split(r"\n\s*\n", part.strip()) if p]
        first = next((p for p in paragraphs if not ASIDE.match(p)), None)
        shown = [p for p in paragraphs if p is first or ASIDE.match(p) or SHOWN.match(p)]
        if len(parts) > 1 and not part.startswith("#"):
            shown = []  # the last words on what came before
        told = [p for p in paragraphs if p not in shown]
        for paragraphs, how in ((shown, kind), (told, "notes")):
            if paragraphs:
                cell = new_markdown_cell(as_mathml("\n\n".join(paragraphs)))
                cell.metadata["slideshow"] = {"slide_type": how}
                cells.append(cell)
        kind = "slide" if kind == "slide" and not shown else "subslide"
    return cells


def slides(notebook: NotebookNode) -> str:
    """A notebook whose cells are marked -> a page of slides."""
    cells = []
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if cell.cell_type == "code" or kind in ("skip", "notes"):
            if cell.cell_type == "markdown":
                cell.source = as_mathml(cell.source)
            cells.append(cell)
        else:
            cells += cells_of(cell.source, kind)
    exporter = SlidesExporter(
        template_name="template",
        extra_template_basedirs=[str(HERE)],
        exclude_input=True,
        exclude_output_prompt=True,
        reveal_url_prefix="reveal",
        reveal_theme="white",
    )
    page, _ = exporter.from_notebook_node(nbformat.from_dict({**notebook, "cells": cells}))
    return page


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reveal = files("sphinx_revealjs") / "_static" / "revealjs"
    for part in ("dist", "plugin/notes"):
        shutil.copytree(reveal / part, folder / "reveal" / part)
    shutil.copy(HERE / "template" / "slides.css", folder)
    for path in lessons():
        page = slides(nbformat.read(path, as_version=4))
        (folder / f"{path.stem}.html").write_text(page, encoding="utf-8")
    print(f"Open {folder / lessons()[0].stem}.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else COURSE / "build" / "slides")
