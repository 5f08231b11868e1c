"""The confusion matrix of one fold, legible from 2 to 50 classes.

Notation:
    n: clips, 0 allowed.
    c: classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from qwave.report.colours import BLUE, INK, MUTED, SOFT, VERMILION, tint
from qwave.report.plate import PlateCache, Words, new_axes, short_name
from qwave.report.svg import SvgPlate, squares

MAX_CLASSES_WITH_NUMBERS = 20
"""Above this a cell is under 13 pixels, too small for two digits."""

MAX_TICK_LABELS = 25

N_LISTED = 6
"""Pairs named beside the matrix: in a large one they are the only way to read a cell."""

_LEFT, _BOTTOM, _SIDE_PX = 0.2, 0.215, 266
_PANEL_X = 424


def confusion_counts(
    y_true: NDArray[np.int_], y_pred: NDArray[np.int_], n_classes: int
) -> NDArray[np.int_]:
    """Counts ``(c, c)``: rows are true classes, columns predicted ones."""
    cells = np.bincount(y_true * n_classes + y_pred, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes)


def confusion_svg(
    plates: PlateCache[SvgPlate],
    class_names: Sequence[str],
    y_true: NDArray[np.int_],
    y_pred: NDArray[np.int_],
) -> bytes:
    """Cells shaded by their share of the true class: blue if right, vermilion if wrong.

    Shares, because classes differ in size; the numbers in the cells are counts. Beside the matrix
    stand the accuracy and the pairs confused most often.

    Args:
        plates: Backgrounds kept between calls.
        class_names: ``c`` names.
        y_true: ``(n,)``, each in 0..c-1.
        y_pred: ``(n,)``, each in 0..c-1.
    """
    n_classes = len(class_names)
    plate = plates.get("confusion", lambda: _confusion_axes(class_names))
    counts = confusion_counts(y_true, y_pred, n_classes)
    words = _panel(counts, class_names)
    # Only the cells that are not empty, and one path for all of a colour: shares of small classes
    # are few fractions.
    rows, columns = np.nonzero(counts)
    shares = counts[rows, columns] / counts.sum(axis=1)[rows]
    side = _SIDE_PX / n_classes
    centres = plate.pixel(columns, rows).tolist()
    cells: dict[tuple[bool, float], list[tuple[float, float]]] = {}
    has_numbers = n_classes <= MAX_CLASSES_WITH_NUMBERS
    size = min(13.0, 0.55 * side + 1.5)
    for (x, y), count, share, is_right in zip(
        centres,
        counts[rows, columns].tolist(),
        shares.tolist(),
        (rows == columns).tolist(),
        strict=True,
    ):
        cells.setdefault((is_right, share), []).append((x - side / 2, y - side / 2))
        if has_numbers:
            colour = "#ffffff" if share > 0.5 else INK
            words.append(Words(x, y, str(count), size, colour, "mm"))
    elements = [
        squares(corners, side, tint(BLUE if is_right else VERMILION, 0.16 + 0.84 * share))
        for (is_right, share), corners in cells.items()
    ]
    return plate.svg(elements, words)


def _panel(counts: NDArray[np.int_], class_names: Sequence[str]) -> list[Words]:
    n_clips, n_right = int(counts.sum()), int(np.trace(counts))
    if not n_clips:
        return [Words(_PANEL_X, 70, "no clips", 17, MUTED)]
    words = [
        Words(_PANEL_X, 70, f"{n_right} of {n_clips} right", 17, INK, is_bold=True),
        Words(_PANEL_X, 93, f"accuracy {100 * n_right / n_clips:.1f} %", 12, MUTED),
    ]
    wrong = counts * (1 - np.eye(counts.shape[0], dtype=counts.dtype))
    # A stable sort, so that equal counts keep the order of the classes.
    order = np.argsort(-wrong, axis=None, kind="stable")[:N_LISTED]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    pairs = [pair for pair in pairs if wrong[pair]]
    if pairs:
        words.append(Words(_PANEL_X, 133, "true, taken for", 11, MUTED))
        words.append(Words(618, 133, "clips", 11, MUTED, "rm"))
    for line, (i, j) in enumerate(pairs):
        y = 156 + 33 * line
        words.append(Words(_PANEL_X, y, short_name(class_names[i], 22), 12))
        words.append(Words(_PANEL_X + 8, y + 14, f"→ {short_name(class_names[j], 22)}", 12))
        words.append(Words(618, y + 7, str(wrong[i, j]), 13, VERMILION, "rm", True))
    return words


def _confusion_axes(class_names: Sequence[str]) -> Axes:
    axes = new_axes(
        "Confusion matrix",
        "predicted class",
        "true class",
        left=_LEFT,
        right=_LEFT + _SIDE_PX / 640,
        bottom=_BOTTOM,
        top=_BOTTOM + _SIDE_PX / 400,
    )
    n_classes = len(class_names)
    axes.set_xlim(-0.5, n_classes - 0.5)
    axes.set_ylim(n_classes - 0.5, -0.5)
    step = math.ceil(n_classes / MAX_TICK_LABELS)
    shown = list(range(0, n_classes, step))
    names = [short_name(class_names[index], 14) for index in shown]
    size = min(8.0, 150.0 / len(shown))
    # Slanted names need 17 pixels each; upright ones 9, and a smaller font to stand clear of the
    # label below them.
    is_upright = len(shown) > 15
    axes.set_yticks(shown, names, fontsize=size, parse_math=False)
    axes.set_xticks(
        shown,
        [short_name(name, 12) for name in names] if is_upright else names,
        fontsize=min(size, 6.2) if is_upright else size,
        parse_math=False,
        rotation=90 if is_upright else 40,
        ha="right",
        va="center" if is_upright else "top",
        rotation_mode="anchor",
    )
    axes.tick_params(length=0, pad=3)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(SOFT)
    # The labels of the axes at fixed places: beside names of any length they would move.
    axes.yaxis.set_label_coords(-0.41, 0.5)
    axes.xaxis.set_label_coords(0.5, -0.265)
    return axes
