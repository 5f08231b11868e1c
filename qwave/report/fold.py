"""The five pictures of one cross-validation fold, two as PNG and three as SVG bytes.

Notation:
    n: clips of the held-out fold; 0 is allowed everywhere and gives an empty picture.
    c: classes.
    t: epochs trained.
    m: checkpoints at which the held-out fold was looked at.

Axis limits move on ladders of few rungs (1, 2, 3, 5, 10, ...), and the background of each rung
used is drawn once and kept (`qwave.report.plate`). The alternative, one background for all with
ticks drawn anew each time, needs no ladder but costs 10 to 15 texts a picture.

One picture of 80 clips of 10 classes and 100 epochs, one core, medians in ms (Matplotlib 3.11):

    ===================  ====  ==================  ===============  ====
    picture                    background drawn    background kept    kB
    ===================  ====  ==================  ===============  ====
    curiosity_histogram  PNG                   29             0.73    12
    curiosity_per_class  PNG                   40             0.71    13
    confusion_matrix     SVG                   25              0.24    7
    roc                  SVG                   28              0.50    8
    losses               SVG                   43              0.15   10
    ===================  ====  ==================  ===============  ====

The 25 pictures of a five-fold trial so take 12 ms. As PNG the last three took 3.5, 3.9 and 3.1 ms;
drawn by Matplotlib in true colour the first two took 3.1 and 2.5. For 50 classes and 400 clips the
ROC curves take 3.2 ms, nearly all of it to find them, and the other pictures at most 1.6 times
their line of the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qwave.report.confusion import confusion_svg
from qwave.report.curiosity import histogram_png, per_class_png
from qwave.report.curves import losses_svg, roc_svg
from qwave.report.plate import Plate, PlateCache
from qwave.report.svg import SvgPlate

Floats = NDArray[np.float64]


class FoldFigures:
    """Draws the pictures of the folds of one study, whose classes are always the same.

    It keeps the backgrounds it has drawn, so one instance should serve a whole study. An instance
    must not be shared between threads; each process or thread makes its own.

    Every picture is 640 x 400 pixels, a PNG for curiosity and else an SVG in UTF-8, and equal
    input gives equal bytes. Values that are not finite are left out and counted in the picture.

    Args:
        class_names: ``c`` names in the order of the class indices.

    Raises:
        ValueError: If there is no class.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        if not class_names:
            raise ValueError("`class_names` must name at least one class, but is empty")
        self._class_names = tuple(class_names)
        self._plates = PlateCache(Plate)
        self._svg_plates = PlateCache(SvgPlate)

    def curiosity_histogram(self, curiosity: ArrayLike, is_correct: ArrayLike) -> bytes:
        """Histogram of curiosity, right and wrong clips overlaid, with counts and medians: PNG.

        Args:
            curiosity: ``(n,)`` mutual information in nats, >= 0.
            is_correct: ``(n,)`` booleans.

        Raises:
            ValueError: If the shapes differ or ``is_correct`` is not boolean.
        """
        values = _floats("curiosity", curiosity)
        mask = np.asarray(is_correct)
        if mask.dtype != np.bool_ and mask.size:
            raise ValueError(f"`is_correct` must hold booleans, but got dtype {mask.dtype}")
        _same_length("curiosity", values, "is_correct", mask)
        return histogram_png(self._plates, values, mask.astype(np.bool_))

    def curiosity_per_class(self, curiosity: ArrayLike, y_true: ArrayLike) -> bytes:
        """Curiosity of every clip in the row of its class, with median and middle half: PNG.

        Args:
            curiosity: ``(n,)`` mutual information in nats, >= 0.
            y_true: ``(n,)`` integers in 0..c-1. A class without a clip gets an empty row.

        Raises:
            ValueError: If the shapes differ or a class is out of range.
        """
        values = _floats("curiosity", curiosity)
        classes = self._classes("y_true", y_true)
        _same_length("curiosity", values, "y_true", classes)
        return per_class_png(self._plates, self._class_names, values, classes)

    def confusion_matrix(self, y_true: ArrayLike, y_pred: ArrayLike) -> bytes:
        """Counts of true (rows) against predicted (columns) classes: SVG.

        Numbers stand in the cells up to 20 classes; above, the pairs confused most often are
        listed beside the matrix all the same, and tick labels are thinned above 25.

        Args:
            y_true: ``(n,)`` integers in 0..c-1.
            y_pred: ``(n,)`` integers in 0..c-1.

        Raises:
            ValueError: If the shapes differ or a class is out of range.
        """
        rows, columns = self._classes("y_true", y_true), self._classes("y_pred", y_pred)
        _same_length("y_true", rows, "y_pred", columns)
        return confusion_svg(self._svg_plates, self._class_names, rows, columns)

    def roc(self, y_true: ArrayLike, probabilities: ArrayLike) -> bytes:
        """ROC curve of each class against the rest and their macro average: SVG.

        Args:
            y_true: ``(n,)`` integers in 0..c-1. A class without a clip is skipped.
            probabilities: ``(n, c)`` scores, higher means more likely; need not add up to 1.

        Raises:
            ValueError: If the shapes do not fit or a class is out of range.
        """
        classes = self._classes("y_true", y_true)
        scores = np.asarray(probabilities, dtype=np.float64)
        shape = (classes.size, len(self._class_names))
        if scores.size == 0 and classes.size == 0:
            scores = scores.reshape(shape)
        if scores.shape != shape:
            raise ValueError(f"`probabilities` must have shape {shape}, but got {scores.shape}")
        return roc_svg(self._svg_plates, self._class_names, classes, scores)

    def losses(
        self,
        epochs: ArrayLike,
        train_loss: ArrayLike,
        checkpoint_epochs: ArrayLike,
        held_out_loss: ArrayLike,
    ) -> bytes:
        """Training loss by epoch and the loss of the held-out fold at a few checkpoints: SVG.

        Args:
            epochs: ``(t,)`` finite, >= 0.
            train_loss: ``(t,)``. Losses of 0 are drawn at 1e-6, the axis being logarithmic.
            checkpoint_epochs: ``(m,)`` finite, >= 0.
            held_out_loss: ``(m,)``, recorded only: it never chooses anything.

        Raises:
            ValueError: If the shapes differ or an epoch is negative or not finite.
        """
        train_x, train_y = _epochs("epochs", epochs), _floats("train_loss", train_loss)
        check_x = _epochs("checkpoint_epochs", checkpoint_epochs)
        check_y = _floats("held_out_loss", held_out_loss)
        _same_length("epochs", train_x, "train_loss", train_y)
        _same_length("checkpoint_epochs", check_x, "held_out_loss", check_y)
        return losses_svg(self._svg_plates, train_x, train_y, check_x, check_y)

    def _classes(self, name: str, values: ArrayLike) -> NDArray[np.int_]:
        classes = np.asarray(values)
        # An empty list becomes an array of floats, which is not the caller's mistake.
        if classes.size and classes.dtype.kind not in "iu":
            raise ValueError(f"`{name}` must hold integers, but got dtype {classes.dtype}")
        n_classes = len(self._class_names)
        if classes.size and not (classes.min() >= 0 and classes.max() < n_classes):
            raise ValueError(
                f"`{name}` must lie in 0..{n_classes - 1}, "
                f"but got values from {classes.min()} to {classes.max()}"
            )
        return classes.astype(np.int_)


def _floats(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"`{name}` must have one dimension, but got shape {array.shape}")
    return array


def _epochs(name: str, values: ArrayLike) -> Floats:
    array = _floats(name, values)
    is_bad = ~(np.isfinite(array) & (array >= 0.0))
    if is_bad.any():
        raise ValueError(f"`{name}` must be finite and >= 0, but got {array[is_bad][0]}")
    return array


def _same_length(
    name: str, values: NDArray[np.generic], other_name: str, others: NDArray[np.generic]
) -> None:
    if values.shape != others.shape:
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same shape, "
            f"but got {values.shape} and {others.shape}"
        )
