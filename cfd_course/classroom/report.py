"""What a teacher sees of a class: marks for Moodle and Canvas, an overview as a web page."""

import base64
import csv
import html
import re
from collections import Counter, defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat

from ..figures import COLOURS, STYLE, png
from .grading import configuration, open_gradebook
from .notebooks import exercise_of

COMMONEST = 12  # mistakes to show of an exercise
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>The class</title>
<style>body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; }}
td, th {{ text-align: left; padding: 0.2em 0.8em; border-bottom: 1px solid #ccc; }}
img {{ max-width: 100%; }}</style>
<h1>The class</h1><p>{students} students, {submissions} submissions.</p>{parts}</html>
"""


def report(folder: str | Path) -> list[Path]:
    """Write moodle.csv, canvas.csv and class.html into a course folder. Returns their paths."""
    folder = Path(folder)
    config = configuration(folder)
    with open_gradebook(config) as book:
        assignments = sorted(book.assignments, key=lambda assignment: assignment.name)
        names = [(assignment.name, assignment.max_score) for assignment in assignments]
        students = [(student, _scores(student)) for student in book.students]
        marks, counts = defaultdict(dict), {}
        for assignment in assignments:
            counts[assignment.name] = len(assignment.submissions)
            for submission in assignment.submissions:
                for notebook in submission.notebooks:
                    for grade in notebook.grades:
                        name = grade.name.removesuffix("-graded")
                        found = marks[assignment.name].setdefault(name, [])
                        found.append(grade.score / grade.max_score if grade.max_score else 0.0)
        moodle = _moodle(folder / "moodle.csv", names, students)
        canvas = _canvas(folder / "canvas.csv", names, students)
        totals = {
            name: [scores[name] for _, scores in students if name in scores] for name, _ in names
        }
    page = folder / "class.html"
    parts = [
        _part(name, worth, totals[name], marks[name], _mistakes(folder, name))
        for name, worth in names
        if totals[name]
    ]
    page.write_text(
        PAGE.format(students=len(students), submissions=sum(counts.values()), parts="".join(parts)),
        encoding="utf-8",
    )
    return [moodle, canvas, page]


def _scores(student) -> dict[str, float]:
    return {
        submission.assignment.name: max(
            0.0,
            submission.score
            - sum(notebook.late_submission_penalty or 0 for notebook in submission.notebooks),
        )
        for submission in student.submissions
    }


def _moodle(path: Path, names, students) -> Path:
    """Moodle asks which column says who it is, and which column goes to which item."""
    who = ["Username", "ID number", "First name", "Last name", "Email address"]
    return _write(
        path,
        [who + [name for name, _ in names]]
        + [
            [
                student.id,
                student.lms_user_id,
                student.first_name,
                student.last_name,
                student.email,
                *(scores.get(name) for name, _ in names),
            ]
            for student, scores in students
        ],
    )


def _canvas(path: Path, names, students) -> Path:
    """Canvas finds a student by ID or login, and makes the assignments that it does not know."""
    return _write(
        path,
        [
            ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *(n for n, _ in names)],
            ["Points Possible", "", "", "", "", *(worth for _, worth in names)],
        ]
        + [
            [
                ", ".join(filter(None, [student.last_name, student.first_name])) or student.id,
                student.lms_user_id,
                "",
                student.id,
                "",
                *(scores.get(name) for name, _ in names),
            ]
            for student, scores in students
        ],
    )


def _write(path: Path, rows) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_cell(value) for value in row] for row in rows)
    return path


def _cell(value) -> str:
    """A spreadsheet would run a text that begins like a formula."""
    if isinstance(value, (int, float)):
        return f"{value:g}"
    text = "" if value is None else str(value)
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _mistakes(folder: Path, assignment: str) -> dict[str, Counter]:
    """For each exercise how often each verdict came, from the graded notebooks."""
    found = defaultdict(Counter)
    for path in folder.glob(f"autograded/*/{assignment}/{assignment}.ipynb"):
        try:
            notebook = nbformat.read(path, as_version=4)
        except Exception as error:  # nbformat has many ways to say so
            raise ValueError(f"{path} is damaged: grade with --force. ({error})") from error
        for cell in notebook.cells:
            name, kind = exercise_of(cell)
            said = "".join(o.get("text", "") for o in cell.get("outputs", [])).strip()
            if kind == "graded" and ": not yet. " in said:
                found[name][_kind(said.partition(": not yet. ")[2])] += 1
    return found


def _kind(words: str) -> str:
    """Verdicts that differ in their numbers only are one."""
    if words.startswith("It differs"):
        return "Another mistake: the result differs from the right one."
    stops = re.match(r"It stops with (\w+)", words)
    return f"It stops with {stops[1]}." if stops else words


def _part(name, worth, totals, marks, mistakes) -> str:
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.4 * len(marks) + 2))
        shares = [sum(mark == 1 for mark in found) / len(found) for found in marks.values()]
        left.barh(list(marks), shares, color=COLOURS[0])
        left.invert_yaxis()
        left.set(xlim=(0, 1), xlabel="share of submissions", title="Who solved what")
        right.hist(totals, bins=[mark - 0.5 for mark in range(int(worth) + 2)], color=COLOURS[0])
        right.set(xlabel=f"points of {worth:g}", ylabel="submissions", title="Marks")
        figure.tight_layout()
    picture = base64.b64encode(png(figure)).decode()
    solved = ", ".join(f"{each} {share:.0%}" for each, share in zip(marks, shares, strict=True))
    rows = "".join(
        f"<tr><td>{html.escape(each)}</td><td>{count}</td><td>{html.escape(words)}</td></tr>"
        for each in marks
        for words, count in mistakes[each].most_common(COMMONEST)
    )
    mean = sum(totals) / len(totals)
    return (
        f"<h2>{html.escape(name)}</h2><p>{len(totals)} submissions, {mean:.1f} of {worth:g} points "
        f'on average.</p><img alt="Solved by: {html.escape(solved)}" '
        f'src="data:image/png;base64,{picture}"><h3>The commonest mistakes</h3>'
        f"<table><tr><th>exercise</th><th>times</th><th>what it said</th></tr>{rows}</table>"
    )
