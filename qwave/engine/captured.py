"""A training step as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

# Steps that are run before one is captured: libraries choose their kernels and compilers make
# theirs in the first, and the optimiser makes its state.
N_WARM_UP = 3


class CapturedStep:
    """A function without arguments that is launched as one graph from its fourth call on.

    A step of four experts of two hidden layers is 810 operations before any are fused, many of
    them shorter than their launch. Replayed, they follow each other without the processor.

    The first calls run as they are, and count like any other: nothing is computed twice, and no
    state has to be put back.

    Args:
        function: Reads and writes the same tensors on every call, and never waits for the device.
        device: A CUDA device.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self.function = function
        self.n_calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        # Capture is not possible on the default stream; autograd remembers the stream of a
        # parameter's first gradient, therefore one for all calls.
        self.stream = torch.cuda.Stream(device)

    def __call__(self) -> None:
        """One step more."""
        if self.n_calls >= N_WARM_UP and self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.function()
        self.n_calls += 1
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            if self.graph is None:
                self.function()
            else:
                self.graph.replay()
        current.wait_stream(self.stream)
