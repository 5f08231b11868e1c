"""Ways to compute a network, and which one is taken.

| kernel | what it needs | a clip through 640-320 units, codes of up to 8 bits |
|---|---|---|
| `compiled` | a C compiler, once (`qwave.runtime.compiled`) | 8 (popcount) to 19 us |
| `numkong` | the extra ``qwave[runtime]`` (`qwave.runtime.integers`) | 76 to 88 us |
| `numpy` | nothing (`qwave.runtime.arithmetic`) | 110 us |

All are exact where codes are multiplied, and give the same predictions but for the rounding of
means, deviations and exponentials. So `auto` takes the fastest that is there, and a network of a
scheme or normalisation that a kernel does not know is left to one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, get_args

import numpy as np

from qwave.config import ConfigError
from qwave.data.normalization import Normalizer
from qwave.packing import PackedLayer
from qwave.runtime.arithmetic import NumpyNetwork
from qwave.runtime.compiled import CompiledNetwork, fits_compiled, forward_library
from qwave.runtime.integers import has_numkong, integer_product

Kernel = Literal["auto", "compiled", "numkong", "numpy"]


class Network(Protocol):
    """Layers with their normalisation: raw clips in. Shapes: n clips, d features, c outputs.

    Clips must be float32 and contiguous; others than finite ones are refused with a `QwaveError`.
    """

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits of clips [n, d], float32 [n, c]."""

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of clips [n, d], float32 [n, c]; rows sum to 1."""

    def sample(self, x: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities of clips [n, d] under masks [s, i] of each layer, float32 [s, n, c]."""


def kernel_of(network: Network) -> str:
    """The kernel that computes a network: ``compiled``, ``numkong`` or ``numpy``."""
    if isinstance(network, CompiledNetwork):
        return "compiled"
    is_integer = isinstance(network, NumpyNetwork) and network.product is integer_product
    return "numkong" if is_integer else "numpy"


def network_maker(
    kernel: Kernel,
) -> Callable[[Normalizer, Sequence[PackedLayer]], Network]:
    """What makes networks of layers by a kernel.

    Raises:
        ConfigError: The kernel is unknown, or what it needs is not there.
    """
    if kernel not in get_args(Kernel):
        raise ConfigError(f"kernel must be one of {', '.join(get_args(Kernel))}, not {kernel!r}")
    library = forward_library() if kernel in ("auto", "compiled") else None
    if kernel == "compiled" and library is None:
        raise ConfigError(
            "kernel='compiled' needs a C compiler (cc, or what CC names), and there is none that "
            "works; kernel='auto' goes on without"
        )
    if kernel == "numkong" and not has_numkong():
        raise ConfigError("kernel='numkong' needs NumKong: pip install 'qwave[runtime]'")

    def make(normalizer: Normalizer, layers: Sequence[PackedLayer]) -> Network:
        if library is not None and fits_compiled(normalizer, layers):
            return CompiledNetwork(library, normalizer, layers)
        if kernel == "numkong" or (kernel == "auto" and has_numkong()):
            return NumpyNetwork(normalizer, layers, integer_product)
        return NumpyNetwork(normalizer, layers)

    return make
