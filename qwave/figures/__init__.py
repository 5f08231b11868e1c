"""Pictures of a fold, of a front, and the report of a study."""

from __future__ import annotations

from qwave.figures.fold import FoldFigures
from qwave.figures.front import front_png
from qwave.figures.points import FrontPoint, attainment_staircase, size_text
from qwave.figures.report import report_html

__all__ = [
    "FoldFigures",
    "FrontPoint",
    "attainment_staircase",
    "front_png",
    "report_html",
    "size_text",
]
