"""Answers that are alike: a hint for the teacher, and no proof.

After Schleimer, Wilkerson and Aiken, "Winnowing" (2003): of two texts, what runs of words they
share. Layout, comments, docstrings and the names of variables do not count.
"""

import ast
import re
from itertools import combinations

RUN = 5  # words
FEWEST = 30  # runs: shorter answers are alike by themselves
ALIKE = 0.8  # of the runs that either has


def alike(answers: dict[str, dict[str, str]]) -> list[tuple[float, str, str]]:
    """The pairs of students whose answers share most, with the share (0 to 1), the largest first.

    answers: by student and exercise."""
    runs = {
        student: {(name, *run) for name, source in theirs.items() for run in _runs(source)}
        for student, theirs in answers.items()
    }
    runs = {student: found for student, found in runs.items() if len(found) >= FEWEST}
    shares = (
        (len(runs[a] & runs[b]) / len(runs[a] | runs[b]), a, b) for a, b in combinations(runs, 2)
    )
    return sorted(each for each in shares if each[0] >= ALIKE)[::-1]


def _runs(source: str) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+|[^\w\s]", _plain(source))
    return [tuple(words[i : i + RUN]) for i in range(max(0, len(words) - RUN + 1))]


def _plain(source: str) -> str:
    try:
        return _renamed(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a mistake, or for IPython
        return source


def _renamed(tree: ast.Module) -> str:
    numbers: dict[str, str] = {}
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and ast.get_docstring(node) is not None
        ):
            node.body[0] = ast.Pass()
        if isinstance(node, ast.arg):
            numbers.setdefault(node.arg, f"_{len(numbers)}")
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            numbers.setdefault(node.id, f"_{len(numbers)}")
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.arg = numbers[node.arg]
        if isinstance(node, ast.Name):
            node.id = numbers.get(node.id, node.id)
    return ast.unparse(tree)
