"""A trial of a sweep becomes a model to hand over: refitted, packed, proven, described."""

from qwave.exporting.budgets import (
    aliases_of,
    best_within,
    budget_alias,
    budget_aliases,
    parse_size,
)
from qwave.exporting.handover import Candidate, ExportedModel, export_model, register_export
from qwave.exporting.models import HandedOver, export
from qwave.exporting.onnx_file import require_onnx
from qwave.exporting.record import Search
from qwave.exporting.verify import Agreement, VerificationError

__all__ = [
    "Agreement",
    "Candidate",
    "ExportedModel",
    "HandedOver",
    "Search",
    "VerificationError",
    "aliases_of",
    "best_within",
    "budget_alias",
    "budget_aliases",
    "export",
    "export_model",
    "parse_size",
    "register_export",
    "require_onnx",
]
