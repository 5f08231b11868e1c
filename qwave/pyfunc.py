"""A packed model as MLflow loads it: the loader module of the models that qwave registers.

MLflow imports this module from the model's folder, which carries the source that it needs, and
calls `_load_pyfunc` with the packed file. Nothing is unpickled.

Shapes: n clips, d features, c classes.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from qwave.config import QwaveError
from qwave.runtime import PackedClassifier, as_float32, load_packed


class PackedPyfunc:
    """The model as MLflow calls it: a table of embeddings to a table of predictions."""

    def __init__(self, classifier: PackedClassifier) -> None:
        self.classifier = classifier

    def predict(self, x: Any) -> pd.DataFrame:
        """One row of answers a clip, as the runtime gives them.

        A column a class, because MLflow writes a table as one JSON object a row: who reads it
        needs no list of classes beside it, and the signature shows the classes.

        Args:
            x: Raw embeddings, [n, d] numbers of any type, or the d numbers of one clip: an array,
                a list, a `DataFrame` with its columns in the order of the features, or what
                serving makes of named columns, a dictionary of them. Equal numbers give equal
                answers.

        Returns:
            n rows; `label`, the name of the likeliest class, among equals the first; its
            `probability`; `mutual_information`, the curiosity in nats; and ``p_<class>`` for each
            class, which sum to 1. All but the label are float32.

        Raises:
            QwaveError: x is not numbers, has the wrong width, or is not finite.
        """
        rows = as_float32(_as_table(x) if isinstance(x, dict) else x)
        if rows.shape == (self.classifier.packed.header.in_features,):
            rows = rows[None]
        answers = self.classifier.examine(rows)
        names = self.classifier.class_names
        table = pd.DataFrame(answers.probabilities, columns=[f"p_{name}" for name in names])
        table.insert(0, "label", [names[i] for i in answers.probabilities.argmax(axis=1)])
        table.insert(1, "probability", answers.probabilities.max(axis=1))
        table.insert(2, "mutual_information", answers.mutual_information)
        return table


def _as_table(columns: dict[str, Any]) -> pd.DataFrame:
    try:
        return pd.DataFrame(columns)
    except ValueError as error:
        raise QwaveError(f"x must be columns of one length: {error}") from error


def _load_pyfunc(data_path: str) -> PackedPyfunc:
    """Load a packed file; MLflow requires this name of a loader module.

    Raises:
        PackedFileError: The file is missing, damaged, or of another version.
    """
    return PackedPyfunc(load_packed(data_path))
