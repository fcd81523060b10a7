"""Learners' copies of the notebooks and their progress; a class, its assignments and marks.

`grading` and `report` need nbgrader, the extra for teachers, and are imported by themselves.
"""

from .assignments import assign as assign
from .copies import Progress as Progress
from .copies import make_copies as make_copies
from .copies import progress as progress
from .notebooks import CODE_STUB as CODE_STUB
from .notebooks import TEXT_STUB as TEXT_STUB
from .notebooks import exercise_of as exercise_of
from .notebooks import lessons as lessons
from .notebooks import needed as needed
from .notebooks import points_of as points_of
from .notebooks import without_solutions as without_solutions
