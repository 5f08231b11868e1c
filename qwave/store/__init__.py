"""What a store is: its folder and lock, MLflow's record, the registry of models, the reports."""

from __future__ import annotations

from qwave.store.folder import (
    check_journal,
    check_store,
    journal_path,
    made_report_folder,
    opened_store,
    repeats_folder,
    report_folder,
)
from qwave.store.registry import RegisteredModel, register_model
from qwave.store.tracker import DatasetInput, Tracker, ui_command

__all__ = [
    "DatasetInput",
    "RegisteredModel",
    "Tracker",
    "check_journal",
    "check_store",
    "journal_path",
    "made_report_folder",
    "opened_store",
    "register_model",
    "repeats_folder",
    "report_folder",
    "ui_command",
]
