"""Data the tests of this folder share: a fold of ten classes and a front of 12 trials."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qwave.report import Column, Records, Table, report_html
from qwave.scores import FrontPoint, Interval

CLASS_NAMES = (
    "Dog bark",
    "Rain",
    "Sea waves",
    "Baby cry",
    "Clock tick",
    "Person sneeze",
    "Helicopter",
    "Chainsaw",
    "Rooster",
    "Fire crackling",
)


class FoldData(NamedTuple):
    curiosity: NDArray[np.float64]
    y_true: NDArray[np.int_]
    y_pred: NDArray[np.int_]
    probabilities: NDArray[np.float64]
    epochs: NDArray[np.int_]
    train_loss: NDArray[np.float64]
    checkpoint_epochs: NDArray[np.int_]
    held_out_loss: NDArray[np.float64]


def make_fold(seed: int, n_clips: int = 80, num_classes: int = 10) -> FoldData:
    rng = np.random.default_rng(seed)
    y_true = np.arange(n_clips) % num_classes
    logits = rng.normal(size=(n_clips, num_classes))
    logits[np.arange(n_clips), y_true] += 2.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    epochs = np.arange(1, 101)
    checkpoint_epochs = np.array([1, 25, 50, 75, 100])
    return FoldData(
        curiosity=rng.gamma(0.6, 0.05, size=n_clips),
        y_true=y_true,
        y_pred=probabilities.argmax(axis=1),
        probabilities=probabilities,
        epochs=epochs,
        train_loss=2.3 * np.exp(-epochs / 15) + 0.02 * rng.random(100) + 0.01,
        checkpoint_epochs=checkpoint_epochs,
        held_out_loss=2.2 * np.exp(-checkpoint_epochs / 12) + 0.2 + 0.05 * rng.random(5),
    )


def make_point(number: int, **changes: object) -> FrontPoint:
    values: dict[str, object] = {
        "number": number,
        "accuracy": 0.85 + 0.008 * number,
        "standard_error": 0.01,
        "size_bytes": 2000 * 2**number,
        "is_front": True,
        "num_experts": 1 + number % 3,
        "label": f"int{number + 1}, {8 * number}",
        "configuration": {"quant.bits": number + 1, "train.epochs": 100},
        "digest": f"digest{number:04d}",
        "mlflow_run_id": f"run{number:032d}",
    }
    return FrontPoint(**{**values, **changes})  # type: ignore[arg-type]


def make_points(n_points: int = 12) -> list[FrontPoint]:
    """Every third trial is dominated: it has the accuracy of a smaller file, less a bit."""
    points = [make_point(number) for number in range(n_points)]
    return [
        make_point(p.number, is_front=False, accuracy=p.accuracy - 0.02) if i % 3 == 2 else p
        for i, p in enumerate(points)
    ]


def open_png(png: bytes) -> Image.Image:
    assert png.startswith(b"\x89PNG\r\n\x1a\n"), f"not a PNG: {png[:16]!r}"
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def open_svg(svg: bytes | str) -> Element:
    """The root of a picture or of a part of it, the tags without their namespace."""
    root = ElementTree.fromstring(svg)
    for node in root.iter():
        node.tag = node.tag.removeprefix("{http://www.w3.org/2000/svg}")
    return root


def svg_texts(root: Element) -> list[tuple[str, float, float]]:
    """Every text with its x and y, in the order of the file; NaN where a transform places it."""
    return [
        (node.text or "", float(node.get("x", "nan")), float(node.get("y", "nan")))
        for node in root.iter("text")
    ]


def many_points(n_points: int = 60) -> list[FrontPoint]:
    """A front of twelve and a cloud below it."""
    cloud = [
        make_point(
            12 + i,
            accuracy=0.8 + 0.0005 * (i * 37 % 100),
            size_bytes=2500 + i * i * 700,
            is_front=False,
            label=f"int{i % 8}, linear",
        )
        for i in range(n_points - 12)
    ]
    return [*make_points(), *cloud]


def write_report(folder: Path, points: list[FrontPoint], **changes: Any) -> Path:
    frame: dict[str, Any] = {"reference_accuracy": 0.9, "size_budget_bytes": 20_000_000}
    rows = (("linear", 20, 0.93, 2000, 1), ("small", 0, None, None, None))
    columns = (
        Column("choice"),
        Column("trials", "number", 0),
        Column("best accuracy", "share", 1),
        Column("its size", "bytes"),
        Column("trial", "number", 0),
    )
    arguments: dict[str, Any] = {
        "title": "esc10: accuracy at every size",
        "summary": {"data": "/data/" + "folder/" * 20 + "clips.csv (0123456789abcdef)"},
        "points": points,
        "hypervolume_by_trial": [(p.number, 0.1 + 0.01 * p.number) for p in points],
        "importances": {
            "accuracy": {
                "model.hidden": Interval(0.4, 0.2, 0.6),
                "model.top_k": Interval(0.01, -0.1, 0.1),
            }
        },
        "choices": {"model.hidden": Table(columns, rows)},
        "commands": {"browse the trials": "mlflow ui --backend-store-uri sqlite:////a/mlflow.db"},
        "notes": ["Folds were made: grouped by recording."],
        "picture": b"",
        "records": Records(
            "7",
            "mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db'",
            {p.number: f"qwave export {p.number} --sweep esc10 --store '/a b'" for p in points},
        ),
        **frame,
    }
    file = folder / "report.html"
    file.write_text(report_html(**{**arguments, **changes}), encoding="utf-8")
    return file
