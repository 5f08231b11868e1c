"""Calibrated probabilities, and the probability from which on an answer counts as sure.

Both are fitted on a trial's out-of-fold predictions. A temperature T divides the logits, which
changes no answer (Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599).
Of probabilities p that is ``softmax(log(p) / T)``; in a packed model it is folded into the last
layer of each expert, so that the file needs no byte for it, and the runtime no line. A mixture's
logits are weighed sums of its experts', and are divided by T as well.

Confidence is the largest probability. It tells errors from right answers as well as anything here
(`studies.curiosity`: AUROC 89.7 %, mutual information 88.8 %), and costs nothing.

Shapes: n clips, c classes.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from qwave.packing import PackedLayer, PackedModel
from qwave.runtime.arithmetic import softmax

CALIBRATED_TOLERANCE = 2e-2
"""Largest difference of a probability that folding a temperature makes.

float16 rounds scales and biases by 2^-11 of themselves at most, and a probability changes by at
most half of what logits do: it suffices for logits up to 80.
"""

SURE_SHARE = 0.95  # share of the right answers that stay sure

_TEMPERATURES = (0.05, 10.0)  # above, probabilities that float32 rounded to 0 would come to matter
_PRECISION = 1e-9  # of the logarithm of a temperature
_SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
_SMALLEST_SCALE, _LARGEST_FLOAT = 2.0**-14, 65504.0  # of a packed file


class Calibration(NamedTuple):
    """The two numbers that are fitted.

    Attributes:
        temperature: Divisor T of the logits; below 1 where probabilities were too far from 1.
        sure_probability: A prediction is sure if its largest probability is not below it.
    """

    temperature: float
    sure_probability: float


class CrossFitted(NamedTuple):
    """Out-of-fold predictions, calibrated by what was fitted on the other folds.

    Attributes:
        probabilities: Calibrated probabilities, float64 [n, c].
        is_sure: Whether each prediction is sure, bool [n].
    """

    probabilities: np.ndarray
    is_sure: np.ndarray


def fit_calibration(packed: PackedModel, probabilities: np.ndarray, y: np.ndarray) -> Calibration:
    """Fit a temperature that a model can take, and the probability from which on it is sure.

    Args:
        packed: The model; it only limits the temperature (see `foldable_temperature`).
        probabilities: Probabilities of clips that their model has not seen, [n, c], n >= 1.
        y: True class of each clip, int64 [n].
    """
    temperature = foldable_temperature(packed, fit_temperature(probabilities, y))
    return Calibration(temperature, fit_sure_probability(tempered(probabilities, temperature), y))


def fit_temperature(probabilities: np.ndarray, y: np.ndarray) -> float:
    """The temperature of least negative log likelihood, 0.05 to 10.

    One of the n labels is shared out among all classes: without an error among the clips, the
    likelihood would rise forever as T falls, and the model become certain of everything. Where
    there are errors it matters little: cross-fitted on 12 trials of ESC-10, the loss is the same
    to 0.0003 nats.

    Args:
        probabilities: Probabilities [n, c], n >= 1; 0 counts as the smallest normal float32.
        y: True class of each clip, int64 [n].
    """
    logits = _log(probabilities)
    share = 1 / len(y)
    own = logits[np.arange(len(y)), y]
    target = ((1 - share) * own + share * logits.mean(axis=1)).mean()
    low, high = map(math.log, _TEMPERATURES)
    while high - low > _PRECISION:
        middle = (low + high) / 2
        # The loss is convex in 1/T. This is its slope: above 0, a larger T loses less.
        expected = (softmax(logits / math.exp(middle)) * logits).sum(axis=1).mean()
        low, high = (middle, high) if expected > target else (low, middle)
    return math.exp((low + high) / 2)


def fit_sure_probability(probabilities: np.ndarray, y: np.ndarray) -> float:
    """The probability that 95 % of the right answers reach, to 2^-16, below 1.

    Args:
        probabilities: Probabilities [n, c], as they are shipped.
        y: True class of each clip, int64 [n].

    Returns:
        The 5 % quantile, of two neighbours the lower, rounded down; 0 where no answer is right.
    """
    confidence = probabilities.max(axis=1)[probabilities.argmax(axis=1) == y]
    if len(confidence) == 0:
        return 0.0
    lowest = np.quantile(confidence, 1 - SURE_SHARE, method="lower")
    return min(math.floor(lowest * 2**16), 2**16 - 1) / 2**16


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """``softmax(log(p) / T)``, float64 [n, c]; 0 counts as the smallest normal float32."""
    return softmax(_log(probabilities) / temperature)


def cross_fit(probabilities: np.ndarray, y: np.ndarray, fold: np.ndarray) -> CrossFitted:
    """Calibrate each fold by the others: what calibration does to clips it was not fitted on.

    Args:
        probabilities: Out-of-fold probabilities, [n, c].
        y: True class of each clip, int64 [n].
        fold: Fold of each clip, [n]; at least two folds.
    """
    found = CrossFitted(np.empty(probabilities.shape), np.empty(len(y), dtype=bool))
    for left_out in np.unique(fold):
        is_here = fold == left_out
        others, labels = probabilities[~is_here], y[~is_here]
        temperature = fit_temperature(others, labels)
        sure_probability = fit_sure_probability(tempered(others, temperature), labels)
        calibrated = tempered(probabilities[is_here], temperature)
        found.probabilities[is_here] = calibrated
        found.is_sure[is_here] = calibrated.max(axis=1) >= sure_probability
    return found


def foldable_temperature(packed: PackedModel, temperature: float) -> float:
    """The nearest temperature at which all last layers still hold numbers of a packed file.

    Scales from 2^-14 to 65504, biases and float weights up to 65504. No model that learnt
    anything is near these; a class whose weights are all 0, at the smallest scale, takes T up
    to 1.
    """
    layers = _last_layers(packed).values()
    parts = [part for layer in layers for part in _divided(layer)]
    least = max(float(np.abs(part.astype(np.float64)).max()) for part in parts) / _LARGEST_FLOAT
    scales = [layer.scale for layer in layers if layer.scale is not None]
    most = min((float(scale.min()) for scale in scales), default=math.inf) / _SMALLEST_SCALE
    return min(max(temperature, least), most)


def apply_calibration(packed: PackedModel, calibration: Calibration) -> PackedModel:
    """The model with all logits divided by T, and the probability in its header.

    Scales and biases are rounded to float16 as ever: another class may win where two are as good
    as tied. `packed` stays as it is.
    """
    changed = {
        name: _over(layer, calibration.temperature) for name, layer in _last_layers(packed).items()
    }
    header = dataclasses.replace(packed.header, sure_probability=calibration.sure_probability)
    return dataclasses.replace(packed, header=header, layers={**packed.layers, **changed})


def _last_layers(packed: PackedModel) -> dict[str, PackedLayer]:
    """The last layer of each expert, which makes its logits, by name."""
    model = packed.header.model
    names = [f"e{expert}.{len(model.hidden)}" for expert in range(model.num_experts)]
    return {name: packed.layers[name] for name in names}


def _divided(layer: PackedLayer) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of a layer that a temperature divides: scales or float weights, and biases."""
    return (layer.codes if layer.scale is None else layer.scale), layer.bias


def _over(layer: PackedLayer, temperature: float) -> PackedLayer:
    weights, bias = (
        (part.astype(np.float64) / temperature).astype(part.dtype) for part in _divided(layer)
    )
    if layer.scale is None:
        return dataclasses.replace(layer, codes=weights, bias=bias)
    return dataclasses.replace(layer, scale=weights, bias=bias)


def _log(probabilities: np.ndarray) -> np.ndarray:
    clipped = np.maximum(probabilities.astype(np.float64), _SMALLEST_PROBABILITY)
    logs: np.ndarray = np.log(clipped)
    return logs
