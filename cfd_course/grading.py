"""Where nbgrader_config.py and scripts of courses that were made before find grading."""

from .classroom.grading import Graded as Graded
from .classroom.grading import Judge as Judge
from .classroom.grading import Tidy as Tidy
from .classroom.grading import configuration as configuration
from .classroom.grading import grade as grade
from .classroom.grading import open_gradebook as open_gradebook
