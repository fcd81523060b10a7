"""Right answers, oddly saved: none may lose its marks. What was handed in is found as it came, and
known by its content."""

import copy
import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from cfd_course import classroom

from .students import FULL, ONE, RIGHT

submissions = pytest.importorskip("cfd_course.classroom.submissions")
pytestmark = pytest.mark.timeout(1800)


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def named(notebook, name: str) -> dict:
    return next(
        cell
        for cell in notebook["cells"]
        if (cell["metadata"] or {}).get("nbgrader", {}).get("grade_id") == name
    )


def everywhere(change):
    """A kind of which each cell is changed."""

    def edit(notebook):
        for number, cell in enumerate(notebook["cells"]):
            change(cell, number)

    return edit


def outputs(*found):
    def edit(notebook):
        code(notebook)[3]["outputs"] = list(found)

    return edit


def grade_ids(change):
    def edit(cell, number):
        if "nbgrader" in cell["metadata"]:
            marks = cell["metadata"]["nbgrader"]
            marks["grade_id"] = change(marks["grade_id"])

    return everywhere(edit)


def widgets_without_state(notebook):
    kind = "application/vnd.jupyter.widget-state+json"
    model = {"model_module": "@jupyter-widgets/controls", "model_name": "HTMLModel", "state": {}}
    notebook["metadata"]["widgets"] = {kind: {"0a1b": model}}


def bare(cell, number):
    for key in ("outputs", "execution_count"):
        cell.pop(key, None)


def version(major=None, minor=None, ids=True):
    def edit(notebook):
        notebook.pop("nbformat"), notebook.pop("nbformat_minor")
        notebook |= {} if major is None else {"nbformat": major, "nbformat_minor": minor}
        for cell in notebook["cells"]:
            cell.pop("id", None)
            if ids:
                cell["id"] = f"{hash(cell['source']) % 10**9:x}"

    return edit


def version_three(notebook):
    for cell in code(notebook):
        cell["input"] = cell.pop("source").splitlines(keepends=True)
        cell["language"], cell["prompt_number"] = "python", cell.pop("execution_count")
    notebook["worksheets"] = [{"cells": notebook.pop("cells"), "metadata": {}}]
    notebook |= {"nbformat": 3, "nbformat_minor": 0}


def headings(notebook):
    notebook["cells"][0] |= {"cell_type": "heading", "level": 1}
    notebook["cells"].insert(1, {"cell_type": "sql", "source": ["select 1"]})


def crlf(cell, number):
    cell["source"] = cell["source"].replace("\n", "\r\n")


def lines(cell, number):
    cell["source"] = cell["source"].splitlines(keepends=True)


def padded(cell, number):
    cell["source"] = "\n".join(line + "  " for line in cell["source"].split("\n")) + "\n\n"


def comment(text: str):
    def edit(notebook):
        named(notebook, "add_noise-answer")["source"] += f"\n# {text}"

    return edit


def before(name: str, source: str):
    def edit(notebook):
        place = notebook["cells"].index(named(notebook, name))
        notebook["cells"].insert(place, dict(new_code_cell(source)))

    return edit


def in_a_cell_of_ones_own(notebook):
    answer = named(notebook, "add_noise-answer")
    before("add_noise-check", answer["source"])(notebook)
    answer["source"] = "def add_noise(schedule, x_0, t, noise):\n    ...  # your code here"


def rewritten_below(notebook):
    """A second attempt in a copy of the cell, whose marks are the same."""
    answer = named(notebook, "add_noise-answer")
    again = copy.deepcopy(answer)
    answer["source"] = "def add_noise(schedule, x_0, t, noise):\n    return x_0"
    notebook["cells"].insert(notebook["cells"].index(answer) + 1, again)


def answer_as(kind: str):
    def edit(notebook):
        cell = named(notebook, "add_noise-answer")
        bare(cell, 0)
        cell["cell_type"] = kind

    return edit


def without(*names: str):
    def edit(notebook):
        notebook["cells"] = [
            cell
            for cell in notebook["cells"]
            if cell["metadata"].get("nbgrader", {}).get("grade_id") not in names
        ]

    return edit


def put(**values):
    return lambda notebook: notebook["metadata"].update(values)


def saved_by(cell_metadata: dict, version=(4, 0), **metadata):
    """As another program than Jupyter saves it."""

    def edit(notebook):
        notebook |= {"nbformat": version[0], "nbformat_minor": version[1]}
        notebook["metadata"] = metadata
        for number, cell in enumerate(notebook["cells"]):
            cell.pop("id", None)
            cell["source"] = cell["source"].splitlines(keepends=True)
            cell["metadata"] |= {name: f"{value}{number}" for name, value in cell_metadata.items()}

    return edit


WEB = {"name": "python", "display_name": "Python (Pyodide)", "language": "python"}
NOTEBOOKS = {
    "plain": lambda notebook: None,
    "from Colab": saved_by(
        {"id": "aBc", "cellView": "form", "outputId": "x"},
        colab={"provenance": [{"file_id": "1x", "timestamp": 1}], "gpuType": "T4"},
        accelerator="GPU",
        kernelspec={"name": "python3", "display_name": "Python 3"},
    ),
    "from Kaggle": saved_by(
        {"_uuid": "d6", "_cell_guid": "b1", "trusted": "yes"},
        (4, 4),
        kaggle={"accelerator": "none", "dataSources": []},
        papermill={"duration": 3.5},
    ),
    "from Deepnote": saved_by(
        {"cell_id": "00-", "deepnote_cell_type": "code", "source_hash": "1f"},
        (4, 2),
        deepnote={"is_reactive": False},
        orig_nbformat=2,
    ),
    "from VS Code": saved_by(
        {"vscode": "languageId"},
        (4, 2),
        language_info={"name": "python", "version": "3.9.6 64-bit ('old': venv)"},
        interpreter={"hash": "31f2"},
    ),
    "from JupyterLite": saved_by({"trusted": ""}, (4, 5), kernelspec=WEB, language_info={}),
    "widgets without state": widgets_without_state,
    "no outputs": everywhere(bare),
    "counts as text": everywhere(lambda cell, n: cell.update(execution_count=f"{n}.0")),
    "cell ids with blanks": everywhere(lambda cell, n: cell.update(id=f"cell {n}[x]")),
    "cell ids too long": everywhere(lambda cell, n: cell.update(id="x" * 100 + str(n))),
    "cell ids empty or no text": everywhere(lambda cell, n: cell.update(id="" if n % 2 else n)),
    "cell ids all the same": everywhere(lambda cell, n: cell.update(id="same")),
    "version 4.4 with ids": version(4, 4),
    "version 4.5 without ids": version(4, 5, ids=False),
    "version 4.99": version(4, 99),
    "version 4.0": version(4, 0, ids=False),
    "no version": version(),
    "version 3": version_three,
    "grade_ids with a blank": grade_ids(lambda name: f"{name} "),
    "grade_ids in brackets": grade_ids(lambda name: f"[{name}]"),
    "cells without metadata": everywhere(lambda cell, n: cell.pop("metadata")),
    "cells' metadata null": everywhere(lambda cell, n: cell.update(metadata=None)),
    "cells' metadata lost": everywhere(lambda cell, n: cell.update(metadata={})),
    "an old schema": everywhere(
        lambda cell, n: (
            cell["metadata"].get("nbgrader", {}).pop("schema_version", None),
            cell["metadata"].get("nbgrader", {}).pop("task", None),
        )
    ),
    "no metadata": lambda notebook: notebook.pop("metadata"),
    "metadata a list": lambda notebook: notebook.update(metadata=[]),
    "another kernel": put(kernelspec={"name": "conda-env-py", "display_name": 3}),
    "another language": put(language_info={"name": "julia"}, kernelspec=None),
    "outputs that nobody knows": outputs({"output_type": "mine"}, {}, 7),
    "outputs without their parts": outputs(
        {"output_type": "stream"}, {"output_type": "display_data"}, {"output_type": "error"}
    ),
    "half a surrogate in an error": outputs(
        {"output_type": "error", "ename": "E", "evalue": "\ud83d", "traceback": ["\udc00"]}
    ),
    "a number that is none": put(loss=float("nan")),
    "outputs of 20 MB": outputs(
        {"output_type": "stream", "name": "stdout", "text": "x" * 2 * 10**7}
    ),
    "a picture that is broken": lambda notebook: notebook["cells"][0].update(
        attachments={"a.png": {"image/png": 3}, "b.png": []}
    ),
    "lines that end as on Windows": everywhere(crlf),
    "lists of lines": everywhere(lines),
    "blanks at the ends of lines": everywhere(padded),
    "cells that are empty": everywhere(
        lambda cell, n: cell.update(source=None) if not cell["source"] else None
    ),
    "fields of one's own": everywhere(lambda cell, n: cell.update(mine=n, collapsed=True)),
}

# What is graded is not the plain notebook, but it is right.
OWN = {
    "checks deleted": without("add_noise-check", "snr-graded", "predict_x0-task"),
    "an emoji in a comment": comment("\U0001f600 ä"),
    "half a surrogate in a comment": comment("\ud83d"),
    "kinds of cells that nobody knows": headings,
    "the answer in a cell of one's own": in_a_cell_of_ones_own,
    "a second attempt in a copy of the cell": rewritten_below,
    "the answer as markdown": answer_as("markdown"),
    "the answer as raw text": answer_as("raw"),
    "tabs": lambda notebook: [
        cell.update(source=cell["source"].replace("    ", "\t"))
        for cell in code(notebook)
        if cell["source"].startswith("def ")
    ],
    "cell magic": lambda notebook: named(notebook, "snr-answer").update(
        source="%%time\n" + RIGHT["snr"]
    ),
    "shell and magic": before("snr-answer", "!echo hello\n%matplotlib inline"),
    "made for Colab": before(
        "add_noise-answer", "from google.colab import drive\ndrive.mount('/')"
    ),
    "asks for a number": before("add_noise-answer", "input('Which t? ')"),
}


def encoded(encoding: str, mark: bytes = b""):
    return lambda text: mark + text.encode(encoding)


FILES = {
    "a byte-order mark": encoded("utf-8-sig"),
    "UTF-16": encoded("utf-16"),
    "UTF-16, big end first": encoded("utf-16-be", b"\xfe\xff"),
    "UTF-16 without a mark": encoded("utf-16-le"),
    "UTF-32": encoded("utf-32"),
    "another code page": lambda text: text.replace("\\u00e4", "ä").encode("cp1252", "ignore"),
    "blank lines before and nothing after": lambda text: b"\n\n" + text.encode() + b"\n\0\0",
    "line breaks inside texts": lambda text: text.replace("\\n", "\n").encode(),
}

PLACES = {
    "another file name": "my homework.ipynb",
    "saved twice": f"{ONE} (1).ipynb",
    "a copy in the cloud": f"Copy of {ONE}.ipynb",
    "in a folder of its name": f"{ONE}.ipynb/{ONE}.ipynb",
    "in capitals": f"{ONE.upper()}.IPYNB",
    "an ending more": f"{ONE}.ipynb.txt",
    "an ending of its own": f"{ONE}.json",
    "no ending": ONE,
    "in a folder": f"homework/{ONE}.ipynb",
    "a lone brackets' name": f"{ONE}[final].ipynb",
}


def in_a_zip_file(folder: Path, text: str):
    with zipfile.ZipFile(folder / "homework.zip", "w") as archive:
        archive.writestr(f"homework/{ONE}.ipynb", text)
        archive.writestr(f"__MACOSX/homework/._{ONE}.ipynb", "\0")


def beside_an_untouched_one(folder: Path, text: str, given: str):
    (folder / f"{ONE}.ipynb").write_text(given)
    (folder / f"{ONE}-Copy1.ipynb").write_text(text)


def beside_a_checkpoint(folder: Path, text: str, given: str):
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / f"{ONE}-checkpoint.ipynb").write_text(text)
    (folder / f"._{ONE}.ipynb").write_bytes(b"\0\5\26\7")
    (folder / f"{ONE}.ipynb").write_text(text)


NAMES = ["ada ", "ada [2]", "O'Neil, Zoë", "*", "-ada", "ada.b@c.org", "王芳", "a&b <i>"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Everybody of the corpus has handed in the same three right answers."""
    pytest.importorskip("nbgrader", reason="nbgrader is missing: install the extra teach")
    folder = tmp_path_factory.mktemp("odd")
    classroom.assign(folder, ["01"])
    given = (folder / "release" / ONE / f"{ONE}.ipynb").read_text()
    right = json.loads(given)
    for cell in right["cells"]:
        cell["source"] = "".join(cell["source"])
    for name, answer in RIGHT.items():
        named(right, f"{name}-answer")["source"] = answer
    text = json.dumps(right)

    def place(student: str) -> Path:
        where = folder / "submitted" / student / ONE
        where.mkdir(parents=True)
        return where

    for kind, edit in (NOTEBOOKS | OWN).items():
        notebook = json.loads(text)
        edit(notebook)
        (place(kind) / f"{ONE}.ipynb").write_text(json.dumps(notebook))
    for kind, encode in FILES.items():
        notebook = json.loads(text)
        comment("ä")(notebook)
        (place(kind) / f"{ONE}.ipynb").write_bytes(encode(json.dumps(notebook)))
    for kind, name in PLACES.items():
        path = place(kind) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    in_a_zip_file(place("in a zip file"), text)
    beside_an_untouched_one(place("beside an untouched one"), text, given)
    beside_a_checkpoint(place("beside a checkpoint"), text, given)
    for name in NAMES:
        (place(name) / f"{ONE}.ipynb").write_text(text)
    return folder


@pytest.fixture(scope="module")
def handed_in(course):
    """Each one's notebook as it will be graded, and the names of what was handed out."""
    given = submissions.releases(course)
    found, astray = submissions.find(course, given)
    assert len(found) == len({each.student for each in found}) and not astray
    return submissions.handed_out(given[ONE]), {
        each.student: submissions.choose(each.contents(), ONE, given[ONE])[0] for each in found
    }


def cells(notebook) -> list[tuple[str, str]]:
    return [
        (cell.metadata.get("nbgrader", {}).get("grade_id"), submissions.plain(cell.source))
        for cell in notebook.cells
    ]


@pytest.mark.parametrize("kind", [*NOTEBOOKS, *PLACES, *NAMES, "in a zip file"])
def test_what_is_graded_is_the_plain_notebook(handed_in, kind):
    """However it was saved, every cell is there with its mark, and nothing that can trip."""
    notebook = handed_in[1][kind]
    assert cells(notebook) == cells(handed_in[1]["plain"])
    nbformat.validate(notebook)
    nbformat.writes(notebook).encode()


@pytest.mark.parametrize("kind", [*OWN, *FILES, "beside an untouched one", "beside a checkpoint"])
def test_what_is_graded_holds_the_answers(handed_in, kind):
    known, notebooks = handed_in
    marked = {name for name, _ in cells(notebooks[kind]) if name}
    assert {name for name, (_, marks) in known.items() if marks["grade"]} <= marked
    sources = [source.expandtabs(4) for _, source in cells(notebooks[kind])]
    for answer in RIGHT.values():
        assert any(answer in source for source in sources)
    nbformat.validate(notebooks[kind])
    nbformat.writes(notebooks[kind]).encode()


def test_the_corpus_is_large(handed_in):
    assert len(handed_in[1]) >= 70


def test_none_loses_its_marks(course, tmp_path):
    """Those that are graded as another notebook than the plain one, and some of each other kind."""
    from cfd_course.classroom.grading import configuration, grade, open_gradebook

    some = [*OWN, *NAMES[:4], "plain", "widgets without state", "no outputs", "UTF-16"]
    some += ["cells' metadata lost", "half a surrogate in an error", "saved twice", "in a zip file"]
    some += ["in a folder of its name", "from Colab"]
    for folder in course.iterdir():
        if folder.name != "submitted":
            copy = shutil.copytree if folder.is_dir() else shutil.copy
            copy(folder, tmp_path / folder.name)
    for kind in some:
        shutil.copytree(course / "submitted" / kind, tmp_path / "submitted" / kind)
    results = {each.student: each.score for each in grade(tmp_path)[1]}
    assert results == dict.fromkeys(some, sum(FULL.values()))
    with open_gradebook(configuration(tmp_path)) as book:
        assert {each.id: each.submissions[0].score for each in book.students} == results
    assert grade(tmp_path)[0] == 0


def test_what_changed_is_graded_whatever_the_clock_says(course):
    """A resubmission whose files are older than the mark, as `nbgrader collect` leaves them."""
    given = submissions.releases(course)
    found, _ = submissions.find(course, given)
    (plain,) = (each for each in found if each.student == "plain")
    autograded = course / "autograded" / "plain" / ONE
    assert submissions.is_new(course, plain)
    autograded.mkdir(parents=True)
    shutil.copy(course / "release" / ONE / f"{ONE}.ipynb", autograded)
    submissions.remember(course, plain, fingerprint=submissions.fingerprint(plain.contents()))
    assert not submissions.is_new(course, plain)
    (path,) = plain.files.values()
    kept = path.read_text()
    os.utime(path)
    assert not submissions.is_new(course, plain)
    path.write_text(kept + " ")
    os.utime(path, (0, 0))
    assert submissions.is_new(course, plain)
    path.write_text(kept)
    shutil.rmtree(course / "autograded")
    assert submissions.is_new(course, plain)


def test_another_lessons_notebook_is_named(course):
    given = submissions.releases(course)[ONE]
    (path,) = (course / "submitted" / "plain" / ONE).glob("*.ipynb")
    other = path.read_text().replace("add_noise", "mul").replace("snr", "x").replace("predict", "y")
    for contents, words in {
        f"{ONE}.ipynb": (other, f"{ONE}.ipynb holds no exercise of {ONE}"),
        "a.ipynb": ("{", "a.ipynb is not a notebook that can be read"),
        "b.ipynb": ('{"cells": [3]}', "b.ipynb is not a notebook that can be read"),
        "c.docx": ("no", "c.docx is not a notebook that can be read"),
    }.items():
        with pytest.raises(submissions.Unreadable, match=re.escape(words[1])):
            submissions.choose({contents: words[0].encode()}, ONE, given)
    with pytest.raises(submissions.Unreadable, match="there is no notebook in it"):
        submissions.choose({}, ONE, given)


@pytest.mark.parametrize("count, size", [(60, 10**6), (2, 6 * 10**7)])
def test_what_is_packed_small_is_not_read_without_end(course, count, size):
    """Beside the right notebook a great many of nothing but blanks, or enormous ones."""
    given = submissions.releases(course)[ONE]
    right = (course / "submitted" / "plain" / ONE / f"{ONE}.ipynb").read_bytes()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("homework/right.ipynb", right)
        for number in range(count):
            archive.writestr(f"{number}.ipynb", b" " * size)
    contents = {"a.zip": file.getvalue(), "b.zip": file.getvalue()}
    read = submissions._notebooks(contents)
    assert sum(len(data) for _, data in read) <= 5 * 10**7
    assert "right.ipynb was graded" in submissions.choose(contents, ONE, given)[1]


def test_a_notebook_of_too_many_cells_is_refused():
    text = json.dumps({"cells": [{"cell_type": "code", "source": ""}] * 100_000})
    with pytest.raises(submissions.Unreadable, match="100000 cells are more than 1000"):
        submissions.read(text.encode())


# --- where it lies ---

MOODLES = "_assignsubmission_file_"


def lesson(*names: str) -> str:
    """A notebook with the answers of these exercises."""
    return nbformat.writes(
        nbformat.v4.new_notebook(
            cells=[
                new_code_cell(
                    f"def {name}(): pass",
                    metadata={
                        "nbgrader": {"grade_id": f"{name}-answer", "solution": True, "grade": False}
                    },
                )
                for name in names
            ]
        )
    )


LESSONS = {"01_a": ["add_noise", "snr"], "11_b": ["add_noise", "mend"]}


@pytest.fixture
def look(tmp_path):
    """What is found of what was put into submitted/."""
    assignments = {
        name: nbformat.reads(lesson(*exercises), 4) for name, exercises in LESSONS.items()
    }

    def look(files: dict[str, str]):
        for name, text in files.items():
            path = tmp_path / "submitted" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        found, astray = submissions.find(tmp_path, assignments)
        root = tmp_path / "submitted"
        return (
            {(each.student, each.assignment): each for each in found},
            sorted(path.relative_to(root).as_posix() for path in astray),
        )

    return look


def test_moodles_download_is_taken_as_it_is(look):
    """By folders and by files, with a group, at night under a number; a participant's lesson is
    known by its exercises, by the folder that it was put into, or by the file's name."""
    found, astray = look(
        {
            f"Ada Lovelace_1000001{MOODLES}/homework.ipynb": lesson("add_noise", "snr"),
            f"Group 1-Bo Ek_1000002{MOODLES}/x/11_b.ipynb": lesson("add_noise", "mend"),
            f"O'Neil, Zoë_1000003{MOODLES}01_a (1).ipynb": lesson("snr"),
            f"11_b/Participant_1000004{MOODLES}/a.ipynb": "cannot be read",
            f"11_b/Participant_1000005{MOODLES}/a.ipynb": lesson("mend"),
            f"download/Cy_1000006{MOODLES}/11_b.ipynb": "cannot be read",
            "Cy_1000006_assignsubmission_onlinetext_/onlinetext.html": "hello",
            "dan/01_a/01_a.ipynb": lesson("snr"),
            f"Nobody_1000007{MOODLES}/poem.txt": "a poem",
            "dan/02_c/02_c.ipynb": "",
            "notes.txt": "",
        }
    )
    assert {key: each.moodle for key, each in found.items()} == {
        ("Ada Lovelace", "01_a"): "Ada Lovelace_1000001",
        ("Group 1-Bo Ek", "11_b"): "Group 1-Bo Ek_1000002",
        ("O'Neil, Zoë", "01_a"): "O'Neil, Zoë_1000003",
        ("Participant 1000004", "11_b"): "Participant_1000004",
        ("Participant 1000005", "11_b"): "Participant_1000005",
        ("Cy", "11_b"): "Cy_1000006",
        ("dan", "01_a"): None,
    }
    assert list(found["Group 1-Bo Ek", "11_b"].files) == ["x/11_b.ipynb"]
    assert list(found["O'Neil, Zoë", "01_a"].files) == ["01_a (1).ipynb"]
    assert astray == [f"Nobody_1000007{MOODLES}", "dan/02_c", "notes.txt"]


def test_a_zip_file_from_moodle_is_opened_and_the_newest_counts(look, tmp_path):
    root = tmp_path / "submitted"
    root.mkdir()

    def download(name: str, files: dict[str, str], time: int):
        with zipfile.ZipFile(root / name, "w") as archive:
            for member, text in files.items():
                archive.writestr(member, text)
        os.utime(root / name, (time, time))

    ada, bo = f"Ada_1{MOODLES}/", f"Bo_2{MOODLES}/"
    download("course (1).zip", {ada + "b.ipynb": lesson("snr")}, 2000)
    download("course.zip", {ada + "a.ipynb": lesson("snr"), bo + "a.ipynb": lesson("snr")}, 1000)
    download("homework.zip", {"a.ipynb": lesson("snr")}, 3000)
    download("evil.zip", {f"../../Eve_3{MOODLES}/a.ipynb": lesson("snr")}, 4000)
    (root / "no.zip").write_text("no zip file")
    for _ in range(2):  # the same again
        found, astray = look({})
        assert {student for student, _ in found} == {"Ada", "Bo", "Eve"}
        assert list(found["Ada", "01_a"].files) == ["b.ipynb"]
        assert astray == ["homework.zip", "no.zip"]
        assert {path.name for path in tmp_path.iterdir()} == {"submitted"}


def test_names_never_lead_out_of_the_course_or_to_somebody_else(look):
    found, astray = look(
        {
            f".._1{MOODLES}/a.ipynb": lesson("snr"),
            f"Jo Li_2{MOODLES}/a.ipynb": lesson("snr"),
            f"Jo Li_3{MOODLES}/a.ipynb": lesson("snr"),
            f"x/Jo Li_4{MOODLES}/a.ipynb": lesson("mend"),
        }
    )
    assert set(found) == {
        (".. 1", "01_a"),
        ("Jo Li 2", "01_a"),
        ("Jo Li 3", "01_a"),
        ("Jo Li 4", "11_b"),
    }
    assert not astray


def test_what_a_participant_named_is_nobody_elses(look, tmp_path):
    """Folders and files inside a participant's own that look like another participant's."""
    root = tmp_path / "submitted"
    root.mkdir()
    with zipfile.ZipFile(root / "course.zip", "w") as archive:
        archive.writestr(f"Bo_2{MOODLES}/a.ipynb", lesson("add_noise", "snr"))
        for name in (f"x/Bo_2{MOODLES}/b.ipynb", f"x/y/Bo_2{MOODLES}b.ipynb", "mine.ipynb"):
            archive.writestr(f"Eve_1{MOODLES}/{name}", lesson("snr"))
    found, astray = look({f"Cy_3{MOODLES}Bo_2{MOODLES}.ipynb": lesson("snr")})
    files = {student: sorted(each.files) for (student, _), each in found.items()}
    assert files["Bo"] == ["a.ipynb"] and "mine.ipynb" in files["Eve"]
    assert files["Cy"] == [f"Bo_2{MOODLES}.ipynb"] and len(files) == 3 and not astray


def test_names_in_bytes_that_are_no_text_can_be_written(look):
    found, astray = look({"Zo\udceb/01_a/Fr\udcfch.ipynb": lesson("snr")})
    assert list(found) == [("Zo\\xeb", "01_a")] and not astray
    assert submissions.shown("Fr\udcfch\x1b[2J\n") == "Fr\\udcfch\\x1b[2J\\n"


def test_of_what_is_too_much_the_notebook_stays(look, tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "LARGEST", 20_000)
    folder = tmp_path / "submitted" / "ada" / "01_a"
    folder.mkdir(parents=True)
    for number in range(1, 9):
        (folder / f"{number}.png").write_bytes(bytes(1000 * number))
    found, _ = look({"ada/01_a/01_a.ipynb": lesson("snr") + " " * 10_000})
    assert sorted(found["ada", "01_a"].files) == ["01_a.ipynb", "1.png", "2.png", "3.png"]


def test_nothing_that_was_handed_in_is_in_the_way(tmp_path):
    """Of the notebook, or of nbgrader."""
    contents = {"01_a.ipynb/01_a.ipynb": b"{}", "01_a.ipynb/x.py": b"", "src/x.py": b"x = 1"}
    for text, kept in ((b"2026-11-27 10:00:00 UTC", True), (b"how long it took", False), (b"", 0)):
        folder = tmp_path / text.decode()[:3] / "of"
        folder.mkdir(parents=True)
        submissions.put({**contents, "timestamp.txt": text}, folder, "01_a.ipynb")
        assert (folder / "timestamp.txt").exists() == kept
        assert (folder / "src" / "x.py").exists() and not (folder / "01_a.ipynb").exists()


def test_links_pipes_and_checkpoints_are_no_part_of_a_submission(look, tmp_path):
    folder = tmp_path / "submitted" / "ada" / "01_a"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / ".ipynb_checkpoints" / "01_a.ipynb").write_text("old")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        os.symlink("/etc/passwd", folder / "link")
        os.symlink("/etc", folder / "folder")
    found, astray = look({"ada/01_a/01_a.ipynb": lesson("snr"), "ada/01_a/helper.py": "x = 1"})
    assert sorted(found["ada", "01_a"].files) == ["01_a.ipynb", "helper.py"] and not astray
