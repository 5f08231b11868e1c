"""A trial of a sweep becomes a model to hand over: refitted, packed, proven, described."""

from qwave.export.budgets import (
    aliases_of,
    best_within,
    budget_alias,
    budget_aliases,
    parse_size,
)
from qwave.export.handover import Candidate, ExportedModel, export_model, register_export
from qwave.export.onnx_file import require_onnx
from qwave.export.record import DATA_ADVICE, Search
from qwave.export.verify import Agreement, VerificationError

__all__ = [
    "DATA_ADVICE",
    "Agreement",
    "Candidate",
    "ExportedModel",
    "Search",
    "VerificationError",
    "aliases_of",
    "best_within",
    "budget_alias",
    "budget_aliases",
    "export_model",
    "parse_size",
    "register_export",
    "require_onnx",
]
