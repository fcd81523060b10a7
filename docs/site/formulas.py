"""The equations of docstrings, such as v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0."""

import re

GREEK = r"alpha_bar|alpha|beta|lambda|pi"
WORDS = "noise|mean|variance|average|network|decay|offset"
NAME = rf"\b(?:(?:{GREEK}|x)(?:_[0-9a-zA-Z])?|{WORDS}|sqrt|log|cos|[fqstvT])\b"
NUMBER = r"\b\d+(?:\.\d+)?(?:e-\d+)?"
TOKEN = rf"(?:{NAME}|{NUMBER}|\.\.\.|[-+*/()^])"
EQUATION = re.compile(rf"({NAME}(?:\([0t]\))?) = ({TOKEN}(?:\s*{TOKEN})*)")
SYMBOL = re.compile(r"\b(?:(?:alpha_bar|alpha|beta)(?:_[0-9a-zA-Z])?|x_[0stT])\b")


def with_formulas(text: str) -> list[str]:
    """The text in pieces, prose and formulas in turn: equations, and symbols by themselves. What
    leads on from an equation in brackets or to words is prose."""
    pieces: list[str] = []
    for piece in _equations(text):
        if len(pieces) % 2:  # an equation
            pieces.append(piece)
            continue
        end = 0
        for found in SYMBOL.finditer(piece):
            pieces += [piece[end : found.start()], found[0]]
            end = found.end()
        pieces.append(piece[end:])
    return pieces


def _equations(text: str) -> list[str]:
    pieces, end = [], 0
    for found in EQUATION.finditer(text):
        right = found[2].rstrip(" +-*/(^")
        while right.count(")") > right.count("("):
            right = right[: right.rindex(")")].rstrip(" +-*/(^")
        if right and right.count("(") == right.count(")"):
            pieces += [text[end : found.start()], f"{found[1]} = {right}"]
            end = found.start(2) + len(right)
    return [*pieces, text[end:]]


def latex(equation: str) -> str:
    """A formula as docstrings write it -> LaTeX."""
    while (start := equation.find("sqrt(")) >= 0:
        depth, place = 1, start + len("sqrt(")
        while depth:
            depth += (equation[place] == "(") - (equation[place] == ")")
            place += 1
        inside = equation[start + len("sqrt(") : place - 1]
        equation = f"{equation[:start]}\\root{{{inside}}}{equation[place:]}"
    equation = re.sub(r"(\d)e-(\d+)", r"\1 \\cdot 10^{-\2}", equation)
    equation = equation.replace("...", r"\cdots").replace("*", r"\cdot ")
    equation = re.sub(rf"\b({WORDS})\b", r"\\,\\text{\1}", equation)
    equation = re.sub(r"\b(alpha|beta|lambda|pi|log|cos)(?=\b|_)", r"\\\1 ", equation)
    equation = re.sub(r"\\alpha _bar", r"\\bar\\alpha ", equation).replace(" _", "_")
    return equation.replace(r"\root", r"\sqrt").strip()
