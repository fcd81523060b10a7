"""The page that a student gets back: each exercise, its verdict first.

Whatever comes from a submission stands in it as text alone, and the page forbids itself to load or
to run anything. nbgrader's own command makes the same page, since nbgrader_config.py names it.
"""

import html
import re
from pathlib import Path

import nbformat
from nbconvert.exporters import Exporter
from nbformat import NotebookNode
from nbgrader.api import SubmittedAssignment

from ..files import replacing
from .notebooks import exercise_of

LONGEST = 5000  # characters of what a cell put out
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; }}
td, th {{ text-align: left; padding: 0.2em 0.8em; border-bottom: 1px solid #ccc; }}
pre {{ background: #f4f4f4; padding: 0.6em; white-space: pre-wrap; overflow-wrap: anywhere; }}
pre.said {{ background: none; border-left: 0.3em solid #888; }}</style></head>
<body><h1>{title}: {marks}</h1>{parts}</body></html>
"""


def write(course: Path, submission: SubmittedAssignment) -> NotebookNode:
    """Write the page of a submission as the gradebook knows it now. Returns its graded notebook,
    with the marks. Nothing else lies in the folder that goes back, but for what nbgrader's exchange
    asks for."""
    student, name = submission.student.id, submission.assignment.name
    place = Path(student, name)
    path = course / "autograded" / place / f"{name}.ipynb"
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat has many ways to say so
        raise ValueError(f"{path} is damaged: grade with --force. ({error})") from error
    (graded,) = submission.notebooks
    grades = {grade.name: grade for grade in graded.grades}
    comments = {comment.name: comment.comment for comment in graded.comments}
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("grade_id") in grades:
            marks["score"] = grades[marks.grade_id].score
            marks["points"] = grades[marks.grade_id].max_score
        if marks.get("grade_id") in comments:
            marks["comment"] = comments[marks.grade_id]
    penalty = graded.late_submission_penalty or 0.0
    facts = {
        "notebook": name,
        "score": max(0.0, graded.score - penalty),
        "max_score": graded.max_score,
        "late_penalty": penalty,
    }
    target = course / "feedback" / place / f"{name}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        partial.write_text(page(notebook, facts), encoding="utf-8")
    return notebook


class Feedback(Exporter):
    """Makes the page from a graded notebook, to which nbgrader's GetGrades has added the marks."""

    file_extension = ".html"
    output_mimetype = "text/html"

    def from_notebook_node(self, nb, resources=None, **named):
        nb, resources = super().from_notebook_node(nb, resources, **named)
        return page(nb, resources["nbgrader"]), resources


def page(notebook: NotebookNode, facts: dict) -> str:
    """The page. facts: "notebook", its name; "score", "max_score" and "late_penalty"."""
    marked = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    graded = [cell for cell in marked if "score" in cell.metadata.nbgrader]
    rows, sections, said = [], [], verdicts(notebook)
    for cell in graded:
        marks = cell.metadata.nbgrader
        name = exercise_of(cell)[0] or str(marks.grade_id)
        points = f"{marks.score:g} of {marks.points:g}"
        verdict = said.get(name) or "marked by your teacher"
        rows.append(f"<tr>{_in('td', name)}{_in('td', points)}{_in('td', verdict)}</tr>")
        answers = [
            each
            for each in marked
            if each is cell or (exercise_of(each) == (name, "answer") and exercise_of(cell)[0])
        ]
        sections.append(_in("h2", f"{name}: {points}"))
        sections += [_in("pre", _said(each), "said") for each in reversed(answers) if _said(each)]
        for each in answers:
            comment = each.metadata.nbgrader.get("comment")
            sections.append(_in("p", f"Your teacher: {comment}") if comment else "")
            if each.metadata.nbgrader.get("solution"):
                sections.append(_in("pre", each.source))
    problem = notebook.metadata.get("problem")
    remarks = notebook.metadata.get("remarks", [])
    penalty = facts.get("late_penalty")
    stopped = [
        _in("pre", cell.source) + _in("pre", _said(cell), "said")
        for cell in notebook.cells
        if cell not in marked
        and any(output.output_type == "error" for output in cell.get("outputs", []))
    ]
    parts = [
        _in("p", f"Your submission could not be graded: {problem}.") if problem else "",
        *(_in("p", f"While it was graded: {words}.") for words in remarks),
        _in("p", f"{penalty:g} points were taken off for handing in late.") if penalty else "",
        f"<table><tr><th>exercise</th><th>points</th><th></th></tr>{''.join(rows)}</table>",
        *sections,
        *(["<h2>Other cells that stopped</h2>"] if stopped else []),
        *stopped,
    ]
    return PAGE.format(
        title=html.escape(str(facts["notebook"])),
        marks=f"{facts['score']:g} of {facts['max_score']:g} points",
        parts="".join(parts),
    )


def verdicts(notebook: NotebookNode) -> dict[str, str]:
    """What each graded cell said, by exercise."""
    return {
        exercise_of(cell)[0] or cell.metadata.nbgrader.grade_id: _said(cell)
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    }


def unfinished(submission: SubmittedAssignment) -> list[str]:
    """What a teacher should look at among a submission's marks, in words."""
    grades = [grade for each in submission.notebooks for grade in each.grades]
    cases = {
        "waits for a mark by hand": [each.name for each in grades if each.needs_manual_grade],
        "above the maximum": [each.name for each in grades if each.score > each.max_score],
    }
    return [
        f"{words}: {', '.join(name.removesuffix('-graded') for name in names)}"
        for words, names in cases.items()
        if names
    ]


def _in(tag: str, text: str, kind: str = "") -> str:
    text = html.escape(text).encode("utf-8", "replace").decode()
    return f"<{tag}{kind and f' class={kind}'}>{text}</{tag}>"


def _said(cell: NotebookNode) -> str:
    """What a cell put out, as text: the verdict of a graded cell, errors elsewhere."""
    graded = cell.metadata.get("nbgrader", {}).get("grade")
    said = []
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            said.append(f"{output.get('ename')}: {output.get('evalue')}\n")
        elif output.output_type == "stream" and graded:
            said.append(str(output.text))
    text = re.sub(r"\x1b\[[0-9;]*m", "", "".join(said)).strip()
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."
