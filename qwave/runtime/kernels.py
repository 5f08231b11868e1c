"""The two kernels that compute a network, and which one is taken.

| kernel | what it needs | a clip through 640-320 units, codes of up to 8 bits |
|---|---|---|
| `compiled` | a C compiler, once (`qwave.runtime.compiled`) | 8 (popcount) to 19 us |
| `numpy` | nothing (`qwave.runtime.arithmetic`) | 110 us |

Both are exact where codes are multiplied, and give the same predictions but for the rounding of
means, deviations and exponentials. `auto` takes C where there is a compiler. A network whose codes
or sums do not fit the integers of C is computed in numpy.

NumKong's kernels were tried for machines without a compiler: 76 to 88 us.
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

Kernel = Literal["auto", "compiled", "numpy"]


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
    """The kernel that computes a network: ``compiled`` or ``numpy``."""
    return "compiled" if isinstance(network, CompiledNetwork) else "numpy"


def network_maker(
    kernel: Kernel,
) -> Callable[[Normalizer, Sequence[PackedLayer]], Network]:
    """The function that makes networks of layers, computed by a kernel.

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

    def make(normalizer: Normalizer, layers: Sequence[PackedLayer]) -> Network:
        if library is not None and fits_compiled(layers):
            return CompiledNetwork(library, normalizer, layers)
        return NumpyNetwork(normalizer, layers)

    return make
