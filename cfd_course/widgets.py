"""Pictures with sliders, that are still pictures where nothing can slide. The only room that knows
ipywidgets."""

from collections.abc import Callable, Iterator, Sequence

import ipywidgets
from IPython.display import display

from . import expect, figures
from .figures import Figure
from .sampling import Step

VIEW = "application/vnd.jupyter.widget-view+json"
# A slider lives as long as its kernel. In a notebook opened later JupyterLab would write "model not
# found" in its place: this hides that, until the cell is run.
HIDE_DEAD_SLIDERS = """\
<style class="cfd-course-sliders">
.jp-OutputArea-child:has(.cfd-course-sliders)
  + .jp-OutputArea-child:not(:has(.widget-slider)) { visibility: hidden; height: 0; }
</style>"""


def interactive(draw: Callable[..., Figure], alt: str, **sliders) -> ipywidgets.VBox:
    """Show draw(**values) above sliders that change the values. Returns the sliders.

    draw: returns a figure. alt: what it shows, for those who cannot see it. Each slider is
    (lowest, highest, first) for whole numbers, or (values, first) for a choice of values:

        interactive(draw, "a digit under noise", t=(1, 1000, 300), schedule=(["linear"], "linear"))

    The picture is an output of its own: it is there as it was last seen where no kernel runs (a
    notebook opened again, a web page).
    """
    expect.callable_("draw", draw, "draw(" + ", ".join(sliders) + ")")
    box = ipywidgets.VBox([_slider(name, values) for name, values in sliders.items()])

    def picture() -> dict[str, bytes | str]:
        values = {name: slider.value for name, slider in zip(sliders, box.children, strict=True)}
        return _still(draw(**values), f"{alt} (run the notebook to move the sliders)")

    first, described = picture(), _described(alt)  # a mistake in draw leaves no sliders behind
    shown = display(first, display_id=True, **described)
    display({"text/html": HIDE_DEAD_SLIDERS}, raw=True)
    display({VIEW: box._repr_mimebundle_()[VIEW]}, raw=True)
    for slider in box.children:
        slider.observe(lambda change: shown.update(picture(), **described), "value")
    return box


def watch(steps: Iterator[Step]) -> Iterator[Step]:
    """Show pictures as they become, each step's guess of x_0 in place of the last one:

    artist.draw(["a red heart", "a fox"], progress=watch)
    """
    shown, alt = None, "the pictures as the sampler guesses them"
    for step in steps:
        figure = figures.pictures(
            step.x_0.clamp(-1, 1), title=f"the guess on the way to t = {step.t}"
        )
        if shown is None:
            shown = display(_still(figure, alt), display_id=True, **_described(alt))
        else:
            shown.update(_still(figure, alt), **_described(alt))
        yield step


def _still(figure: Figure, text: str) -> dict[str, bytes | str]:
    return {"image/png": figures.png(figure), "text/plain": text}


def _described(alt: str) -> dict:
    return {"raw": True, "metadata": {"image/png": {"alt": alt}}}


def _slider(name: str, values) -> ipywidgets.Widget:
    layout = ipywidgets.Layout(width="30em")
    if isinstance(values, tuple) and len(values) == 3:
        low, high, first = values
        return ipywidgets.IntSlider(
            first, low, high, description=name, layout=layout, continuous_update=False
        )
    if isinstance(values, tuple) and len(values) == 2 and isinstance(values[0], Sequence):
        options, first = values
        return ipywidgets.SelectionSlider(
            options=options, value=first, description=name, layout=layout, continuous_update=False
        )
    raise TypeError(
        f"{name} should be (lowest, highest, first) or (values, first), but "
        f"{expect.describe(values)} came."
    )
