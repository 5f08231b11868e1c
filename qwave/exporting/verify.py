"""Proof that a written file predicts what was trained.

The packed file is read back and predicts every clip; the trained mixture predicts the same clips
in torch, by the modules that were trained and not by the code of `qwave.runtime`. Its biases are
rounded to float16, as the file holds them: both sides then have the same parameters and differ by
the rounding of sums, 1e-6 at most in probability. With the biases as trained the difference is up
to 1e-3 on ESC-10, and a clip that lies between two experts may go to the other one.

Shapes: n clips, d features, e experts, c classes.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qwave.config import SCHEMES, QwaveError
from qwave.engine.refit import FittedModel
from qwave.nn.mixture import QUANTIZED, Mixture, mutual_information, top_k_gates
from qwave.packing import PackedModel, mc_masks

TOLERANCE = 1e-2
"""Largest difference of a probability; also the lead below which two classes are tied."""

_MAX_ROWS = 1024  # clips at a time: bounds the memory of hidden layers


class VerificationError(QwaveError):
    """A file does not predict what it should, or has another length."""

    exit_code = 1


class Agreement(NamedTuple):
    """How two predictions of the same clips compare.

    Attributes:
        n_clips: Number of clips n.
        largest_difference: Largest difference of any probability.
        n_other_class: Number of clips whose likeliest class differs.
    """

    n_clips: int
    largest_difference: float
    n_other_class: int


def require_agreement(
    expected: np.ndarray, found: np.ndarray, *, tolerance: float, claim: str
) -> Agreement:
    """Compare probabilities [n, c], n >= 1, with those that they should equal.

    Args:
        expected: Rows sum to 1.
        found: Rows sum to 1; NaN agrees with nothing.
        tolerance: Largest difference allowed. A clip may have another likeliest class only if
            `expected` puts it less than this behind its first.
        claim: The beginning of the message: what would be wrong if they did not agree.

    Raises:
        VerificationError: They do not agree.
    """
    largest = float(np.abs(expected - found).max())
    first, other = expected.argmax(axis=1), found.argmax(axis=1)
    rows = np.arange(len(expected))
    lead = expected[rows, first] - expected[rows, other]
    n_wrong = int((lead >= tolerance).sum())
    if not largest <= tolerance or n_wrong:
        raise VerificationError(
            f"{claim}: of {len(expected)} clips, {n_wrong} have another class, and the largest "
            f"difference of a probability is {largest:.2g} ({tolerance:g} is allowed); nothing "
            "was exported"
        )
    return Agreement(len(expected), largest, int((first != other).sum()))


@torch.no_grad()
def torch_probabilities(fitted: FittedModel, x: np.ndarray) -> np.ndarray:
    """Probabilities of a trained mixture for raw embeddings: float32 [n, d] to float32 [n, c]."""
    mixture = _with_stored_biases(fitted.trained.mixture)
    normalizer = fitted.trained.normalizers[0]
    parts = [
        _probabilities(mixture, fitted.packed, normalizer(x[start : start + _MAX_ROWS]))
        for start in range(0, len(x), _MAX_ROWS)
    ]
    return np.concatenate(parts)


def _with_stored_biases(mixture: Mixture) -> Mixture:
    stored = copy.deepcopy(mixture)
    for name, parameter in stored.named_parameters():
        if name.endswith("bias"):
            parameter.copy_(parameter.half())
    return stored


def _probabilities(mixture: Mixture, packed: PackedModel, normalized: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(normalized).unsqueeze(0)  # the one fold of a model that is shipped
    experts = [group(x, masks=(), arithmetic=QUANTIZED) for group in mixture.groups]
    logits = torch.cat(experts, dim=1)  # [1, e, n, c]
    if mixture.router is None:
        mixed = logits.squeeze(1)
    else:
        probabilities = mixture.router(x, masks=(), arithmetic=QUANTIZED)
        if packed.header.model.curiosity.alpha > 0:
            probabilities = probabilities * _tilt(mixture, packed, x)
        gates = top_k_gates(probabilities, mixture.top_k)
        mixed = torch.einsum("fenc,fne->fnc", logits, gates)
    result: np.ndarray = torch.softmax(mixed, dim=-1)[0].numpy()
    return result


def _tilt(mixture: Mixture, packed: PackedModel, x: Tensor) -> Tensor:
    """exp(alpha * u * beta), [1, n, e]: u the clip's curiosity, beta the expert's cost, 0 to 1."""
    assert mixture.router is not None, "only a router is curious"
    assert packed.curiosity_range is not None, "a mixture carries its range"
    model = packed.header.model
    masks = [torch.from_numpy(mask).unsqueeze(0) for mask in mc_masks(packed.header)]
    information = mutual_information(mixture.router.sample(x, masks))
    low, high = packed.curiosity_range
    curiosity = (information - low).div(high - low) if high > low else 0 * information
    # Not all equal: the canonical form has no alpha where experts have the same bits.
    bits = torch.tensor([math.log2(SCHEMES[scheme].bits) for scheme in model.schemes])
    cost = (bits - bits.min()) / (bits.max() - bits.min())
    return torch.exp(model.curiosity.alpha * curiosity.clamp(0, 1).unsqueeze(-1) * cost)
