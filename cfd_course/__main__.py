"""The command line: python -m cfd_course --help"""

import inspect
import json
import os
import platform
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup


class _Plain(TyperGroup):
    """Says a user's mistake in one line, without a stack trace."""

    def main(self, *arguments, **settings):
        for stream in (sys.stdout, sys.stderr):
            # What an older console cannot show, say a path, is escaped. A notebook's shows all.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*arguments, **settings)

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
# The shipped checkpoints that a command takes as --model.
DRAWS = ("digits", "digits-flow", "digits-shortcut", "digits-weak", "text-to-image", "emoji")
DRAWS += ("emoji-decoder", "emoji-latents")
ENLARGES = ("super-resolution",)
FILLS = ("inpainting", "digit-inpainting", "digit-inpainting-attention")
# Those that are measured together with another.
MEASURED_WITH = {
    "digits-flow": "digits-shortcut",
    "digit-inpainting-attention": "digit-inpainting",
    "emoji-autoencoder": "emoji-latents",
    "emoji-pixels": "emoji-latents",
    "emoji-enlarger-attention": "emoji-enlarger",
    "emoji-enlarger-levels": "emoji-enlarger",
    "emoji-prior": "emoji-decoder",
    "emoji-towers": "emoji-decoder",
}

Data = Annotated[
    Path | None,
    typer.Option(
        envvar="CFD_DATA",
        help="For digits, a folder that holds (or is to hold) the full MNIST, as torchvision lays "
        "it out; without it, the 12,000 digits that come with the course. For photos, a folder of "
        "pictures.",
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
    from .pipelines import RECIPES
    from .pipelines.sitting import train_network

    expect.choice("NAME", name, list(RECIPES))
    steps = expect.whole("--steps", RECIPES[name]["steps"] if steps is None else steps, 1)
    folder = Path("training", name) if folder is None else folder
    out = folder / f"{name}.safetensors" if out is None else out
    if out.suffix != ".safetensors" or out.is_dir():
        raise ValueError(f"--out should be a file that ends in .safetensors, but {out} came.")
    # Without the delay an empty bar would stand before a message about a mistake.
    with tqdm(total=steps, desc=name, unit="step", delay=0.001) as bar:
        for number, loss in train_network(name, out, data, folder, steps, start):
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(number - bar.n)
    print(f"Wrote {out}. In Python: load({str(out)!r})")


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="The checkpoint to evaluate, say digits.")],
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The result file. Default: data/results/NAME.json, with --count NAME-COUNT.json."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Another checkpoint of the same kind, to compare with.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Pictures of each part, to try it with a few.")
    ] = None,
) -> None:
    """Measure a shipped checkpoint and write the numbers to a JSON file. If it was stopped, the
    same command goes on with what is still missing."""
    from tqdm import tqdm

    from . import expect
    from .files import replacing
    from .measuring import EVALUATIONS
    from .pipelines import load

    if name in MEASURED_WITH:
        raise ValueError(f"{name} is measured with another: evaluate {MEASURED_WITH[name]}.")
    if name.endswith("-judge"):
        raise ValueError(
            f"{name} judges others. How often it is right: data/checkpoints/README.md."
        )
    expect.choice("NAME", name, list(EVALUATIONS))
    parts, summary = EVALUATIONS[name]
    taken = inspect.signature(parts).parameters
    settings = {}
    if count is not None:
        if "count" not in taken:
            raise ValueError(f"{name} is measured on all photos of --data: --count is not for it.")
        settings["count"] = expect.whole("--count", count, FEWEST)
    if out is None:
        few = "" if count is None else f"-{count}"
        out = Path("data", "results", f"{name}{few}.json")
    if not out.name or out.is_dir():
        raise ValueError(f"--out should be a file, but the folder {out} came.")
    if model is not None:
        if "model" not in taken:
            raise ValueError(f"{name} compares the shipped checkpoints: --model is not for it.")
        _load(model, type(load(name)), f"does what {name} does")
        settings["model"] = model
    out.parent.mkdir(parents=True, exist_ok=True)
    # What is measured, and a line for each part that was.
    so_far = out.with_name(f"{out.name}.partial")
    what = {"name": name, "model": model, "data": data and str(data)}
    what |= {} if count is None else {"count": count}
    found = _read_lines(so_far, what)
    waiting = list(parts(data, **settings))
    with tqdm(waiting, desc=name, unit="part", delay=0.001) as bar:
        for part, measure in bar:
            if part not in found:
                found[part] = measure()
                with open(so_far, "a", encoding="utf-8") as file:
                    file.write(json.dumps([part, found[part]], allow_nan=False) + "\n")
    text = json.dumps(summary(found), indent=1, allow_nan=False)
    with replacing(out) as partial:
        partial.write_text(text + "\n", encoding="utf-8", newline="\n")
    so_far.unlink()
    print(f"{text}\nWrote {out}.")


FEWEST = 20  # pictures from which an interval can be found


def _read_lines(path: Path, what: dict) -> dict:
    """What an evaluation that was stopped had measured. Begins the file where there is none."""
    if not path.exists():
        path.write_text(json.dumps(["", what]) + "\n", encoding="utf-8")
    found = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            part, row = json.loads(line)
            if not isinstance(part, str) or not isinstance(row, dict):
                raise ValueError("no part of an evaluation")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"line {number} of {path} is damaged. Delete that line to measure it again, or the "
                "file to measure everything."
            ) from error
        found[part] = row
    if found.pop("", None) != what:
        raise ValueError(
            f"{path} was begun with other arguments than {what}. Use the same, or delete the file."
        )
    return found


Scale = Annotated[float | None, typer.Option(help="Of the guidance: 1 is none.")]
Seed = Annotated[int, typer.Option(help="Another seed, another picture.")]
Out = Annotated[Path, typer.Argument(help="The picture file to write, say out.png.")]


@app.command()
def draw(
    text: Annotated[
        str,
        typer.Argument(
            help='A caption, "a small red star above a large blue circle"; digits; or, for '
            "emoji-latents, artists' hands."
        ),
    ],
    out: Out,
    scale: Scale = None,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps. Default: 20, or 4 where few are enough.")
    ] = None,
    seed: Seed = 0,
    model: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(DRAWS)}; or one of your own.")
    ] = None,
    hand: Annotated[
        str | None, typer.Option(help="Draw an emoji, from any words, in this artist's hand: noto.")
    ] = None,
) -> None:
    """Draw what a caption says, 256 pixels high; or handwritten digits side by side."""
    from PIL import Image

    from .datasets.digits import digit_condition
    from .pictures import as_image
    from .pipelines import Artist
    from .pipelines.emoji import EmojiArtist
    from .pipelines.few_steps import FewSteps

    _check_out(out)
    if not text.strip():
        raise ValueError(
            'TEXT should be a caption such as "a small red star", or digits such as "3 1 4", but '
            "nothing came."
        )
    only_digits = set(text.replace(" ", "")) <= set("0123456789")
    if hand is not None:
        drawer = _load(model or "emoji", EmojiArtist, "draws emoji in a hand", ("emoji",))
    else:
        usual = "digits" if only_digits else "text-to-image"
        drawer = _load(model or usual, Artist, "draws pictures", DRAWS)
    steps = (4 if isinstance(drawer, FewSteps) else 20) if steps is None else steps
    settings = {} if scale is None else {"scale": scale}
    settings |= {} if hand is None else {"hand": hand}
    settings |= {"size": 128} if isinstance(drawer, EmojiArtist) else {}
    asked = _asked(text, drawer, model)
    pictures = drawer.draw(asked, steps=steps, seed=seed, progress=_bar(steps), **settings)
    row = as_image(pictures.permute(1, 2, 0, 3).flatten(2))  # side by side
    factor = 112 // 28 if drawer.condition is digit_condition else 256 // row.height
    row = row.resize((factor * row.width, factor * row.height), Image.Resampling.NEAREST)
    _write(row, out)


def _asked(text: str, drawer, model: str | None):
    """What a network is asked for by TEXT: a caption, a list of digits, or one of hands."""
    from .datasets.digits import digit_condition
    from .datasets.emoji import HANDS
    from .pipelines.emoji_latents import hand_condition
    from .pipelines.two_towers import said

    if drawer.condition is said:
        raise ValueError(f"{model} draws embeddings, not pictures. Say --model emoji-decoder.")
    if drawer.condition is digit_condition:
        digits = text.replace(" ", "")
        if not set(digits) <= set("0123456789"):
            raise ValueError(
                f'{model} draws digits: TEXT should be some, such as "3 1 4", but {text!r} came.'
            )
        return [int(digit) for digit in digits]
    if drawer.condition is hand_condition:
        hands = text.replace(",", " ").split()
        if not set(hands) <= set(HANDS):
            raise ValueError(
                f"{model} draws a face in each hand that TEXT names, and knows no words: TEXT "
                f"should be some of {', '.join(HANDS)}, but {text!r} came."
            )
        return hands
    return text


LARGEST = 4_000_000  # pixels of an enlarged photo, unless --force is given


@app.command()
def enlarge(
    photo: Annotated[Path, typer.Argument(help="The photo to enlarge.")],
    out: Out,
    scale: Scale = 1.0,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 25,
    seed: Seed = 0,
    model: Annotated[
        str, typer.Option(help="A shipped checkpoint, or one of your own.")
    ] = "super-resolution",
    force: Annotated[bool, typer.Option("--force", help="However large it gets.")] = False,
) -> None:
    """Enlarge a photo four times, inventing believable detail."""
    from .datasets.photos import open_image
    from .pictures import flat, is_deep
    from .pipelines import Scaler

    _check_out(out)
    picture = open_image(photo)
    if is_deep(picture):
        print(f"{photo} has more than 8 bits a colour: {out} gets 8.")
        picture = flat(picture)
    scaler = _load(model, Scaler, "enlarges", ENLARGES)
    width, height = (scaler.factor * side for side in picture.size)
    if width * height > LARGEST and not force:
        raise ValueError(
            f"{photo} would become {width}x{height}, more than {LARGEST / 1e6:.0f} megapixels. "
            "Shrink it first, or say --force."
        )
    seconds = scaler.estimate(picture.height, picture.width, steps, scale)
    print(f"{picture.width}x{picture.height} to {width}x{height}: about {seconds:.0f} s.")
    with _notes():
        large = scaler.enlarge(picture, scale, steps, seed, progress=_bar(steps))
    _write(large, out)


@app.command()
def fill(
    photo: Annotated[Path, typer.Argument(help="The photo with the hole.")],
    mask: Annotated[Path, typer.Argument(help="A picture of its size, white in the hole.")],
    out: Out,
    scale: Scale = 1.0,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 25,
    seed: Seed = 0,
    model: Annotated[
        str, typer.Option(help="A shipped checkpoint, or one of your own.")
    ] = "inpainting",
) -> None:
    """Fill holes in a photo. All other pixels stay as they are, if OUT is a .png (a .tif for CMYK
    and the like)."""
    from .datasets.photos import open_image
    from .pictures import flat
    from .pipelines import Mender

    _check_out(out)
    picture, hole = open_image(photo), open_image(mask)
    low, high = flat(hole, "black").convert("L").getextrema()
    if low > 127 or high < 128:
        raise ValueError(
            f"{mask} should be white in the hole and black elsewhere, but it is "
            f"{'white' if low > 127 else 'black'} everywhere."
        )
    mender = _load(model, Mender, "fills holes", FILLS)
    if picture.width * picture.height > LARGEST:
        raise ValueError(
            f"{photo} has {picture.width}x{picture.height} pixels, more than "
            f"{LARGEST / 1e6:.0f} megapixels. Cut out the part around the hole."
        )
    print(f"About {mender.estimate(picture, hole, steps, scale):.0f} s.")
    with _notes():
        filled = mender.fill(picture, hole, scale, steps, seed, progress=_bar(steps))
    _write(filled, out)


@contextmanager
def _notes():
    """Prints what the package warns of, in a line each."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    for note in dict.fromkeys(str(each.message) for each in said):
        print(f"Note: {note}")


def _load(model: str, kind: type, does: str, shipped: tuple[str, ...] = ()):
    """The pipeline of --model, if it is of the kind that the command needs."""
    from .pipelines import load

    pipeline = load(model)
    if not isinstance(pipeline, kind):
        these = f" Shipped: {', '.join(shipped)}." if shipped else ""
        raise ValueError(f"--model should be one that {does}, but {model!r} came.{these}")
    return pipeline


FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
FORMATS |= {".tif": "TIFF", ".tiff": "TIFF", ".gif": "GIF"}


def _check_out(out: Path) -> None:
    """Before the work is done, not after it."""
    if out.suffix.lower() not in FORMATS or out.is_dir():
        raise ValueError(
            f"OUT should be a picture file that ends in {', '.join(FORMATS)}, but {out} came."
        )
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent} to write {out.name} into.")
    try:
        # Tried, not asked: to root, and on Windows, every folder says that it can be written into.
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise OSError(f"nothing can be written into the folder {out.parent}: {error}") from error


def _save(picture, path: Path, kind: str) -> None:
    settings = {key: picture.info[key] for key in ("icc_profile", "dpi") if key in picture.info}
    if kind == "WEBP":
        settings |= {"lossless": True, "exact": True}
    picture.save(path, format=kind, **settings)


def _save_as(picture, partial: Path, kind: str, out: Path) -> None:
    """Saves the picture, in a plainer mode where the format has none like its own, and says what
    changes."""
    import numpy as np
    from PIL import Image

    from .pictures import flat

    try:
        _save(picture, partial, kind)
    except OSError as error:
        if "cannot write mode" not in str(error):
            raise
        plain = flat(picture)
        print(f"{kind} can't hold mode {picture.mode}: {out} gets {plain.mode}, on white.")
        if plain.mode[0] != picture.mode[0] and plain.info.pop("icc_profile", None):
            print("Note: not kept of the photo: its colour profile.")  # it is of other colours
        _save(plain, partial, kind)
    else:
        with Image.open(partial) as again:
            if again.mode != picture.mode or not np.array_equal(again, picture):
                print(f"Note: {kind} changes pixels a little. A .png or .tif keeps them.")


def _write(picture, out: Path) -> None:
    import numpy as np
    from PIL import Image

    from .files import replacing

    kind = FORMATS[out.suffix.lower()]
    if picture.mode == "I" and kind == "PNG":  # of values to 65535
        picture = Image.fromarray(np.array(picture).astype(np.uint16))
    try:
        with replacing(out) as partial:
            _save_as(picture, partial, kind, out)
    except OSError as error:
        words = f"{out} could not be written; what was there is kept. Is the disk full?"
        raise OSError(f"{words} ({error})") from error
    print(f"Wrote {out}.")


def _bar(steps: int):
    """Wraps a sampler in a progress bar."""
    from functools import partial

    from tqdm import tqdm

    return partial(tqdm, total=steps, unit="step", delay=0.001)


@app.command()
def info() -> None:
    """Show versions, where the data are, and how each shipped checkpoint was trained."""
    import torch
    import torchvision

    from . import __version__
    from .checkpoints import load_checkpoint
    from .datasets import data_path

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
        list[str] | None, typer.Option(help="A lesson by its name or number, or some: say 03,04.")
    ] = None,
) -> None:
    """Make your own copies of the lessons, without the solutions. Your work is never overwritten,
    unless you say --force; `--only 03 --force` starts lesson 03 over."""
    from .classroom import make_copies

    made, kept = make_copies(to, force=force, only=",".join(only) if only else None)
    for path in made:
        print(f"made {path}")
    if kept:
        print(f"kept as it was: {', '.join(str(path) for path in kept)}")


@app.command()
def assign(
    to: Annotated[Path, typer.Option(help="The course folder to make, or to add lessons to.")],
    lessons: Annotated[str, typer.Option(help="Say 01,02. Default: all.")] = "",
    exercises: Annotated[
        str, typer.Option(help="The exercises to grade, say add_noise,snr. Default: all.")
    ] = "",
) -> None:
    """Make assignments for a class: an nbgrader course folder with the students' notebooks in
    release/. A lesson that is there already is kept as it is."""
    from .checks import worth
    from .classroom import assign

    _need_nbgrader()
    made, kept = assign(to, _words(lessons), _words(exercises))
    for name, points in made.items():
        print(f"{name}: {worth(points)}")
    if kept:
        print(f"kept as it was: {', '.join(kept)}")
    print(f"Students get what is in {to / 'release'}; put what they hand in into")
    print(f"{to / 'submitted' / 'STUDENT' / 'LESSON'}, then: python -m cfd_course grade {to}")


def _need_nbgrader() -> None:
    try:
        from .classroom import grading  # noqa: F401
    except ImportError as error:
        raise ValueError(str(error)) from error


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


Course = Annotated[Path, typer.Argument(help="The course folder that assign made.")]


@app.command()
def grade(
    folder: Course,
    workers: Annotated[
        int | None, typer.Option(help="Submissions graded at once. Default: one a core.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also those that are graded and did not change.")
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="The address of a Dask scheduler, to use its workers.")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Without a sandbox: what students wrote runs as you, and may read, change and "
            "send whatever you may.",
        ),
    ] = False,
) -> None:
    """Grade what was submitted, each submission in a sandbox of its own. Marks given by hand are
    never lost. Ends with exit code 1 if something could not be graded as it came, or waits for
    you."""
    from tqdm import tqdm

    _need_nbgrader()
    from .classroom.grading import grade

    count, results = grade(folder, workers, force, scheduler, trust)
    problems, waiting, notes = [], [], []
    with tqdm(results, total=count, unit="submission", delay=0.001) as bar:
        for result in bar:
            who = f"{result.student}/{result.assignment}"
            problems += [f"{who}: {words}" for words in filter(None, [result.problem])]
            waiting += [f"{who}: {words}" for words in result.waiting]
            notes += [f"{who}: {words}" for words in filter(None, [result.note])]
    print(f"Graded {count}. The marks are in the gradebook, what students get in feedback/.")
    _list("To know:", notes)
    _list("These wait for you:", waiting)
    _list("Not gradable as they came, and marked as empty notebooks unless it says so:", problems)
    if problems or waiting:
        raise typer.Exit(1)


def _list(title: str, lines: list[str]) -> None:
    from .classroom.submissions import shown

    if lines:
        print(title)
    for line in sorted(lines):
        print(f"  {shown(line)}")  # a student's words could steer the terminal


@app.command()
def report(folder: Course) -> None:
    """Write the marks for Moodle and Canvas, the feedback to hand back, and an overview of the
    class as a web page."""
    _need_nbgrader()
    from .classroom.report import report

    written = report(folder)
    for path in written.paths:
        print(f"Wrote {path}")
    _list("To look at:", [f"{who}/{name}: {words}" for who, name, words in written.remarks])


@app.command()
def questions(
    to: Annotated[Path, typer.Option(help="The folder to write them into.")],
) -> None:
    """Write the question bank for teachers: as GIFT for Moodle, as QTI for Canvas."""
    from .classroom.questions import write_questions

    for path in write_questions(to):
        print(f"Wrote {path}")


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m cfd_course")


if __name__ == "__main__":
    main()
