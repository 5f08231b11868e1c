"""What a store is: its folder and lock, Optuna's storage, MLflow's record, the model registry."""

from __future__ import annotations

from qwave.store.folder import (
    Store,
    check_store,
    has_studies,
    made_report_folder,
    opened_store,
)
from qwave.store.origin import DatasetInput
from qwave.store.registry import RegisteredModel, register_model
from qwave.store.tracker import Tracker

__all__ = [
    "DatasetInput",
    "RegisteredModel",
    "Store",
    "Tracker",
    "check_store",
    "has_studies",
    "made_report_folder",
    "opened_store",
    "register_model",
]
