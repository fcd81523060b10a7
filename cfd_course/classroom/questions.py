"""The question bank, from one source: GIFT for Moodle, QTI 1.2 for Canvas."""

import tomllib
import zipfile
from collections import defaultdict
from pathlib import Path
from xml.sax.saxutils import escape

from ..datasets import data_path
from ..files import replacing

MANIFEST = """<?xml version="1.0" encoding="UTF-8"?>
<manifest identifier="cfd" xmlns="http://www.imsglobal.org/xsd/imscp_v1p1">
<metadata><schema>IMS Content</schema><schemaversion>1.1.3</schemaversion></metadata>
<organizations/><resources>{resources}</resources></manifest>
"""
RESOURCE = (
    '<resource identifier="{name}" type="imsqti_xmlv1p2"><file href="{name}.xml"/></resource>'
)
LESSON = """<?xml version="1.0" encoding="UTF-8"?>
<questestinterop xmlns="http://www.imsglobal.org/xsd/ims_qtiasiv1p2">
<assessment ident="{name}" title="Lesson {lesson}"><section ident="root_section">{items}
</section></assessment></questestinterop>
"""
FIELD = (
    "<qtimetadatafield><fieldlabel>{}</fieldlabel><fieldentry>{}</fieldentry></qtimetadatafield>"
)
KIND = FIELD.format("question_type", "multiple_choice_question")
KIND += FIELD.format("points_possible", 1)
KIND = f"<itemmetadata><qtimetadata>{KIND}</qtimetadata></itemmetadata>"
ITEM = """
<item ident="{name}" title="{name}">{kind}
<presentation>{ask}<response_lid ident="answer" rcardinality="Single"><render_choice>{choices}
</render_choice></response_lid></presentation>
<resprocessing><outcomes><decvar maxvalue="100" minvalue="0" varname="SCORE" vartype="Decimal"/>
</outcomes><respcondition continue="Yes"><conditionvar><other/></conditionvar>
<displayfeedback feedbacktype="Response" linkrefid="general_fb"/></respcondition>
<respcondition continue="No"><conditionvar><varequal respident="answer">{right}</varequal>
</conditionvar><setvar action="Set" varname="SCORE">100</setvar></respcondition></resprocessing>
<itemfeedback ident="general_fb"><flow_mat>{why}</flow_mat></itemfeedback></item>"""


def write_questions(to: str | Path) -> list[Path]:
    """Write questions.gift and questions_qti.zip into a folder. Returns their paths."""
    source = data_path(".").parent / "docs" / "questions.toml"
    if not source.exists():
        raise FileNotFoundError(
            f"there is no {source}: the question bank comes with a checkout of the course, not "
            "with the installed package, which students have too."
        )
    with open(source, "rb") as file:
        questions = tomllib.load(file)["question"]
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    gift, qti = folder / "questions.gift", folder / "questions_qti.zip"
    with replacing(gift) as partial:
        partial.write_text(_gift(questions), encoding="utf-8")
    with replacing(qti) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, text in _qti(questions).items():
            archive.writestr(name, text)
    return [gift, qti]


def _numbered(questions: list[dict]) -> dict[str, dict[str, dict]]:
    """By lesson and name: 01_1, 01_2, ..."""
    found = defaultdict(dict)
    for each in questions:
        theirs = found[each["lesson"]]
        theirs[f"{each['lesson']}_{len(theirs) + 1}"] = each
    return found


def _gift(questions: list[dict]) -> str:
    parts = []
    for lesson, theirs in _numbered(questions).items():
        parts.append(f"$CATEGORY: $course$/Classifier-free diffusion/Lesson {lesson}\n")
        for name, each in theirs.items():
            wrong = [f"~{_plain(answer)}" for answer in each["wrong"]]
            lines = "\n".join([f"={_plain(each['right'])}", *wrong])
            parts.append(
                f"::{name}::{_plain(each['ask'])} {{\n{lines}\n####{_plain(each['why'])}\n}}\n"
            )
    return "\n".join(parts)


def _plain(text: str) -> str:
    """GIFT's own characters, escaped."""
    return "".join(f"\\{each}" if each in "~=#{}:\\" else each for each in text)


def _qti(questions: list[dict]) -> dict[str, str]:
    files = {}
    for lesson, theirs in _numbered(questions).items():
        items = "".join(
            _item(name, each, place) for place, (name, each) in enumerate(theirs.items())
        )
        name = f"lesson_{lesson}"
        files[f"{name}.xml"] = LESSON.format(name=name, lesson=lesson, items=items)
    resources = "".join(RESOURCE.format(name=name.removesuffix(".xml")) for name in files)
    return {"imsmanifest.xml": MANIFEST.format(resources=resources), **files}


def _item(name: str, question: dict, place: int) -> str:
    answers = list(question["wrong"])
    answers.insert(place % (len(answers) + 1), question["right"])  # not always the first
    choices = "".join(
        f'\n<response_label ident="{number}">{_material(answer)}</response_label>'
        for number, answer in enumerate(answers)
    )
    return ITEM.format(
        name=name,
        kind=KIND,
        ask=_material(question["ask"]),
        choices=choices,
        right=answers.index(question["right"]),
        why=_material(question["why"]),
    )


def _material(text: str) -> str:
    return f'<material><mattext texttype="text/plain">{escape(text)}</mattext></material>'
