"""Pictures of a fold, of a front, and the report of a study."""

from __future__ import annotations

from qwave.report.curiosity import CuriosityFigures
from qwave.report.estimates import SizedEstimate, estimates_png, forest_png
from qwave.report.fold import FoldFigures
from qwave.report.front import front_png
from qwave.report.headline import headline, leading_steps
from qwave.report.study_page import Section, study_html
from qwave.report.sweep_page import Records, report_html
from qwave.report.table import Cell, Column, Table, size_text, terminal_width
from qwave.report.timeline import timeline_png

__all__ = [
    "Cell",
    "Column",
    "CuriosityFigures",
    "FoldFigures",
    "Records",
    "Section",
    "SizedEstimate",
    "Table",
    "estimates_png",
    "forest_png",
    "front_png",
    "headline",
    "leading_steps",
    "report_html",
    "size_text",
    "study_html",
    "terminal_width",
    "timeline_png",
]
