"""Pictures of a fold, of a front, and the report of a study."""

from __future__ import annotations

from qwave.report.estimates import SizedEstimate, curves_png, estimates_png, forest_png
from qwave.report.fold import FoldFigures
from qwave.report.front import front_png
from qwave.report.headline import headline, leading_steps
from qwave.report.panel import Records
from qwave.report.points import size_text
from qwave.report.report import report_html
from qwave.report.study_page import Section, study_html
from qwave.report.table import Cell, Column, Estimate, Table
from qwave.report.timeline import timeline_png

__all__ = [
    "Cell",
    "Column",
    "Estimate",
    "FoldFigures",
    "Records",
    "Section",
    "SizedEstimate",
    "Table",
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
