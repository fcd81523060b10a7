"""Figures and sliders: they come as PNG, say what they show, and change when a slider moves."""

import ast
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import cfd_course
from cfd_course import figures, widgets
from cfd_course.sampling import Step


@pytest.fixture
def published(monkeypatch):
    """What display() was given: a list of outputs, each as it was last updated."""
    shown = []

    def display(data, raw, metadata=None, display_id=False):
        assert raw
        output = {"data": data, "metadata": metadata}
        shown.append(output)

        def update(data, raw, metadata):
            output.update(data=data, metadata=metadata)

        return SimpleNamespace(update=update) if display_id else None

    monkeypatch.setattr(figures, "display", display)
    monkeypatch.setattr(widgets, "display", display)
    return shown


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


BATCH = torch.rand(5, 1, 8, 8) * 2 - 1
MADE = {
    "curves": lambda: figures.curves([1, 2], {"a": [1, 2]}, title="T", x_label="x", y_label="y"),
    "pictures": lambda: figures.pictures(BATCH, title="T", columns=3, labels=list("abcde")),
    "colour": lambda: figures.pictures(BATCH.expand(-1, 3, -1, -1), title="T"),
    "picture_rows": lambda: figures.picture_rows({"a": BATCH, "b": BATCH[:2]}, title="T"),
    "clouds": lambda: figures.clouds(
        {"a": torch.randn(9, 2), "b": torch.randn(9, 2)},
        density=lambda x: x.square().sum(1),
        title="T",
    ),
    "class_results": lambda: figures.class_results({"a": 0.5, "b": 1.0}, [3, 4], worth=4),
    "diagrams": lambda: figures.diagrams(
        {"a": ({"one": (0, 1), "two": (1, 0)}, [("one", "two")])}, dark=["one"], title="T"
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_every_kind_of_figure_is_drawn(name):
    width, height = size(figures.png(MADE[name]()))
    assert width > 100 and height > 60


def test_pictures_show_black_at_minus_one_and_white_at_one():
    flat = torch.stack([torch.full((1, 8, 8), -1.0), torch.full((1, 8, 8), 1.0)])
    grid = Image.open(io.BytesIO(figures.png(figures.pictures(flat, title="T")))).convert("L")
    row = [grid.getpixel((x, grid.height - 20)) for x in range(grid.width)]
    half = len(row) // 2
    assert min(row[:half]) == 0 and row.count(0) > 20 and 0 not in row[half:]


def test_columns_have_headings_and_a_level_is_drawn():
    rows = figures.picture_rows({"a": BATCH, "b": BATCH}, title="T", headings=[1, 50])
    assert [place.get_title() for place in rows.axes] == ["1", "50"] + [""] * 8
    line = figures.curves([1, 2], {"a": [1, 2]}, title="T", x_label="x", y_label="y", level=1.5)
    assert [list(drawn.get_ydata()) for drawn in line.axes[0].lines] == [[1, 2], [1.5, 1.5]]
    figures.png(rows), figures.png(line)


def test_points_are_darker_than_the_shading_below_them_in_greyscale():
    cloud = {"a": torch.zeros(50, 2)}
    drawn = figures.clouds(cloud, density=lambda x: (-x.square().sum(1)).exp(), title="T")
    shaded = figures.clouds({"a": None}, density=lambda x: (-x.square().sum(1)).exp(), title="T")
    both = [Image.open(io.BytesIO(figures.png(figure))).convert("L") for figure in (drawn, shaded)]
    middle = [picture.crop((0, 60, *picture.size)).crop((100, 60, 190, 200)) for picture in both]
    assert middle[0].getextrema()[0] < middle[1].getextrema()[0] - 40


def test_show_carries_the_alternative_text(published):
    figures.show(MADE["curves"](), alt="a line that rises")
    (output,) = published
    assert output["data"]["text/plain"] == "a line that rises"
    assert output["metadata"]["image/png"]["alt"] == "a line that rises"
    assert size(output["data"]["image/png"])[0] > 100


def test_a_slider_redraws_the_picture_and_the_first_one_is_saved(published):
    drawn = []

    def draw(height, kind):
        drawn.append((height, kind))
        return figures.curves([0, 1], {"a": [0, height]}, title=kind, x_label="x", y_label="y")

    box = widgets.interactive(draw, "a line", height=(1, 5, 2), kind=(["one", "two"], "two"))
    height, kind = box.children
    picture, style, sliders = published
    first = picture["data"]["image/png"]
    assert drawn == [(2, "two")] and size(first)[0] > 100
    assert picture["data"].keys() == {"image/png", "text/plain"}
    assert list(style["data"]) == ["text/html"]
    assert list(sliders["data"]) == [widgets.VIEW]
    height.value = 5
    kind.value = "one"
    assert drawn == [(2, "two"), (5, "two"), (5, "one")] and len(published) == 3
    assert picture["data"]["image/png"] != first
    assert picture["metadata"]["image/png"]["alt"] == "a line"


def test_pictures_are_watched_as_they_become(published):
    seen = []

    def steps():
        for t in (2, 1, 0):
            yield Step(t, BATCH, BATCH, BATCH * t)
            seen.append(published[0]["data"]["image/png"])

    assert [step.t for step in widgets.watch(steps())] == [2, 1, 0]
    assert len(published) == 1 and len(set(seen)) == 3
    assert published[0]["metadata"]["image/png"]["alt"]
    assert list(widgets.watch(iter(()))) == []


def test_sliders_that_are_neither_kind_are_named(published):
    with pytest.raises(TypeError, match="height should be"):
        widgets.interactive(lambda height: MADE["curves"](), "a line", height=3)
    with pytest.raises(TypeError, match="draw"):
        widgets.interactive(3, "a line", height=(1, 5, 2))


@pytest.mark.parametrize("library, room", [("matplotlib", "figures"), ("ipywidgets", "widgets")])
def test_only_one_room_knows(library, room):
    package = Path(cfd_course.__file__).parent
    knowing = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names += [getattr(node, "module", None) or ""]
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                knowing += [path.stem for name in names if name.split(".")[0] == library]
    assert set(knowing) == {room}
