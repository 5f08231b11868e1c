"""Pictures of a fold, of a front, and the report of a study."""

from __future__ import annotations

from qwave.figures.estimates import SizedEstimate, curves_png, estimates_png, forest_png
from qwave.figures.fold import FoldFigures
from qwave.figures.front import front_png
from qwave.figures.headline import headline, leading_steps
from qwave.figures.panel import Records
from qwave.figures.points import FrontPoint, attainment_staircase, size_text
from qwave.figures.report import report_html
from qwave.figures.study_page import Section, study_html
from qwave.figures.table import Cell, Column, Estimate, Table
from qwave.figures.timeline import timeline_png

__all__ = [
    "Cell",
    "Column",
    "Estimate",
    "FoldFigures",
    "FrontPoint",
    "Records",
    "Section",
    "SizedEstimate",
    "Table",
    "attainment_staircase",
    "curves_png",
    "estimates_png",
    "forest_png",
    "front_png",
    "headline",
    "leading_steps",
    "report_html",
    "size_text",
    "study_html",
    "timeline_png",
]
