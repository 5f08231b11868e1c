"""Pictures that only members of the front have: confusion matrix, ROC curves, losses of each fold.

They are drawn after the search, from the files that the MLflow run of a trial holds. A picture
takes a few hundredths of a second, which would add up over all trials.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from qwave.report import FoldFigures
from qwave.scores import FrontPoint
from qwave.store import Tracker

PICTURES = ("confusion_matrix.svg", "losses.svg", "roc.svg")


def draw_front(
    points: Sequence[FrontPoint], tracker: Tracker, run: Callable[..., Future[None]]
) -> list[Future[None]]:
    """Begin to draw what is missing of the pictures of the front's members, in their MLflow runs.

    Runs whose files were removed are left out.

    Args:
        points: The trained trials; only members of the front get pictures.
        tracker: The record of the store.
        run: Queues a call of a function, as `qwave.sweep.pool.TrainingPool.run`.

    Returns:
        One future for each member of the front that lacked a picture.
    """
    run_ids = dict.fromkeys(point.mlflow_run_id for point in points if point.is_front)
    folders = [tracker.find_artifacts(run_id) for run_id in run_ids]
    return [run(draw_folds, folder) for folder in folders if folder and _lacks_pictures(folder)]


def _lacks_pictures(folder: Path) -> bool:
    has_files = all((folder / name).is_file() for name in ("predictions.csv", "losses.csv"))
    return has_files and not all(
        (fold / picture).is_file() for fold in folder.glob("fold_*") for picture in PICTURES
    )


def draw_folds(folder: Path) -> None:
    """Draw the pictures of every fold of one trial.

    Args:
        folder: Artifacts of the trial's run, which hold ``predictions.csv`` and ``losses.csv``.
    """
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        (_, _, _, _, *names), *rows = csv.reader(file)
    index = {name: label for label, name in enumerate(names)}
    folds = np.array([int(row[1]) for row in rows])
    y_true, y_pred = (np.array([index[row[column]] for row in rows]) for column in (2, 3))
    probabilities = np.array([row[4:] for row in rows], dtype=float)
    with (folder / "losses.csv").open(newline="", encoding="utf-8") as file:
        losses = np.array(
            [[float(cell or "nan") for cell in row] for row in list(csv.reader(file))[1:]]
        )
    draw = FoldFigures(names)
    for fold in np.unique(folds).tolist():
        target, is_of_fold = folder / f"fold_{fold}", folds == fold
        _, epochs, train, held_out = losses[losses[:, 0] == fold].T
        is_scored = np.isfinite(held_out)
        pictures = (
            draw.confusion_matrix(y_true[is_of_fold], y_pred[is_of_fold]),
            draw.losses(epochs, train, epochs[is_scored], held_out[is_scored]),
            draw.roc(y_true[is_of_fold], probabilities[is_of_fold]),
        )
        for picture, content in zip(PICTURES, pictures, strict=True):
            (target / picture).write_bytes(content)
