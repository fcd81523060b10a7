"""What students handed in: found as it came, read forgivingly, known by its content."""

import hashlib
import io
import json
import os
import re
import shutil
import stat
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from ..files import replacing
from .notebooks import names_in, plain

# A folder, or with "download in folders" off a file, as Moodle names it: who, number, what.
# What follows is the participant's own, whatever it looks like.
MOODLE = re.compile(r"(?P<who>.+?)_(?P<number>\d+)_assignsubmission_[a-z]+_(?P<file>.*)", re.DOTALL)
LARGEST = 100_000_000  # bytes of a submission: its largest files beyond that are no part of it
NOTEBOOK = 50_000_000  # bytes of a notebook, or of all that come out of zip files
CELLS = 1000  # of a notebook
UNPACKED = ".unpacked"  # in submitted/: what came out of zip files


class Unreadable(ValueError):
    """There is no notebook that can be graded in what a student handed in."""


def read(data: bytes) -> NotebookNode:
    """A student's notebook as cells that are sound: their kind, source, the name that nbgrader
    knows them by, and attachments. Outputs, ids and all other metadata are left behind.

    More forgiving than Jupyter: what an editor left out, added or misspelt costs nobody a mark, as
    long as there are cells to be found. Raises Unreadable where there are none.
    """
    try:
        text = data.decode(json.detect_encoding(data), "replace").lstrip("\ufeff \t\r\n")
        found, _ = json.JSONDecoder(strict=False).raw_decode(text)
        sheets = found["worksheets"] if "worksheets" in found else [found]  # before version 4
        if (count := sum(len(sheet["cells"]) for sheet in sheets)) > CELLS:
            raise ValueError(f"{count} cells are more than {CELLS}")
        cells = [_cell(cell) for sheet in sheets for cell in sheet["cells"]]
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise Unreadable(f"is not a notebook that can be read ({said})") from error
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": python})


def _cell(found: dict) -> NotebookNode:
    source = found.get("source", found.get("input", ""))
    source = "".join(map(str, source)) if isinstance(source, list) else str(source or "")
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    source = source.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written
    make = {"code": new_code_cell, "raw": new_raw_cell}.get(
        found.get("cell_type", "code"), new_markdown_cell
    )
    cell = make(source)
    pictures = found.get("attachments")
    if make is new_markdown_cell and isinstance(pictures, dict):
        sound = {name: kinds for name, kinds in pictures.items() if _is_attachment(kinds)}
        cell.attachments = nbformat.from_dict(sound)
    metadata = found.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = marks.get("grade_id") if isinstance(marks, dict) else None
    if isinstance(name, str):
        cell.metadata["nbgrader"] = nbformat.from_dict({"grade_id": re.sub(r"[^\w-]", "", name)})
    return cell


def _is_attachment(kinds) -> bool:
    return isinstance(kinds, dict) and all(isinstance(each, str) for each in kinds.values())


def restore(notebook: NotebookNode, known: dict[str, tuple[str, dict]]) -> set[str]:
    """Give a submission's cells the marks of those that were handed out, take away all others, and
    bring back graded cells that are gone, at the end. Returns the grade_ids that were there.

    known: by grade_id, what stood in each cell that was handed out, and its marks. A cell without
    its grade_id is known by what stands in it, an answer by the name that it defines.
    """
    waiting, unmarked = dict(known), []
    for cell in notebook.cells:
        marks = cell.metadata.pop("nbgrader", None)
        name = marks.get("grade_id") if isinstance(marks, dict) else None
        if isinstance(name, str) and name in waiting:
            cell.metadata["nbgrader"] = nbformat.from_dict(waiting.pop(name)[1])
        else:
            unmarked.append(cell)
    # Checks before answers: both define the exercise's name.
    for name, (source, marks) in sorted(waiting.items(), key=lambda item: item[1][1]["solution"]):
        exercise, _, kind = name.rpartition("-")
        for cell in reversed(unmarked):
            if kind == "answer":
                same = cell.cell_type == "code" and exercise in names_in(cell.source)[0]
            else:
                same = plain(cell.source) == plain(source)
            if same:
                cell.metadata["nbgrader"] = nbformat.from_dict(marks)
                unmarked = [each for each in unmarked if each is not cell]
                del waiting[name]
                break
    for source, marks in waiting.values():
        if marks["grade"]:
            cell = new_code_cell(source, metadata={"nbgrader": nbformat.from_dict(marks)})
            notebook.cells.append(cell)
    return known.keys() - waiting.keys()


def handed_out(notebook: NotebookNode) -> dict[str, tuple[str, dict]]:
    """The marked cells of a notebook in release/, as `restore` wants them."""
    return {
        cell.metadata.nbgrader.grade_id: (cell.source, cell.metadata.nbgrader)
        for cell in notebook.cells
        if "nbgrader" in cell.metadata
    }


@dataclass(frozen=True)
class Submission:
    """What a student handed in of an assignment.

    files: by their names there; links, pipes, what is hidden and what is huge are left out.
    moodle: Moodle's name of the folder up to the participant's number, if it came from there.
    """

    student: str
    assignment: str
    files: dict[str, Path] = field(repr=False)
    moodle: str | None = None

    def contents(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in sorted(self.files.items())}


def fingerprint(contents: dict[str, bytes]) -> str:
    """What changes with the content of a submission, whatever the clock says."""
    found = hashlib.sha256()
    for name, data in contents.items():
        found.update(os.fsencode(f"{name}\0{len(data)}\0") + data)
    return found.hexdigest()


def put(contents: dict[str, bytes], folder: Path, notebook: str) -> None:
    """Write what was handed in into a folder, but for what is, or lies where, the notebook comes:
    to unpack an archive can make a folder of that name. And but for a timestamp.txt of one's own:
    nbgrader reads it, and its exchange writes a time into it."""
    for name, data in contents.items():
        if name.split("/")[0] != notebook and (name != "timestamp.txt" or _is_time(data)):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _is_time(data: bytes) -> bool:
    from nbgrader.utils import parse_utc

    try:
        parse_utc(data.decode())
    except (ValueError, OverflowError):
        return False
    return True


def choose(
    contents: dict[str, bytes], assignment: str, given: NotebookNode
) -> tuple[NotebookNode, str | None]:
    """The notebook to grade of what was handed in, with the marks of the one in release/, `given`;
    beside it, words for the teacher if there was a choice. Of several it is the one with the most
    answers, then the one with the right name. Raises Unreadable if there is none."""
    known, found, problems = handed_out(given), [], []
    for name, data in _notebooks(contents):
        try:
            notebook = read(data)
        except Unreadable as error:
            problems.append(f"{shown(name)} {error}")
            continue
        there = restore(notebook, known)
        answers = sum(
            cell.metadata.nbgrader.solution
            and plain(cell.source) != plain(known[cell.metadata.nbgrader.grade_id][0])
            for cell in notebook.cells
            if cell.metadata.get("nbgrader", {}).get("grade_id") in there
        )
        if there:
            found.append((answers, name == f"{assignment}.ipynb", name, notebook))
        else:
            problems.append(f"{shown(name)} holds no exercise of {assignment}")
    if not found:
        raise Unreadable("; ".join(problems) or "there is no notebook in it")
    *_, name, notebook = max(found, key=lambda each: each[:3])
    others = ", ".join(shown(each[2]) for each in found if each[2] != name)
    return notebook, f"{shown(name)} was graded, and not {others}" if others else None


def shown(name: str) -> str:
    """A file's name as it can be written anywhere, in a line."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)


def _notebooks(contents: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Whatever may be a notebook, in zip files too; all files if none is called so."""
    found, left = list(contents.items()), NOTEBOOK
    for name, data in contents.items():
        if name.lower().endswith(".zip"):
            inside = _in_zip(name, data, left)
            left -= sum(len(data) for _, data in inside)
            found += inside
    found = [(name, data) for name, data in found if len(data) <= NOTEBOOK]
    return [each for each in found if ".ipynb" in each[0].lower()] or found


def _in_zip(name: str, data: bytes, left: int) -> list[tuple[str, bytes]]:
    """The notebooks in a zip file, of which so many bytes are left to be read."""
    found = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                path = Path(member.filename)
                if ".ipynb" not in path.name.lower() or _is_hidden(path):
                    continue
                if member.file_size <= left:
                    found.append((f"{name}/{member.filename}", archive.read(member)))
                    left -= member.file_size
    except Exception:  # damaged, encrypted, or of a kind that Python cannot read
        pass
    return found


def _is_hidden(path: Path) -> bool:
    """What systems and editors leave beside files."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def releases(course: Path) -> dict[str, NotebookNode]:
    """The notebooks that were handed out, by assignment."""
    return {
        path.stem: nbformat.read(path, as_version=4)
        for path in sorted(course.glob("release/*/*.ipynb"))
        if path.stem == path.parent.name
    }


def find(course: Path, assignments: dict[str, NotebookNode]) -> tuple[list[Submission], list[Path]]:
    """What was handed in: submitted/STUDENT/ASSIGNMENT/, and Moodle's download of an assignment,
    as a zip file or unpacked, in submitted/ or in submitted/ASSIGNMENT/. Also returns what lies
    there and is none of these.

    assignments: the notebooks that were handed out, by name.
    """
    root = course / "submitted"
    found, moodle, astray = [], defaultdict(dict), []
    # The newest download last: of what one participant handed in, it is the one that counts.
    entries = sorted(root.glob("*"), key=lambda path: (path.lstat().st_mtime, path.name))
    entries = [
        (path, None)
        for path in entries
        if MOODLE.fullmatch(path.name) or not _is_hidden(path.relative_to(root))
    ]
    while entries:
        path, assignment = entries.pop(0)
        came = MOODLE.fullmatch(path.name)
        if came is not None:
            files = _files(path) if path.is_dir() else _regular({came["file"]: path})
            who = (came["who"], came["number"], assignment)
            moodle[who].setdefault(path.parent, {}).update(files)
        elif path.is_file() and (inside := _unpack(path, root)):
            entries += [(each, assignment) for each in inside]
        elif path.is_dir() and path.parent == root:
            assignment = path.name if path.name in assignments else None
            for each in sorted(path.glob("*")):
                if each.is_dir() and each.name in assignments:
                    found.append(Submission(_text(path.name), each.name, _files(each)))
                elif MOODLE.fullmatch(each.name) or each.suffix.lower() == ".zip":
                    entries.append((each, assignment))
                elif not _is_hidden(each.relative_to(root)):
                    astray.append(each)
        else:
            astray.append(path)
    names = Counter((who, assignment) for who, _, assignment in moodle)
    twins = {who for (who, _), count in names.items() if count > 1}
    for (who, number, assignment), sources in moodle.items():
        *_, (place, files) = sources.items()
        assignment = assignment or _assignment_of(files, assignments)
        # A folder's name may be anything but a way out of the course folder.
        student = f"{who} {number}" if who in twins or not who.strip(". ") else who
        if assignment is None:
            astray.append(place / f"{who}_{number}_assignsubmission_file_")
        else:
            found.append(Submission(_text(student), assignment, files, _text(f"{who}_{number}")))
    once = {(each.student, each.assignment): each for each in found}
    astray += [
        course / "submitted" / each.student / each.assignment
        for each in found
        if each is not once[each.student, each.assignment]
    ]
    return list(once.values()), astray


def _text(name: str) -> str:
    """A folder's name as text: it may hold bytes that are none, from another system's archive."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _files(folder: Path) -> dict[str, Path]:
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return _regular({path.relative_to(folder).as_posix(): path for path in paths})


def _regular(files: dict[str, Path]) -> dict[str, Path]:
    """Without links and pipes, which are not the student's to hand in, nor what is no work; of the
    rest notebooks and small files first, as long as there is room."""
    sizes = {
        name: path.lstat().st_size
        for name, path in files.items()
        if not _is_hidden(Path(name)) and stat.S_ISREG(path.lstat().st_mode)
    }
    kept, left = {}, LARGEST
    for name in sorted(sizes, key=lambda name: (".ipynb" not in name.lower(), sizes[name])):
        left -= sizes[name]
        if left >= 0:
            kept[name] = files[name]
    return kept


def _unpack(path: Path, root: Path) -> list[Path]:
    """What Moodle's zip file holds, as paths; nothing if it is not Moodle's."""
    folder = root / UNPACKED / path.relative_to(root)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if each.file_size <= LARGEST]
            if not any(
                MOODLE.fullmatch(name) for each in members for name in each.filename.split("/")
            ):
                return []
            archive.extractall(folder, members)
    except Exception:  # damaged, encrypted, or no zip file
        return []
    return sorted(
        each
        for each in folder.rglob("*")
        if MOODLE.fullmatch(each.name)
        # A participant may have handed in folders that are named so.
        and not any(map(MOODLE.fullmatch, each.relative_to(folder).parts[:-1]))
    )


def _assignment_of(files: dict[str, Path], assignments: dict[str, NotebookNode]) -> str | None:
    """Which assignment it is: by the exercises in its notebooks, or else by their names."""
    best, most = None, 0.0
    readable = {name: path.read_bytes() for name, path in files.items() if os.access(path, os.R_OK)}
    for name, data in _notebooks(readable):
        for assignment, given in assignments.items():
            known = handed_out(given).keys()
            try:
                there = {
                    cell.metadata.nbgrader.grade_id for cell in read(data).cells if cell.metadata
                }
            except Unreadable:
                there = set()
            share = len(known & there) / len(known) + (Path(name).name.startswith(assignment)) / 100
            if share > most:
                best, most = assignment, share
    return best or (next(iter(assignments)) if len(assignments) == 1 else None)


def is_new(course: Path, submission: Submission) -> bool:
    """Whether what was handed in is not what was graded."""
    return graded_before(course, submission).get("fingerprint") != fingerprint(
        submission.contents()
    )


def graded_before(course: Path, submission: Submission) -> dict:
    """What `remember` wrote of it; nothing if it was never graded."""
    autograded = course / "autograded" / submission.student / submission.assignment
    try:
        if not (autograded / f"{submission.assignment}.ipynb").exists():
            return {}
        return json.loads(_record(course, submission).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def remember(course: Path, submission: Submission, **facts) -> None:
    """Put down how it was graded: its fingerprint and whatever the report should say of it."""
    path = _record(course, submission)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _record(course: Path, submission: Submission) -> Path:
    return course / "graded" / submission.student / f"{submission.assignment}.json"
