"""Build the course as a site to read: `make site`, then open build/site/_build/html/index.html.

What is read are the notebooks as they are committed, with what they print; solutions are folded. A
page for each room of the package holds what its docstrings say, and names in the lessons' code
link there. All of it works without a network.
"""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import yaml
from reading import in_line

from cfd_course.classroom import lessons

HERE = Path(__file__).parent
COURSE = HERE.parent.parent
PAGES = {  # of each text that becomes a page as it is
    "README.md": "index.md",
    "docs/teaching.md": "teaching.md",
    "docs/guide_mistakes.md": "guide_mistakes.md",
    "docs/papers.md": "papers.md",
    "docs/architecture.md": "architecture.md",
    "data/checkpoints/README.md": "model_card.md",
    "data/README.md": "data.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
DETAILS = re.compile(r"<details>.*?(?:\n\s*\n|\Z)", re.S)


@cache
def rooms() -> list[str]:
    """The modules of the package up to the school's, in the order in which they are read, that of
    docs/architecture.md: cfd_course.schedule, cfd_course.datasets.digits."""
    text = (COURSE / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = []
    for room in re.findall(r"`(\w+)(?:\.py|/)`", text.partition("| `checks/`")[0]):
        folder = COURSE / "cfd_course" / room
        inside = [f".{file.stem}" for file in sorted(folder.glob("[!_]*.py"))]
        found += [f"cfd_course.{room}{name}" for name in inside or [""]]
    return found


def where(path: Path) -> str | None:
    """The page that shows a file of the course."""
    name = path.relative_to(COURSE).as_posix()
    if path in lessons():
        return f"lessons/{path.name}"
    if (module := name.removesuffix(".py").replace("/", ".")) in rooms():
        return f"reference/{module}.md"
    return PAGES.get(name)


def with_links(text: str, source: Path, page: Path, site: Path) -> str:
    """The text with links to what the site holds; of other files only the name is left."""

    def link(found: re.Match) -> str:
        picture, label, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        name, _, part = target.partition("#")
        path = (source.parent / name).resolve()
        if picture:
            shutil.copy(path, page.parent)
            return f"![{label}]({path.name})"
        there = where(path) if path.is_relative_to(COURSE) else None
        if there is None:
            return label
        up = "../" * (len(page.relative_to(site).parts) - 1)
        return f"[{label}]({up}{there}{'#' + part if part else ''})"

    return LINK.sub(link, text)


def lesson(source: Path, page: Path, site: Path) -> None:
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = with_links(cell.source, source, page, site)
            # Inside HTML Markdown does not look for formulas.
            cell.source = DETAILS.sub(lambda block: in_line(block[0]), text)
            continue
        told = [
            o.metadata["image/png"]["alt"] for o in cell.outputs if "image/png" in o.get("data", {})
        ]
        if told:
            cell.metadata["mystnb"] = {"image": {"alt": " ".join(told)}}
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    nbformat.write(notebook, page)


def write(site: Path) -> None:
    """All that Jupyter Book asks for, in the folder `site`."""
    shutil.rmtree(site, ignore_errors=True)
    (site / "lessons").mkdir(parents=True)
    (site / "reference").mkdir()
    for name in ("_config.yml", "reading.py", "formulas.py"):
        shutil.copy(HERE / name, site)
    shutil.copytree(HERE / "_static", site / "_static")
    for source, name in PAGES.items():
        text = (COURSE / source).read_text(encoding="utf-8")
        text = with_links(text, COURSE / source, site / name, site)
        (site / name).write_text(text, encoding="utf-8")
    for path in lessons():
        lesson(path, site / "lessons" / path.name, site)
    for name in rooms():
        page = site / "reference" / f"{name}.md"
        title = name.removeprefix("cfd_course.")
        directive = (
            f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :ignore-module-all:\n```\n"
        )
        page.write_text(f"# {title}\n\n{directive}", encoding="utf-8")
    reference = [{"file": f"reference/{name}"} for name in rooms()]
    contents = {
        "format": "jb-book",
        "root": "index",
        "parts": [
            {"caption": "Lessons", "chapters": [{"file": f"lessons/{p.stem}"} for p in lessons()]},
            {
                "caption": "The package",
                "chapters": [{"file": "architecture"}, {"file": "model_card"}, *reference],
            },
            {
                "caption": "More",
                "chapters": [{"file": n} for n in ("papers", "teaching", "guide_mistakes", "data")],
            },
        ],
    }
    (site / "_toc.yml").write_text(yaml.safe_dump(contents), encoding="utf-8")


def main(site: Path) -> int:
    write(site)
    book = Path(sys.executable).with_name("jupyter-book")
    return subprocess.run([book, "build", "-W", "--keep-going", site]).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else COURSE / "build" / "site"))
