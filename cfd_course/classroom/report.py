"""What a teacher sees of a class: marks for Moodle and Canvas, feedback to hand back, an overview
as a web page."""

import base64
import csv
import html
import re
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from ..figures import class_results, png
from ..files import replacing
from . import feedback
from .grading import configuration, open_gradebook
from .notebooks import exercise_of
from .similarity import alike
from .submissions import Submission, find, graded_before, is_new, releases

COMMONEST = 12  # mistakes to show of an exercise
MOST_ALIKE = 20  # pairs of an assignment
OWN = "the course's own solution"
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>The class</title>
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; }}
td, th {{ text-align: left; padding: 0.2em 0.8em; border-bottom: 1px solid #ccc; }}
img {{ max-width: 100%; }}</style>
<h1>The class</h1><p>{students} students, {submissions} submissions.</p>{parts}</html>
"""


@dataclass
class Report:
    """paths: the files that were written. remarks: what a teacher should look at, of whom and of
    what: (student, assignment, words)."""

    paths: list[Path]
    remarks: list[tuple[str, str, str]]


@dataclass
class _Class:
    """worth: the points of each assignment. scores, details, notebooks: by student and assignment;
    details: the share of its points that each exercise earned."""

    worth: dict[str, float]
    students: list[dict]
    scores: dict[tuple[str, str], float] = field(default_factory=dict)
    details: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    notebooks: dict[tuple[str, str], nbformat.NotebookNode] = field(default_factory=dict)
    remarks: list[tuple[str, str, str]] = field(default_factory=list)


def report(folder: str | Path) -> Report:
    """Write into a course folder: marks.csv with everybody's total, moodle.csv and canvas.csv for
    their gradebooks, Moodle's grading worksheet and feedback of each assignment that was collected
    from there, a zip file of feedback for each student, and class.html, an overview."""
    folder = Path(folder)
    found, astray = find(folder, releases(folder))
    them = _read(folder)
    them.remarks += _not_graded(folder, found)
    them.remarks += [("", path.name, f"nothing is graded in {path}") for path in astray]
    them.remarks.sort()
    paths = [
        _marks(folder / "marks.csv", them),
        _moodle(folder / "moodle.csv", them),
        _canvas(folder / "canvas.csv", them),
        *_for_moodles_assignments(folder, them, found),
        *_zips(folder, them),
    ]
    page = folder / "class.html"
    parts = [_remarks(them), _totals(them)] + [
        _part(folder, name, them) for name in them.worth if any(n == name for _, n in them.scores)
    ]
    counts = {"students": len(them.students), "submissions": len(them.scores)}
    with replacing(page) as partial:
        partial.write_text(PAGE.format(**counts, parts="".join(parts)), encoding="utf-8")
    return Report([*paths, page], them.remarks)


def _read(folder: Path) -> _Class:
    """What the gradebook holds. Makes the feedback anew: marks may have been given by hand."""
    with open_gradebook(configuration(folder)) as book:
        assignments = sorted(book.assignments, key=lambda assignment: assignment.name)
        them = _Class(
            {each.name: each.max_score for each in assignments},
            [
                {
                    name: getattr(each, name) or ""
                    for name in ("id", "lms_user_id", "first_name", "last_name", "email")
                }
                for each in book.students
            ],
        )
        for assignment in assignments:
            for submission in assignment.submissions:
                where = (submission.student.id, assignment.name)
                late = sum(each.late_submission_penalty or 0 for each in submission.notebooks)
                them.scores[where] = max(0.0, submission.score - late)
                grades = [grade for each in submission.notebooks for grade in each.grades]
                them.details[where] = {
                    grade.name.removesuffix("-graded"): grade.score / grade.max_score
                    for grade in grades
                    if grade.max_score
                }
                them.remarks += [(*where, words) for words in feedback.unfinished(submission)]
                path = folder / "autograded" / where[0] / where[1] / f"{where[1]}.ipynb"
                if path.exists():
                    them.notebooks[where] = feedback.write(folder, submission)
    return them


def _not_graded(folder: Path, found: list[Submission]):
    for each in found:
        record = graded_before(folder, each)
        if is_new(folder, each):
            again = "handed in again since, and the mark is of what was there before"
            yield each.student, each.assignment, again if record else "not graded"
        said = [record.get("problem"), record.get("note"), *record.get("remarks", [])]
        for words in filter(None, said):
            yield each.student, each.assignment, words


def _marks(path: Path, them: _Class) -> Path:
    rows = [["Student", "First name", "Last name", *them.worth, "Total", "Of", "Remarks"]]
    for student in them.students:
        scores = [them.scores.get((student["id"], name)) for name in them.worth]
        remarks = "; ".join(
            f"{name}: {words}" for who, name, words in them.remarks if who == student["id"]
        )
        total = sum(score or 0 for score in scores)
        name = [student["id"], student["first_name"], student["last_name"]]
        rows.append([*name, *scores, total, sum(them.worth.values()), remarks])
    return _write(path, rows)


def _moodle(path: Path, them: _Class) -> Path:
    """Moodle asks which column says who it is, and which column goes to which item."""
    who = ["Username", "ID number", "First name", "Last name", "Email address"]
    keys = ["id", "lms_user_id", "first_name", "last_name", "email"]
    return _write(
        path,
        [who + list(them.worth)]
        + [
            [*(student[key] for key in keys)]
            + [them.scores.get((student["id"], name)) for name in them.worth]
            for student in them.students
        ],
    )


def _canvas(path: Path, them: _Class) -> Path:
    """Canvas finds a student by ID or login, and makes the assignments that it does not know."""
    return _write(
        path,
        [
            ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *them.worth],
            ["Points Possible", "", "", "", "", *them.worth.values()],
        ]
        + [
            [
                ", ".join(filter(None, [each["last_name"], each["first_name"]])) or each["id"],
                each["lms_user_id"],
                "",
                each["id"],
                "",
                *(them.scores.get((each["id"], name)) for name in them.worth),
            ]
            for each in them.students
        ],
    )


WORKSHEET = (
    "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,"
    "Last modified (submission),Last modified (grade),Feedback comments"
).split(",")


def _for_moodles_assignments(folder: Path, them: _Class, found: list[Submission]):
    """Of each assignment that came from Moodle the grading worksheet, and the feedback in folders
    that are named as Moodle named them."""
    addresses = {student["id"]: student["email"] for student in them.students}
    for name, worth in them.worth.items():
        theirs = [each for each in found if each.moodle and each.assignment == name]
        if not theirs:
            continue
        rows, pages = [WORKSHEET], {}
        for each in theirs:
            where = (each.student, name)
            full_name, _, number = each.moodle.rpartition("_")
            notebook = them.notebooks.get(where)
            verdicts = feedback.verdicts(notebook) if notebook else {}
            problem = graded_before(folder, each).get("problem")
            words = [*filter(None, [problem]), *verdicts.values()]
            said = "<br>".join(html.escape(each) for each in words)
            score = them.scores.get(where)
            rows.append(
                [f"Participant {number}", full_name, addresses.get(each.student)]
                + ["Submitted for grading", score, worth, "Yes", "-", "-", said]
            )
            pages[f"{each.moodle}_assignsubmission_file_/{name}.html"] = _page(folder, *where)
        yield _write(folder / f"moodle_{name}.csv", rows)
        yield _zip(folder / f"moodle_{name}_feedback.zip", pages)


def _zips(folder: Path, them: _Class):
    for student in {student for student, _ in them.scores}:
        pages = {f"{name}.html": _page(folder, student, name) for name in them.worth}
        yield _zip(folder / "feedback_zips" / f"{student}.zip", pages)


def _page(folder: Path, student: str, name: str) -> Path:
    return folder / "feedback" / student / name / f"{name}.html"


def _zip(path: Path, files: dict[str, Path]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in files.items():
            if file.exists():
                archive.write(file, name)
    return path


def _write(path: Path, rows) -> Path:
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_cell(value) for value in row] for row in rows)
    return path


def _cell(value) -> str:
    """A spreadsheet would run a text that begins like a formula."""
    if isinstance(value, (int, float)):
        return f"{value:g}"
    text = "" if value is None else str(value)
    formula = text.lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r"))
    return "'" + text if formula and text != "-" else text


def _remarks(them: _Class) -> str:
    rows = [_row(*each) for each in them.remarks]
    head = "<h2>To look at</h2><table><tr><th>student</th><th>assignment</th><th>what</th></tr>"
    return f"{head}{''.join(rows)}</table>" if rows else "<p>Nothing waits for you.</p>"


def _totals(them: _Class) -> str:
    most = sum(them.worth.values())
    rows = []
    for student in them.students:
        scores = [them.scores.get((student["id"], name)) for name in them.worth]
        shown = ["" if score is None else f"{score:g}" for score in scores]
        total = sum(score or 0 for score in scores)
        rows.append(_row(student["id"], *shown, f"{total:g} of {most:g}"))
    head = _row("student", *them.worth, "total").replace("td>", "th>")
    return f"<h2>Totals</h2><table>{head}{''.join(rows)}</table>"


def _row(*cells: object) -> str:
    return f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in cells)}</tr>"


def _part(folder: Path, name: str, them: _Class) -> str:
    worth = them.worth[name]
    totals = [score for (_, each), score in them.scores.items() if each == name]
    marks, mistakes, answers = defaultdict(list), defaultdict(Counter), {}
    for (_, each), details in them.details.items():
        if each == name:
            for exercise, share in details.items():
                marks[exercise].append(share)
    for (student, each), notebook in them.notebooks.items():
        if each == name:
            answers[student] = _answers(notebook)
            for exercise, words in feedback.verdicts(notebook).items():
                if ": not yet. " in words:
                    mistakes[exercise][_kind(words.partition(": not yet. ")[2])] += 1
    source = folder / "source" / name / f"{name}.ipynb"
    if source.exists():
        answers[OWN] = _answers(nbformat.read(source, as_version=4))
    shares = {each: sum(mark >= 1 for mark in found) / len(found) for each, found in marks.items()}
    picture = base64.b64encode(png(class_results(shares, totals, worth))).decode()
    solved = ", ".join(f"{each} {share:.0%}" for each, share in shares.items())
    rows = "".join(
        _row(each, count, words)
        for each in marks
        for words, count in mistakes[each].most_common(COMMONEST)
    )
    pairs = "".join(_row(a, b, f"{share:.0%}") for share, a, b in alike(answers)[:MOST_ALIKE])
    mean = sum(totals) / len(totals)
    return (
        f"<h2>{html.escape(name)}</h2><p>{len(totals)} submissions, {mean:.1f} of {worth:g} points "
        f'on average.</p><img alt="Solved by: {html.escape(solved)}" '
        f'src="data:image/png;base64,{picture}"><h3>The commonest mistakes</h3>'
        f"<table><tr><th>exercise</th><th>times</th><th>what it said</th></tr>{rows}</table>"
        "<h3>Answers that are alike</h3><p>A hint, and no proof: short answers are alike by "
        "themselves. The share of what either wrote, whatever the names of variables.</p>"
        f"<table>{pairs}</table>"
    )


def _answers(notebook: nbformat.NotebookNode) -> dict[str, str]:
    found = {}
    for cell in notebook.cells:
        name, kind = exercise_of(cell)
        if kind == "answer" and cell.cell_type == "code":
            found[name] = cell.source
    return found


def _kind(words: str) -> str:
    """Verdicts that differ in their numbers only are one."""
    if words.startswith("It differs"):
        return "Another mistake: the result differs from the right one."
    stops = re.match(r"It stops with (\w+)", words)
    return f"It stops with {stops[1]}." if stops else words
