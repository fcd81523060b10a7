"""What Sphinx is told about this course: formulas as MathML, which browsers show by themselves, and
docstrings that are plain English."""

import html
import re
import textwrap
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from formulas import latex, with_formulas

# In MathML brackets grow by themselves, and nothing is numbered.
NEEDLESS = re.compile(r"\\[bB]igg?[lrm]?(?![a-zA-Z])|\\label\{[^}]*\}")
ANOTHER_NAME = {
    r"\dots": r"\ldots",
    r"\lVert": r"\|",
    r"\rVert": r"\|",
    r"\texttt": r"\text",
    r"\_": "_",  # in the name of something in code
}
# In LaTeX \frac12 is a half; docutils takes 12 for one number, over what follows.
FRACTION_OF_DIGITS = re.compile(r"(\\[dt]?frac)\s*(\d)\s*(\d)")
# docutils takes the index of an accented letter for one of the accent.
ACCENTED = re.compile(r"(\\(?:hat|bar|tilde|vec))\s*(\\[a-zA-Z]+|[a-zA-Z]|\{[^{}]*\})")
# Between a function's name and its argument LaTeX leaves a little room.
FUNCTION = re.compile(r"\\(log|exp|max|min)(?=\s*[a-zA-Z])")
MATHML = "http://www.w3.org/1998/Math/MathML"
MODULE = re.compile(r"~(?:\w+\.~?)+")  # before a type's name
LONG = 60  # letters: what may be wider than a telephone, and can then be moved to and fro
INLINE = re.compile(r"(?<![\\$])\$([^$\n]+)\$")
ENTITY = re.compile(r"&(?!lt;|gt;|amp;)\w+;")  # which HTML knows, and XML doesn't
ITEM = re.compile(r"[a-z_]\w*(, [a-z_]\w*)*: ")


def mathml(formula: str, block: bool = False) -> str:
    """LaTeX -> a <math> element. Raises a ValueError that names a formula it can't read."""
    plain = ACCENTED.sub(r"{{}\1{\2}}", NEEDLESS.sub("", formula))
    plain = FUNCTION.sub(r"\\\1\\,", plain)
    plain = FRACTION_OF_DIGITS.sub(r"\1{\2}{\3}", plain)
    for name, known in ANOTHER_NAME.items():
        plain = plain.replace(name, known)
    try:
        shown = latex2mathml.tex2mathml(plain.strip(), block)
    except (MathError, SyntaxError) as error:
        raise ValueError(f"{formula.strip()!r} can't be shown as MathML: {error}") from error
    if "⏟" not in shown:
        return shown
    ElementTree.register_namespace("", MATHML)
    tree = ElementTree.fromstring(ENTITY.sub(lambda found: html.unescape(found[0]), shown))
    for index in tree.iter(f"{{{MATHML}}}msub"):
        if index[0].tag.endswith("munder") and index[0][1].text == "⏟":
            index.tag = f"{{{MATHML}}}munder"  # docutils puts the words beside the brace
    return ElementTree.tostring(tree, encoding="unicode")


def in_line(text: str) -> str:
    """The text with its $formulas$ as MathML, each without a line's end."""
    return INLINE.sub(lambda found: mathml(found[1]).replace("\n", " "), text)


def show_inline(writer, node: nodes.math) -> None:
    formula = mathml(node.astext())
    if len(node.astext()) > LONG:
        formula = f'<span class="long formula">{formula}</span>'
    writer.body.append(formula)
    raise nodes.SkipNode


def show_block(writer, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def plain_english(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are written to be read as they are: asterisks are products, and what is indented
    goes on with the line above it. Here they become reStructuredText, in place."""
    paragraphs = []
    for paragraph in textwrap.dedent("\n".join(lines)).split("\n\n"):
        rows = paragraph.splitlines()
        if any(map(ITEM.match, rows)):
            items = []
            for row in rows:
                if ITEM.match(row) or not items:
                    items.append(row.strip())
                else:
                    items[-1] += " " + row.strip()
            for item in items:
                paragraphs.append(("- " if ITEM.match(item) else "") + escaped(item))
        elif rows and all(row.startswith("    ") for row in rows):
            paragraphs.append(displayed(rows) or "::\n\n" + "\n".join(rows))
        else:
            paragraphs.append(escaped(" ".join(row.strip() for row in rows)))
    lines[:] = "\n\n".join(paragraphs).splitlines()


def displayed(rows: list[str]) -> str:
    """The equations that indented lines hold, each on a line of its own; "" if that isn't all."""
    lines: list[str] = []
    for row in rows:
        if " = " in row:
            lines.append("")
        elif not lines:
            return ""
        lines[-1] += " " + row.strip()
    found = [with_formulas(line.strip()) for line in lines]
    if any(piece for pieces in found for piece in pieces[::2]):
        return ""
    return "\n\n".join(f".. math:: {latex(equation)}" for _, equation, _ in found)


def escaped(text: str) -> str:
    """Text without any mark-up but `code` and equations."""
    parts = re.split(r"`([^`]+)`", text)
    parts[::2] = (in_words(part) for part in parts[::2])
    parts[1::2] = (f"\\ ``{part}``\\ " for part in parts[1::2])
    return "".join(parts)


def in_words(text: str) -> str:
    pieces = with_formulas(text)
    pieces[::2] = (re.sub(r"([\\*`|_])", r"\\\1", piece) for piece in pieces[::2])
    pieces[1::2] = (f"\\ :math:`{latex(equation)}`\\ " for equation in pieces[1::2])
    return "".join(pieces)


def plain_types(app, what, name, obj, options, signature, returns):
    """A signature whose Annotated[type, limits, advice] is the type alone, by its short name."""
    return signature and MODULE.sub("", without_limits(signature)), returns


def without_limits(text: str) -> str:
    before, found, after = text.partition("Annotated[")
    if not found:
        return text
    depth, ends = 0, []  # of the type, and of all that belongs to it
    for place, letter in enumerate(after):
        depth += (letter in "[(") - (letter in "])")
        if depth == 0 and letter == "," and not ends:
            ends.append(place)
        if depth < 0:
            return before + without_limits(after[: ends[0]] + after[place + 1 :])
    return text


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (show_inline, None), (show_block, None))
    app.connect("autodoc-process-docstring", plain_english)
    app.connect("autodoc-process-signature", plain_types)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
