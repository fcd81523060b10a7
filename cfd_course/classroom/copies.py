"""Learners' copies of the notebooks, and their progress."""

import html
from dataclasses import dataclass
from pathlib import Path

import nbformat

from .. import checks, expect
from ..files import replacing
from .notebooks import lessons, points_of, without_solutions


def make_copies(
    to: str | Path, *, force: bool = False, only: str | None = None
) -> tuple[list[Path], list[Path]]:
    """Put a learner's copy of every lesson into the folder `to`. Returns the files that were
    written and those that were there already and were kept.

    force: overwrite files that are there. only: lessons by name or number, such as "03,04"; with
    force these are started over.
    """
    if not isinstance(to, (str, Path)):
        raise TypeError(f"to should be a folder's path, but {expect.describe(to)} came.")
    known = {name: path for path in lessons() for name in (path.stem, path.stem[:2])}
    wanted = list(known) if only is None else [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in known:
            names = ", ".join(path.stem for path in lessons())
            raise ValueError(f"only should name some of the lessons {names}, but {name!r} came.")
    chosen = sorted({known[name] for name in wanted})
    folder = Path(to)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"to should be a folder, but {folder} is a file.")
    if folder.exists() and folder.samefile(chosen[0].parent):
        raise ValueError(
            f"to should be a folder of your own, but {folder} holds the reference notebooks."
        )
    folder.mkdir(parents=True, exist_ok=True)
    record = checks.solved(folder)
    made, kept = [], []
    for path in chosen:
        copy = folder / path.name
        if copy.exists() and not force:
            kept.append(copy)
            continue
        with replacing(copy) as partial:
            nbformat.write(without_solutions(nbformat.read(path, as_version=4)), partial)
        record.pop(path.stem[:2], None)  # started over
        made.append(copy)
    checks.save_solved(record, folder)
    return made, kept


@dataclass(frozen=True)
class Progress:
    """The exercises of each lesson with the day on which they were solved, or None."""

    lessons: dict[str, dict[str, str | None]]

    def _lines(self):
        for lesson, exercises in self.lessons.items():
            solved = [name for name, date in exercises.items() if date]
            waiting = [name for name, date in exercises.items() if not date]
            yield lesson, f"{len(solved)} of {len(exercises)}", solved, waiting

    def __repr__(self):
        return "\n".join(
            f"{lesson}: {count} solved"
            + (f"; still to do: {', '.join(waiting)}" if waiting else "")
            for lesson, count, _, waiting in self._lines()
        )

    def _repr_html_(self):
        rows = [
            f"<tr><td>{html.escape(lesson)}</td><td>{count}</td>"
            f"<td>{', '.join(solved)}</td><td>{', '.join(waiting)}</td></tr>"
            for lesson, count, solved, waiting in self._lines()
        ]
        head = "<tr><th>lesson</th><th>solved</th><th></th><th>still to do</th></tr>"
        return f"<table>{head}{''.join(rows)}</table>"


def progress(folder: str | Path = ".") -> Progress:
    """Which exercises are solved. The checks put that down in progress.json in the folder in which
    the notebooks lie; `python -m cfd_course copies` puts an empty one there."""
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"folder should be a folder's path, but {expect.describe(folder)} came.")
    record = checks.solved(folder)
    found = {}
    for path in lessons():
        names = points_of(nbformat.read(path, as_version=4))
        if names:
            dates = record.get(path.stem[:2], {})
            found[path.stem] = {name: dates.get(name) for name in names}
    return Progress(found)
