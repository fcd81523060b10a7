"""The pictures of the lessons. The only room that knows matplotlib.

Every figure says in its title what to see. Lines differ in dash and grey as well as in hue (the
palette of Okabe and Ito), so they can be told apart without colour.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from IPython.display import display
from matplotlib import get_cachedir
from matplotlib.figure import Figure
from torch import Tensor

from . import expect

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#D55E00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
STYLE = {
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.dpi": 100,
    "font.size": 10,
}


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Show a figure below the cell. alt: what it shows, for those who cannot see it."""
    display(
        {"image/png": png(figure), "text/plain": alt},
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )


def font_lists() -> list[Path]:
    """Where matplotlib keeps what it knows of the fonts on this machine."""
    return sorted(Path(get_cachedir()).glob("fontlist-*.json"))


def curves(
    x,
    lines: Mapping[str, Sequence[float] | Tensor],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    markers: bool = False,
    bands: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    level: float | None = None,
) -> Figure:
    """Named curves over a common x, or over one for each, by its name. x and each line: [N]. bands:
    the interval (low, high) around each point of a line, by its name; level: a height at which a
    thin line is drawn."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.5, 3.5))
        for index, (name, y) in enumerate(lines.items()):
            where = x[name] if isinstance(x, Mapping) else x
            axes.plot(where, y, label=name, marker="osD^vP"[index % 6] if markers else None)
            if name in (bands or {}):
                low, high = zip(*bands[name], strict=True)
                axes.fill_between(
                    where, low, high, color=COLOURS[index % 7], alpha=0.3, linewidth=0
                )
        if level is not None:
            axes.axhline(level, color="black", linestyle="-", linewidth=0.8)
        axes.set(title=_wrapped(title, 72), xlabel=x_label, ylabel=y_label)
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        if len(lines) > 1:  # below the axes, where it covers no line
            columns = max(1, 70 // (max(map(len, lines)) + 6))
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, frameon=False
            )
    return figure


def pictures(
    batch: Tensor,
    *,
    title: str,
    columns: int = 10,
    labels: Sequence[str] | None = None,
    size: float = 0.8,
) -> Figure:
    """A grid of pictures [N, C, H, W] in [-1, 1], C = 1 or 3. labels: one under each picture;
    size: of a picture, in inches."""
    expect.tensor("batch", batch, ("N", "C", "H", "W"))
    columns = min(columns, len(batch))
    rows = -(-len(batch) // columns)
    with plt.rc_context(STYLE):
        figure, axes = _panels(rows, columns, size, size * (1.3 if labels else 1.0), title)
        for index, place in enumerate(axes.flat):
            place.axis("off")
            if index < len(batch):
                _draw(place, batch[index])
                if labels:
                    place.text(
                        0.5,
                        -0.08,
                        labels[index],
                        transform=place.transAxes,
                        ha="center",
                        va="top",
                        fontsize=8,
                    )
    return figure


def picture_rows(
    rows: Mapping[str, Tensor], *, title: str, size: float = 0.8, headings: Sequence[object] = ()
) -> Figure:
    """Rows of pictures, each row [N, C, H, W] with its name on the left. headings: what stands
    above each column."""
    with plt.rc_context(STYLE):
        columns = max(map(len, rows.values()))
        figure, axes = _panels(len(rows), columns, size, size, title)
        for line, (name, batch) in zip(axes, rows.items(), strict=True):
            for place in line:
                place.axis("off")
            for place, picture in zip(line, batch, strict=False):
                _draw(place, picture)
            line[0].text(
                -0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9
            )
        for place, heading in zip(axes[0], headings, strict=False):
            place.set_title(str(heading), fontsize=8, pad=3)
    return figure


def clouds(
    panels: Mapping[str, Tensor],
    *,
    title: str,
    density=None,
    limit: float = 4.0,
    columns: int = 4,
) -> Figure:
    """Point clouds [N, 2], one panel each, side by side. density: a function of points [M, 2] that
    returns [M], whose contours are drawn under every panel; or one such function for each panel,
    by the panel's name."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _panels(rows, columns, 2.6, 2.9, title)
        for place in axes.flat[len(panels) :]:
            place.axis("off")
        for place, (name, points) in zip(axes.flat, panels.items(), strict=False):
            below = density.get(name) if isinstance(density, Mapping) else density
            if below is not None:
                _contours(place, below, limit)
            if points is not None:
                place.scatter(
                    points[:, 0], points[:, 1], s=3, alpha=0.45, color="#8B1A00", linewidths=0
                )
            place.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
            place.set_title(_wrapped(name, 34), fontsize=9)
    return figure


def arrows(
    panels: Mapping[str, tuple[Tensor, Tensor]],
    *,
    title: str,
    density=None,
    points: Mapping[str, Tensor] | None = None,
    limit: float = 4.0,
    columns: int = 4,
) -> Figure:
    """Arrows, one panel of them each: (where they start, where they go from there), both [N, 2].
    points: a cloud [M, 2] below the arrows of a panel, by its name. density: as in clouds."""
    figure = clouds(
        {name: (points or {}).get(name) for name in panels},
        title=title,
        density=density,
        limit=limit,
        columns=columns,
    )
    for place, (start, way) in zip(figure.axes, panels.values(), strict=False):
        place.quiver(
            *(start[:, 0], start[:, 1], way[:, 0], way[:, 1]),
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.009,
            headwidth=3.5,
            headlength=4,
            headaxislength=4,
            edgecolor="white",
            linewidth=0.4,
            color=COLOURS[4],
            zorder=3,
        )
        place.scatter(start[:, 0], start[:, 1], s=3, color=COLOURS[4], zorder=3)
    return figure


def heat_maps(
    panels: Mapping[str, Tensor],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    mark: tuple[int, int] | None = None,
    size: tuple[float, float] = (2.6, 2.6),
) -> Figure:
    """Tables of numbers [H, W] as pictures side by side, each from its smallest value (dark) to
    its largest (bright), with a colour bar where the axes are named. mark: (row, column) of a place
    to ring in every panel; size: width and height of a panel, in inches."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _panels(1, len(panels), *size, title)
        for place, (name, values) in zip(axes.flat, panels.items(), strict=True):
            table = np.asarray(values.detach().float().cpu())
            drawn = place.imshow(table, cmap="viridis", aspect="auto", interpolation="nearest")
            if mark is not None:
                place.plot(mark[1], mark[0], "o", ms=11, mfc="none", mec="white", mew=3)
                place.plot(mark[1], mark[0], "o", ms=11, mfc="none", mec="black", mew=1)
            place.set_title(_wrapped(name, int(size[0] * 12)), fontsize=9)
            place.set(xlabel=x_label, ylabel=y_label)
            if x_label or y_label:
                figure.colorbar(drawn, ax=place)
            else:
                place.set(xticks=[], yticks=[])  # a picture, not a table
    return figure


def diagrams(
    panels: Mapping[str, tuple[Mapping[str, tuple[float, float]], Sequence[tuple[str, str]]]],
    *,
    title: str,
    dark: Sequence[str] = (),
    size: tuple[float, float] = (2.7, 2.7),
) -> Figure:
    """Boxes with arrows between them, one panel each: (the middle of each box, by its text; from
    which box to which the arrows go). Spaces at the end of a text tell boxes of the same text
    apart. dark: the boxes to bring out; size: width and height of a panel, in inches."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _panels(1, len(panels), *size, title)
        for place, (name, (boxes, ways)) in zip(axes.flat, panels.items(), strict=True):
            place.axis("off")
            place.set_title(_wrapped(name, int(size[0] * 12)), fontsize=9)
            for axis, limits in zip(zip(*boxes.values(), strict=True), "xy", strict=True):
                place.set(**{f"{limits}lim": (min(axis) - 0.5, max(axis) + 0.5)})
            for start, end in ways:
                place.annotate(
                    "",
                    xy=boxes[end],
                    xytext=boxes[start],
                    arrowprops={
                        "arrowstyle": "-|>",
                        "shrinkA": 13,
                        "shrinkB": 13,
                        "color": "black",
                        "linewidth": 2.2 if start in dark else 0.9,
                    },
                )
            for text, (x, y) in boxes.items():
                place.text(
                    x,
                    y,
                    text.strip(),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if text in dark else "black",
                    bbox={"boxstyle": "round", "fc": "#333333" if text in dark else "white"},
                )
    return figure


def strips(
    panels: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, width: float = 2.4
) -> Figure:
    """Measurements side by side, a panel each: by the name of what was measured, all its values as
    dots on one line, and their mean as an upright bar. The dashed line is the first one's mean.
    Every panel has the same names; width: of a panel, in inches."""
    with plt.rc_context(STYLE):
        names = list(next(iter(panels.values())))
        figure, axes = _panels(1, len(panels), width, 0.26 * len(names) + 0.6, title)
        for place, (what, rows) in zip(axes.flat, panels.items(), strict=True):
            means = [float(np.mean(rows[name])) for name in names]
            place.axvline(means[0], color="grey", linestyle="--", linewidth=1)
            for row, name in enumerate(names):
                place.plot(rows[name], [row] * len(rows[name]), "o", ms=4, color=COLOURS[0])
                place.plot(means[row], row, "|", ms=13, mew=2, color=COLOURS[4])
            place.set_title(_wrapped(what, int(width * 12)), fontsize=9)
            place.set_yticks(range(len(names)), names if place is axes.flat[0] else [])
            place.invert_yaxis()
    return figure


def class_results(solved: Mapping[str, float], points: Sequence[float], worth: float) -> Figure:
    """What a class did: the share of submissions that solved each exercise, by its name, and how
    many of them have how many points, out of `worth`."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.4 * len(solved) + 2))
        left.barh(list(solved), list(solved.values()), color=COLOURS[0])
        left.invert_yaxis()
        left.set(xlim=(0, 1), xlabel="share of submissions", title="Who solved what")
        right.hist(points, bins=[mark - 0.5 for mark in range(int(worth) + 2)], color=COLOURS[0])
        right.set(xlabel=f"points of {worth:g}", ylabel="submissions", title="Marks")
        figure.tight_layout()
    return figure


def _contours(axes, density, limit: float) -> None:
    line = torch.linspace(-limit, limit, 121)
    y, x = torch.meshgrid(line, line, indexing="ij")
    heights = density(torch.stack([x.flatten(), y.flatten()], dim=1)).reshape(x.shape)
    axes.contourf(x, y, heights, levels=8, cmap="Greys", alpha=0.4)


def _draw(axes, picture: Tensor) -> None:
    picture = ((picture.detach().float().cpu() + 1) / 2).clamp(0, 1)
    axes.imshow(
        np.asarray(picture.permute(1, 2, 0).squeeze(-1)),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )


def _panels(rows: int, columns: int, width: float, height: float, title: str):
    """Rows and columns of axes, each of this size in inches, below a title."""
    text = _wrapped(title, max(int(width * columns * 13), 30))
    above = 0.22 * (text.count("\n") + 1) + 0.05
    whole = height * rows + above
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, whole), squeeze=False, layout="constrained"
    )
    figure.suptitle(text, fontsize=10)
    return figure, axes


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))
