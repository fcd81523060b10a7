"""The question bank: four questions a lesson, and the same in both files."""

import re
import tomllib
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter

import pytest

from cfd_course.classroom import lessons
from cfd_course.classroom.questions import write_questions
from cfd_course.datasets import data_path

SOURCE = data_path(".").parent / "docs" / "questions.toml"


@pytest.fixture(scope="module")
def bank():
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))["question"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("bank") / "new")


def test_every_lesson_has_four_questions_with_four_answers_each(bank):
    counts = Counter(each["lesson"] for each in bank)
    assert counts == {path.stem[:2]: 4 for path in lessons() if path.stem[:2] in counts}
    assert len(counts) >= 12
    assert len({each["ask"] for each in bank}) == len(bank)
    for each in bank:
        assert set(each) == {"lesson", "ask", "right", "wrong", "why"}
        assert len({each["right"], *each["wrong"]}) == 4


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text).strip()


def test_moodles_file_says_what_the_source_says(written, bank):
    """Read by GIFT's rules: what is escaped is text, = the right answer, ~ a wrong one."""
    text = written[0].read_text(encoding="utf-8")
    form = r"::(\d\d_\d)::((?:\\.|[^\\{])*)\{((?:\\.|[^\\}])*)\}"
    found = re.findall(form, text, re.DOTALL)
    assert len(found) == len(bank)
    for (name, ask, inside), each in zip(found, bank, strict=True):
        answers, _, why = inside.partition("####")
        parts = re.findall(r"([=~])((?:\\.|[^\\=~])*)", answers, re.DOTALL)
        assert name.startswith(each["lesson"]) and unescaped(ask) == each["ask"]
        assert [unescaped(words) for kind, words in parts if kind == "="] == [each["right"]]
        assert [unescaped(words) for kind, words in parts if kind == "~"] == each["wrong"]
        assert unescaped(why) == each["why"]
    assert text.count("$CATEGORY: ") == len({each["lesson"] for each in bank})


def test_canvas_file_says_what_the_source_says(written, bank):
    with zipfile.ZipFile(written[1]) as archive:
        pages = {name: ElementTree.fromstring(archive.read(name)) for name in archive.namelist()}
    files = {each.get("href") for each in pages["imsmanifest.xml"].iter() if each.get("href")}
    assert files == pages.keys() - {"imsmanifest.xml"}
    space = "{http://www.imsglobal.org/xsd/ims_qtiasiv1p2}"
    items = [item for name in sorted(files) for item in pages[name].iter(f"{space}item")]
    assert len(items) == len(bank)
    places = Counter()
    for item, each in zip(items, sorted(bank, key=lambda each: each["lesson"]), strict=True):
        labels = {
            label.get("ident"): "".join(label.itertext()).strip()
            for label in item.iter(f"{space}response_label")
        }
        right = next(item.iter(f"{space}varequal")).text
        assert labels.pop(right) == each["right"] and list(labels.values()) == each["wrong"]
        assert next(item.iter(f"{space}mattext")).text == each["ask"]
        places[right] += 1
    assert len(places) == 4  # not always the same letter


def test_students_do_not_get_the_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("cfd_course.classroom.questions.data_path", lambda _: tmp_path / "data")
    with pytest.raises(FileNotFoundError, match="comes with a checkout"):
        write_questions(tmp_path)
