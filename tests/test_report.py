"""What a teacher gets of a class and what students get back, from marks that are in the gradebook:
nothing is graded here."""

import csv
import html
import re
import shutil
import warnings
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from cfd_course import classroom

from .students import ADD, ONE, RIGHT, SNR, X0, cell_of

pytest.importorskip("nbgrader", reason="nbgrader is missing: install the extra teach")
from nbgrader.api import Gradebook  # noqa: E402

from cfd_course.classroom import feedback, submissions  # noqa: E402
from cfd_course.classroom.report import OWN, report  # noqa: E402
from cfd_course.classroom.similarity import alike  # noqa: E402

pytestmark = pytest.mark.timeout(1800)

SCRIPT = "<script>document.title = 'mine'</script><img src=x onerror=alert(1)>"
SECRET = "what Bo Ek wrote"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    classroom.assign(folder, ["01"])
    return folder


@pytest.fixture
def course(empty, tmp_path):
    return shutil.copytree(empty, tmp_path / "class")


def give(course, student, answers=RIGHT, verdicts=None, place=None, hand=None, extra=(), **facts):
    """Put a submission into a course as if it had been graded: the mark of an exercise is 0 where
    there is a verdict. hand: marks given by hand."""
    verdicts, hand = verdicts or {}, hand or {}
    notebook = nbformat.read(course / "release" / ONE / f"{ONE}.ipynb", 4)
    for name, answer in answers.items():
        cell_of(notebook, f"{name}-answer").source = answer
    path = course / "submitted" / (place or f"{student}/{ONE}") / f"{ONE}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    with (
        warnings.catch_warnings(),
        Gradebook(f"sqlite:///{course / 'gradebook.db'}", "cfd") as book,
    ):
        warnings.simplefilter("ignore")
        book.update_or_create_student(student)
        book.update_or_create_submission(ONE, student)
        for name in RIGHT:
            grade = book.find_grade(f"{name}-graded", ONE, ONE, student)
            grade.auto_score = 0.0 if name in verdicts else grade.max_score
            grade.manual_score = hand.get(name)
            grade.needs_manual_grade = name in hand
            said = f"not yet. {verdicts[name]}" if name in verdicts else "right (1 point)."
            cell_of(notebook, f"{name}-graded").outputs = [
                new_output("stream", name="stdout", text=f"{name}: {said}\n"),
                new_output("execute_result", {"text/plain": str(grade.auto_score)}),
            ]
        book.find_comment("snr-answer", ONE, ONE, student).manual_comment = "Well <b>done</b>."
        book.db.commit()
    notebook.cells += extra
    notebook.metadata |= {"problem": facts.get("problem"), "remarks": facts.pop("remarks", [])}
    autograded = course / "autograded" / student / ONE
    autograded.mkdir(parents=True)
    nbformat.write(notebook, autograded / f"{ONE}.ipynb")
    found, _ = submissions.find(course, submissions.releases(course))
    (mine,) = (each for each in found if each.student == student)
    mark = submissions.fingerprint(mine.contents())
    submissions.remember(
        course, mine, **{"fingerprint": mark, "problem": None, "note": None} | facts
    )
    return path


def rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_moodle_gets_its_worksheet_and_each_page_in_its_folder(course):
    ada = "Ada Lovelace_1000001_assignsubmission_file_"
    give(course, "Ada Lovelace", place=ada)
    differs = {"snr": "It differs <i>there</i>."}
    give(course, "Bo Ek", verdicts=differs, place="Bo Ek_1000002_assignsubmission_file_")
    give(course, "dan")
    late = course / "submitted" / "Eve_1000003_assignsubmission_file_" / "a.ipynb"
    late.parent.mkdir()
    shutil.copy(course / "release" / ONE / f"{ONE}.ipynb", late)
    report(course)
    found = rows(course / f"moodle_{ONE}.csv")
    assert list(found[0]) == [
        *["Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade"],
        *["Grade can be changed", "Last modified (submission)", "Last modified (grade)"],
        "Feedback comments",
    ]
    marks = {row["Identifier"]: (row["Full name"], row["Grade"]) for row in found}
    assert marks == {
        "Participant 1000001": ("Ada Lovelace", "4"),
        "Participant 1000002": ("Bo Ek", "3"),
        "Participant 1000003": ("Eve", ""),
    }
    assert "snr: not yet. It differs &lt;i&gt;there&lt;/i&gt;." in found[1]["Feedback comments"]
    with zipfile.ZipFile(course / f"moodle_{ONE}_feedback.zip") as archive:
        assert f"{ada}/{ONE}.html" in archive.namelist() and len(archive.namelist()) == 2


def test_each_student_gets_a_zip_file_of_ones_own_feedback(course):
    give(course, "Ada Lovelace")
    give(course, "Bo Ek", RIGHT | {"snr": f"{SNR}  # {SECRET}"})
    beside = course / "feedback" / "Ada Lovelace" / ONE / "beside.html"
    beside.parent.mkdir(parents=True)
    beside.write_text(SECRET)  # whatever else may lie there
    report(course)
    for student, there in {"Ada Lovelace": False, "Bo Ek": True}.items():
        with zipfile.ZipFile(course / "feedback_zips" / f"{student}.zip") as archive:
            assert archive.namelist() == [f"{ONE}.html"]
            assert (SECRET in archive.read(f"{ONE}.html").decode()) == there


def test_the_report_names_what_waits(course):
    """Not graded, handed in again, waiting for a mark by hand, above the maximum, not readable."""
    give(course, "hand", hand={"snr": 0.5})
    give(course, "above", hand={"snr": 7.0})
    give(course, "damaged", problem="there is no notebook in it")
    give(course, "two", note="a.ipynb was graded, and not b.ipynb")
    again = give(course, "again")
    again.write_text(again.read_text() + " ")
    (course / "submitted" / "new" / ONE).mkdir(parents=True)
    (course / "submitted" / "astray.txt").write_text("")
    give(course, "fine")
    written = report(course)
    found = {}
    for who, name, words in written.remarks:
        found.setdefault(who, []).append(words)
        assert name in (ONE, "astray.txt")
    assert found.pop("hand") == ["waits for a mark by hand: snr"]
    assert found.pop("above") == ["above the maximum: snr", "waits for a mark by hand: snr"]
    assert found.pop("damaged") == ["there is no notebook in it"]
    assert found.pop("two") == ["a.ipynb was graded, and not b.ipynb"]
    assert found.pop("again")[0].startswith("handed in again since")
    assert found.pop("new") == ["not graded"]
    assert found.pop("")[0].startswith("nothing is graded in")
    assert not found
    page = html.unescape((course / "class.html").read_text(encoding="utf-8"))
    for who, _, words in written.remarks:
        assert f"<td>{who}</td>" in page and f"<td>{words}</td>" in page


def test_everybody_has_a_total(course):
    give(course, "ada", verdicts={"add_noise": "It differs."})
    give(course, "bo")
    give(course, "=cmd|' C calc'!A0")
    report(course)
    totals = {row["Student"]: (row["Total"], row["Of"]) for row in rows(course / "marks.csv")}
    assert totals == {"ada": ("2", "4"), "bo": ("4", "4"), "'=cmd|' C calc'!A0": ("4", "4")}
    page = html.unescape((course / "class.html").read_text(encoding="utf-8"))
    assert "<td>ada</td><td>2</td><td>2 of 4</td>" in page
    for table in course.glob("*.csv"):
        for row in rows(table):
            assert not any(value and value[0] in "=+@\t\r" for value in row.values())


def test_nothing_in_a_page_can_run(course):
    """A student's answers, texts, errors and names are text, and the page allows no script."""
    error = new_output("error", ename="ValueError", evalue=SCRIPT, traceback=[])
    outputs = [new_output("display_data", {"text/html": SCRIPT}), error]
    extra = [new_markdown_cell(SCRIPT), new_code_cell(SCRIPT, outputs=outputs)]
    give(course, "ada", RIGHT | {"snr": SCRIPT}, {"snr": f"It stops with {SCRIPT}"}, extra=extra)
    give(course, "<script>alert(1)<b>", verdicts={"snr": SCRIPT}, problem=SCRIPT)
    report(course)
    pages = [*course.glob("feedback/*/*/*.html"), course / "class.html"]
    assert len(pages) >= 3
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text and "<img src=x" not in text, page
        assert "default-src 'none'" in text and "script-src" not in text
    assert html.escape(SCRIPT) in pages[0].read_text(encoding="utf-8")


def test_a_page_shows_each_exercise_with_its_verdict_first(course):
    verdicts = {"snr": "yours is noise to signal"}
    give(course, "ada", verdicts=verdicts, remarks=["out of time: cell 7 was stopped"])
    report(course)
    text = (course / "feedback" / "ada" / ONE / f"{ONE}.html").read_text(encoding="utf-8")
    page = html.unescape(re.sub(r"<[^>]+>", "\n", text))
    assert f"{ONE}: 3 of 4 points" in page
    assert "While it was graded: out of time: cell 7 was stopped." in page
    places = [
        page.rindex("add_noise: 2 of 2"),
        page.rindex("add_noise: right"),
        page.index(ADD),
        page.rindex("snr: 0 of 1"),
        page.rindex("snr: not yet. yours is noise to signal"),
        page.index("Your teacher: Well <b>done</b>."),
        page.index(SNR),
        page.index(X0),
    ]
    assert places == sorted(places)
    assert page.index("snr: not yet") < page.index(ADD)  # in the table on top


def test_nbgraders_own_command_makes_the_same_page(course):
    from nbgrader.converters import GenerateFeedback
    from nbgrader.coursedir import CourseDirectory

    from cfd_course.classroom.grading import configuration

    give(course, "ada", verdicts={"snr": SCRIPT})
    report(course)
    page = course / "feedback" / "ada" / ONE / f"{ONE}.html"
    ours = page.read_text(encoding="utf-8")
    page.unlink()
    config = configuration(course)
    app = GenerateFeedback(
        coursedir=CourseDirectory(config=config, student_id="ada", assignment_id=ONE),
        config=config,
    )
    app.force = True
    app.start()
    assert page.read_text(encoding="utf-8").strip() == ours.strip()
    assert config.HTMLExporter.sanitize_html is True  # formgrader shows what students wrote
    assert feedback.Feedback is config.GenerateFeedback.exporter_class


COPIED = ADD.replace("share", "kept").replace("x_0", "picture").replace("noise)", "eps)")
OTHER = """\
def add_noise(schedule, x_0, t, noise):
    rows = []
    for each, picture, grain in zip(torch.as_tensor(t).tolist(), x_0, noise):
        weight = float(schedule.alpha_bars[each]) ** 0.5
        rows.append(weight * picture + (1 - weight**2) ** 0.5 * grain)
    return torch.stack(rows)"""


def test_answers_that_are_alike_are_found_whatever_the_names(course):
    right = {"add_noise": ADD, "predict_x0": X0}
    renamed = {
        "add_noise": '"""Mine."""\n' + COPIED.replace("* noise", "*  eps") + "  # by myself",
        "predict_x0": X0,
    }
    other = {"add_noise": OTHER, "predict_x0": X0.replace("share", "a") + "[0:]"}
    pairs = alike({"ada": right, "bo": renamed, "cy": other, "dan": {"snr": SNR}})
    assert [{a, b} for _, a, b in pairs] == [{"ada", "bo"}]
    assert alike({"ada": right, "bo": right})[0][0] == 1
    assert alike({"ada": {"x": "def f(:"}, "bo": {"x": "def f(:"}}) == []
    give(course, "ada")
    give(course, "bo")
    report(course)
    page = html.unescape((course / "class.html").read_text(encoding="utf-8"))
    assert re.search(r"<td>(ada</td><td>bo|bo</td><td>ada)</td><td>100%</td>", page)
    assert "no proof" in page and OWN
