"""Pictures with sliders, that are still pictures where nothing can slide. The only room that knows
ipywidgets."""

from collections.abc import Callable, Sequence

import ipywidgets
from IPython.display import display

from . import expect, figures
from .figures import Figure

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
        text = f"{alt} (run the notebook to move the sliders)"
        return {"image/png": figures.png(draw(**values)), "text/plain": text}

    first = picture()  # a mistake in draw leaves no sliders behind
    described = {"raw": True, "metadata": {"image/png": {"alt": alt}}}
    shown = display(first, display_id=True, **described)
    display({"text/html": HIDE_DEAD_SLIDERS}, raw=True)
    display({VIEW: box._repr_mimebundle_()[VIEW]}, raw=True)
    for slider in box.children:
        slider.observe(lambda change: shown.update(picture(), **described), "value")
    return box


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
