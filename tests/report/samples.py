"""Data the tests of this folder share: a fold of ten classes and a front of 12 trials."""

from __future__ import annotations

import io
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qwave.scores import FrontPoint

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


def path_points(d: str) -> list[list[list[float]]]:
    """The points of a path of M, L and h0, one list for each M."""
    runs = [run.removesuffix("h0").split("L") for run in d.split("M")[1:]]
    return [[[float(number) for number in point.split()] for point in run] for run in runs]
