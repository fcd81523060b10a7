"""The command line: python -m cfd_course --help"""

import json
import os
import platform
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup


class _Plain(TyperGroup):
    """Says a user's mistake in one line, without a stack trace."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except (TypeError, ValueError, OSError) as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Plain,
    no_args_is_help=True,
    add_completion=False,
    help="The commands of the course on classifier-free guided diffusion.",
)
Data = Annotated[
    Path | None,
    typer.Option(
        envvar="CFD_DATA",
        help="A folder that holds (or is to hold) the full MNIST, as torchvision lays it out. "
        "Without it: the 12,000 digits that come with the course.",
    ),
]


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="What to train, say digits.")],
    steps: Annotated[
        int | None, typer.Option(help="Training steps. Default: as for the shipped checkpoint.")
    ] = None,
    data: Data = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the state is saved. Default: training/NAME.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="A checkpoint whose weights another sitting begins with."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The checkpoint. Default: NAME.safetensors in the folder.")
    ] = None,
) -> None:
    """Train a network. If it was stopped, the same command goes on from the last saved state."""
    from tqdm import tqdm

    from . import expect
    from .recipes import RECIPES

    expect.choice("NAME", name, list(RECIPES))
    recipe, usual_steps = RECIPES[name]
    steps = expect.whole("--steps", usual_steps if steps is None else steps, 1)
    folder = Path("training", name) if folder is None else folder
    out = folder / f"{name}.safetensors" if out is None else out
    # Without the delay an empty bar would stand before a message about a mistake.
    with tqdm(total=steps, desc=name, unit="step", delay=0.001) as bar:
        for number, loss in recipe(out, data, folder, steps, start):
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(number - bar.n)
    print(f"Wrote {out}. In Python: load({str(out)!r})")


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="The checkpoint to evaluate: digits.")],
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="The result file. Default: data/results/NAME.json.")
    ] = None,
) -> None:
    """Measure a shipped checkpoint and write the numbers to a JSON file."""
    from . import expect

    expect.choice("NAME", name, ["digits"])
    from .recipes import evaluate_digits

    text = json.dumps(evaluate_digits(data), indent=1, allow_nan=False)
    out = Path("data", "results", f"{name}.json") if out is None else out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n")
    print(f"{text}\nWrote {out}.")


@app.command()
def draw(
    digits: Annotated[str, typer.Argument(help='The digits to draw, say "3 1 4".')],
    out: Annotated[Path, typer.Argument(help="The picture file to write, say out.png.")],
    scale: Annotated[float, typer.Option(help="Of the guidance: 1 is none.")] = 2.0,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    seed: Annotated[int, typer.Option(help="Another seed, other handwriting.")] = 0,
    model: Annotated[
        str, typer.Option(help="A shipped checkpoint, or one of your own.")
    ] = "digits",
) -> None:
    """Draw handwritten digits side by side, each 112 pixels wide."""
    from PIL import Image

    from .pipelines import Writer, load

    wanted = digits.replace(" ", "")
    if not wanted or not set(wanted) <= set("0123456789"):
        raise ValueError(f'DIGITS should be digits such as "3 1 4", but {digits!r} came.')
    if out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"OUT should end in .png or another picture's ending, but {out} came.")
    writer = load(model)
    if not isinstance(writer, Writer):
        raise ValueError(f"--model should be one that draws digits, but {model!r} came.")
    pictures = writer.draw([int(digit) for digit in wanted], scale, steps, seed)
    row = pictures.squeeze(1).permute(1, 0, 2).flatten(1)  # [28, 28 * B]
    picture = Image.fromarray(((row.clamp(-1, 1) + 1) * 127.5).round().byte().numpy())
    picture.resize((4 * picture.width, 4 * picture.height), Image.Resampling.NEAREST).save(out)
    print(f"Wrote {out}.")


@app.command()
def info() -> None:
    """Show versions, where the data are, and how each shipped checkpoint was trained."""
    import torch
    import torchvision

    from . import __version__
    from .datasets import data_path
    from .training import load_checkpoint

    print(f"cfd_course {__version__}, Python {platform.python_version()}, {platform.platform()}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA GPU"
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, {device}, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"shipped data: {data_path('.').resolve()}")
    print(f"full data (CFD_DATA): {os.environ.get('CFD_DATA', 'not set')}")
    for path in sorted(data_path(".").glob("checkpoints/*.safetensors")):
        _, recipe = load_checkpoint(path)
        print(f"{path.stem} ({path.stat().st_size / 1e6:.1f} MB)")
        for sitting in recipe["sittings"]:
            print("  " + ", ".join(f"{key} {value}" for key, value in sitting.items()))


@app.command()
def copies(
    to: Annotated[Path, typer.Option(help="The folder to work in.")] = Path("my_course"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite your own work.")] = False,
    only: Annotated[
        str | None, typer.Option(help="One lesson, by its name or number, say 03.")
    ] = None,
) -> None:
    """Make your own copies of the lessons, without the solutions. Your work is never overwritten,
    unless you say --force; `--only 03 --force` starts lesson 03 over."""
    from .classroom import make_copies

    made, kept = make_copies(to, force=force, only=only)
    for path in made:
        print(f"made {path}")
    if kept:
        print(f"kept as it was: {', '.join(str(path) for path in kept)}")


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m cfd_course")


if __name__ == "__main__":
    main()
