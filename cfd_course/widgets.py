"""Pictures with sliders, that are still pictures where nothing can slide."""

from collections.abc import Callable, Sequence

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from . import expect, figures


def interactive(draw: Callable[..., Figure], alt: str, **sliders) -> ipywidgets.VBox:
    """Show draw(**values) below sliders that change the values.

    draw: returns a figure. alt: what it shows, for those who cannot see it. Each slider is
    (lowest, highest, first) for whole numbers, or (values, first) for a choice of values:

        interactive(draw, "a digit under noise", t=(1, 1000, 300), schedule=(["linear"], "linear"))

    Where no kernel runs (a saved notebook, a web page) the picture of the first values is shown.
    """
    expect.callable_("draw", draw, "draw(" + ", ".join(sliders) + ")")
    controls = {name: _slider(name, values) for name, values in sliders.items()}

    def picture() -> bytes:
        return figures.png(draw(**{name: control.value for name, control in controls.items()}))

    first = picture()
    image = ipywidgets.Image(
        value=first,
        format="png",
        # Otherwise the box stretches the picture to the width of the page.
        layout=ipywidgets.Layout(width="max-content", align_self="flex-start"),
    )

    def redraw(change):
        image.value = picture()

    for control in controls.values():
        control.observe(redraw, "value")
    box = ipywidgets.VBox([*controls.values(), image])
    view = box._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
    display(
        {
            "application/vnd.jupyter.widget-view+json": view,
            "image/png": first,
            "text/plain": f"{alt} (run the notebook to move the sliders)",
        },
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )
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
