"""The record that people browse, and the registry that models are fetched from: MLflow."""

from qwave.tracking.registry import RegisteredModel, register_model
from qwave.tracking.tracker import DatasetInput, Tracker, ui_command

__all__ = ["DatasetInput", "RegisteredModel", "Tracker", "register_model", "ui_command"]
