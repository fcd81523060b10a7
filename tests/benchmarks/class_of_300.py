"""`python -m tests.benchmarks.class_of_300`: a class of 300 hands in, is graded and reported on.

The submissions are those of the test's class over and over, the endless, the memory-hungry and the
broken among them. Prints the time, and fails if any mark is not what it should be. `--students 30`
for a smaller class, `--workers 4` for more graders at once than there are cores.
"""

import argparse
import tempfile
import time
import warnings
from itertools import cycle, islice
from pathlib import Path

from nbgrader.api import Gradebook
from tqdm import tqdm

from cfd_course.classroom import assign
from cfd_course.classroom.grading import grade
from cfd_course.classroom.report import report

from ..students import ONE, STUDENTS, TWO


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--students", type=int, default=300)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        course = Path(name)
        assign(course, [ONE, TWO])
        who = {}
        for number, kind in enumerate(islice(cycle(STUDENTS), options.students)):
            who[f"{number:03}_{kind}"] = STUDENTS[kind]
        for student, submission in who.items():
            submission.hand_in(course, student)
        start = time.monotonic()
        count, results = grade(course, options.workers)
        for _ in tqdm(results, total=count, unit="submission"):
            pass
        minutes = (time.monotonic() - start) / 60
        print(f"{count} submissions in {minutes:.1f} minutes: {60 * minutes / count:.1f} s each")
        start = time.monotonic()
        report(course)
        print(f"the report in {time.monotonic() - start:.1f} s")
        wrong = [
            student
            for student, submission in who.items()
            if not _right(course, student, submission)
        ]
    if wrong:
        raise SystemExit(f"wrong marks: {', '.join(wrong)}")
    print("Every mark is what it should be.")


def _right(course: Path, student: str, submission) -> bool:
    with (
        warnings.catch_warnings(),
        Gradebook(f"sqlite:///{course / 'gradebook.db'}", "cfd") as book,
    ):
        warnings.simplefilter("ignore")
        (notebook,) = book.find_submission(submission.lesson, student).notebooks
        found = {grade.name.removesuffix("-graded"): grade.score for grade in notebook.grades}
        return found == submission.marks


if __name__ == "__main__":
    main()
