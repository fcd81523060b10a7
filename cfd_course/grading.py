"""Where nbgrader_config.py of courses that were made before finds grading."""

from .classroom.grading import Graded as Graded
from .classroom.grading import Judge as Judge
from .classroom.grading import Tidy as Tidy
from .classroom.grading import grade as grade
