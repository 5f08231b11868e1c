"""The same model as an ONNX file: checked, run, and compared before it is handed over."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from qwave.config import ConfigError
from qwave.exporting.verify import Agreement, require_agreement
from qwave.runtime import PackedClassifier

ONNX_TOLERANCE = 1e-4
_MOST_ROWS = 256  # clips at a time: bounds the memory of a graph with MC-dropout


def require_onnx(purpose: str) -> None:
    """Refuse a machine without the libraries, before anything is trained.

    Args:
        purpose: The command or option that needs them, for the message.

    Raises:
        ConfigError: A library is not installed.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{purpose} needs {' and '.join(missing)}, which is not installed: "
            "pip install 'qwave[onnx]'"
        )


def write_onnx(model: PackedClassifier, x: np.ndarray, file: Path) -> Agreement:
    """Write a model as an ONNX graph, check it, and run it on clips.

    Args:
        model: The packed model.
        x: Raw embeddings, float32 [n, d], n >= 1.
        file: The file to write.

    Raises:
        VerificationError: The predictions of onnxruntime differ from the packed model's.
    """
    import onnx
    import onnxruntime

    from qwave.exporting.graph import onnx_model

    proto = onnx_model(model.packed)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["probabilities"], {"embeddings": x[start : start + _MOST_ROWS]})[0]
        for start in range(0, len(x), _MOST_ROWS)
    ]
    return require_agreement(
        model.predict_proba(x),
        np.concatenate(parts),
        tolerance=ONNX_TOLERANCE,
        claim=f"{file.name} does not predict in onnxruntime what the packed model predicts",
    )
