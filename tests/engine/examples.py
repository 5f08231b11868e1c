"""What the tests of this folder share: examples for trainers, of labels and of mixtures.

Notation: f folds, s steps, b batch rows, n clips, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qwave.engine.task import Examples

SHARES = 16  # shares of `mixtures` are multiples of one in so many


def of_labels(index: Tensor, y: Tensor, class_weight: Tensor, smoothing: float) -> Examples:
    """Clips as they are, with smoothed labels, weighed by class.

    Args:
        index: Rows, int64 [f, s, b]; -1 is padding.
        y: Labels, [n].
        class_weight: [f, c].
        smoothing: Share of the target that is spread evenly over the classes.
    """
    row = index.clamp_min(0)
    n_classes = class_weight.shape[1]
    one_hot = nn.functional.one_hot(y[row], n_classes).to(torch.float32)
    target = (1 - smoothing) * one_hot + smoothing / n_classes
    fold = torch.arange(len(index)).view(-1, 1, 1)
    weight = class_weight[fold, y[row]] * (index >= 0)
    return Examples(index, row, torch.ones(index.shape), target, weight)


def mixtures(index: Tensor, n_clips: int, n_classes: int, seeds: Sequence[int]) -> Examples:
    """Each clip mixed with any other, and what is said of it and its weight at random.

    Shares are from 1/2 to 1, and a few are 1: the partner does not matter there. Of padding all
    but the weight is at random too.

    Args:
        index: Rows, int64 [f, s, b]; -1 is padding.
        n_clips: n.
        n_classes: c.
        seeds: One a fold.
    """
    folds = []
    for rows, seed in zip(index, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        partner = torch.randint(n_clips, rows.shape, generator=generator)
        share = torch.randint(SHARES // 2, SHARES + 1, rows.shape, generator=generator) / SHARES
        scores = 4 * torch.randn(*rows.shape, n_classes, generator=generator)
        weight = torch.rand(rows.shape, generator=generator) + 0.5
        target = torch.softmax(scores, dim=-1)
        folds.append(Examples(rows, partner, share, target, weight * (rows >= 0)))
    return Examples(*(torch.stack(tensors) for tensors in zip(*folds, strict=True)))


def exact(x: Tensor) -> Tensor:
    """Features in units of 2^-16: products with shares of `mixtures`, and their sums, are exact.

    So no code flips because products and sums are rounded at once in one place and apart in the
    other. With units much larger, features lie on the edge of two codes.
    """
    return (x * 2**16).round() / 2**16


def steps(examples: Examples, which: slice | list[int]) -> Examples:
    """The examples of some of the steps."""
    return Examples(*(tensor[:, which] for tensor in examples))
