"""Where the report was before there was a classroom."""

from .classroom.report import report as report
