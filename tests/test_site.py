"""The course as pages to read: built without a warning, whole without a network, and legible on a
desk and on a telephone; and as slides."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from cfd_course.classroom import lessons

pytest.importorskip("jupyter_book", reason="install the extra site")
MAKE = Path(__file__).parent.parent / "docs" / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, MAKE / "make.py", folder]  # which takes every warning for an error
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "_build" / "html"


class Page(HTMLParser):
    """What a page links to and loads, the names of its places, its pictures' words, its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.loads, self.places, self.told, self.text = [], [], set(), [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("script", "link", "img", "iframe"):
            self.loads += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            self.told.append(values.get("alt", ""))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_lesson_and_every_room_has_a_page(site):
    assert {path.stem for path in lessons()} == {p.stem for p in site.glob("lessons/*.html")}
    rooms = {path.stem for path in site.glob("reference/*.html")}
    assert {"cfd_course.schedule", "cfd_course.unet", "cfd_course.datasets.digits"} <= rooms
    page = site / "reference" / "cfd_course.schedule.html"
    assert page.read_text(encoding="utf-8").count("<msqrt>") >= 4
    text = Page(page).text
    assert not [code for code in ("sqrt(", "alpha_bar_t", "Annotated", "~") if code in text]


def test_nothing_comes_from_elsewhere(pages):
    loaded = {each for found in pages.values() for each in found.loads}
    assert loaded and not [each for each in loaded if re.match("(https?:)?//", each)]


def test_no_link_is_broken_and_no_picture_is_missing(pages):
    broken = []
    for path, found in pages.items():
        for target in found.links + found.loads:
            name, _, place = unquote(target).partition("#")
            there = (path.parent / name.partition("?")[0]).resolve() if name else path
            if re.match("[a-z]+:", target):
                continue
            if not there.is_file() or (there in pages and place not in pages[there].places | {""}):
                broken.append((path.name, target))
    assert not broken, broken


def test_pictures_are_told_to_who_cannot_see_them(pages):
    lesson = {p: found.told for p, found in pages.items() if p.parent.name == "lessons"}
    assert all(lesson.values())
    assert not [
        (path.name, words)
        for path, told in lesson.items()
        for words in told
        if len(words) < 20 or words.endswith(".png")
    ]


def test_solutions_are_folded(site):
    text = (site / "lessons" / "01_forward_noising.html").read_text(encoding="utf-8")
    cells = text.split('<div class="cell ')[1:]
    solved = [cell for cell in cells if "BEGIN SOLUTION" in cell]
    assert len(solved) == 3 and all(
        "<details" in cell.split("BEGIN SOLUTION")[0] for cell in solved
    )


@pytest.mark.parametrize("width, height", [(1280, 900), (390, 844)])
@pytest.mark.parametrize(
    "name",
    ["index", "lessons/02_reverse_denoising", "reference/cfd_course.schedule"],
)
def test_a_page_fits_the_screen(site, page, name, width, height):
    page.set_viewport_size({"width": width, "height": height})
    page.goto((site / f"{name}.html").as_uri(), timeout=600_000, wait_until="load")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    if "lessons" in name:
        sizes = page.evaluate(
            "[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().width)"
        )
        assert len(sizes) > 30 and min(size for size in sizes if size) > 2


def test_a_formula_that_no_page_can_show_is_named(monkeypatch):
    monkeypatch.syspath_prepend(MAKE)
    from reading import mathml

    assert "".join(mathml(r"\tfrac12 x").split()) == "".join(mathml(r"\tfrac{1}{2} x").split())
    assert "<msub>" not in mathml(r"\underbrace{p(x)}_{\text{told}}")  # but below its brace
    hat = mathml(r"\hat x_0")  # the index belongs to the letter with its hat
    assert hat.index("<mover") > hat.index("<msub>")
    with pytest.raises(ValueError, match="notacommand"):
        mathml(r"\notacommand{x}")


def test_equations_in_docstrings_become_formulas(monkeypatch):
    monkeypatch.syspath_prepend(MAKE)
    from formulas import latex, with_formulas

    text = "for s < t (s = t - 1 if not given), and x_0 = sqrt(alpha_bar (1 - beta_t)) noise."
    prose, first, between, second, full_stop = with_formulas(text)
    assert (prose, first, between) == ("for s < t (", "s = t - 1", " if not given), and ")
    assert full_stop == "." and latex(second) == (
        r"x_0 = \sqrt{\bar\alpha  (1 - \beta_t)} \,\text{noise}"
    )
    assert with_formulas("a grid of C = 1 or 3") == ["a grid of C = 1 or 3"]
    assert with_formulas("where alpha_bar falls") == ["where ", "alpha_bar", " falls"]


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    command = [sys.executable, MAKE.parent / "slides" / "make.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_lesson_is_a_talk_that_gives_no_answer_away(slides):
    assert {path.stem for path in lessons()} == {path.stem for path in slides.glob("*.html")}
    for path in slides.glob("*.html"):
        found = Page(path)
        assert found.loads and not [each for each in found.loads if re.match("(https?:)?//", each)]
        assert "### BEGIN SOLUTION" not in found.text and "$$" not in found.text, path.stem


def test_slides_are_shown_one_by_one(slides, page):
    page.set_viewport_size({"width": 1280, "height": 800})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((slides / "06_classifier_free_guidance.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    words, pictures = [], 0
    for number in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate(
            "number => { const { h, v } = Reveal.getIndices(Reveal.getSlides()[number]);"
            " Reveal.slide(h, v) }",
            number,
        )
        slide = page.evaluate_handle("Reveal.getCurrentSlide()")
        words.append(slide.inner_text().strip())
        for picture in slide.query_selector_all("img"):
            assert picture.bounding_box()["width"] > 500
            pictures += 1
    assert words[0].startswith("06")
    assert "Take along" in words[-1] and "Read more" not in words[-1]
    assert len(words) > 15 and pictures > 5 and all(len(text) < 1200 for text in words)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_every_cell_says_how_the_slides_show_it():
    for path in lessons():
        cells = nbformat.read(path, as_version=4).cells
        shown = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in cells]
        assert None not in shown and shown[0] == "slide" and shown.count("subslide") > 1, path.stem
        assert not [
            c
            for c, how in zip(cells, shown, strict=True)
            if how != "skip" and "SOLUTION" in c.source
        ]
