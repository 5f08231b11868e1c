"""An ONNX graph in the making: nodes and initializers under readable paths.

Names are paths such as ``expert_0/layer_1/codes``, which viewers show as a tree. A node's name is
that of its one output: its scope and operator, numbered from the second on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of their execution, and the constants that they read.

    Attributes:
        scope: Path before the names of what is added, with its slash, or nothing.
        nodes: Name to node.
        initializers: Name to constant. Both are shared with the graphs that `within` returns.
    """

    scope: str = ""
    nodes: dict[str, onnx.NodeProto] = field(default_factory=dict)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def within(self, name: str) -> Graph:
        """The same graph, adding under ``scope/name``."""
        return dataclasses.replace(self, scope=f"{self.scope}{name}/")

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add an operator of the default domain with one output, whose name is returned.

        Args:
            op: Its type; inputs and attributes are those of the ONNX operator of that name.
            name: Another name than the operator's.
        """
        path = self._free_name(name or op)
        self.nodes[path] = helper.make_node(op, inputs, [path], name=path, **attributes)
        return path

    def pair(self, op: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Add an operator with two outputs."""
        path = self._free_name(op)
        outputs = f"{path}:0", f"{path}:1"
        self.nodes[path] = helper.make_node(op, inputs, outputs, name=path, **attributes)
        return outputs

    def cast(self, x: str, dtype: DTypeLike) -> str:
        """Add a conversion of `x` to another type of elements."""
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def constant(self, array: np.ndarray, name: str) -> str:
        """Add an array under a name of its own, which is returned with its scope."""
        path = f"{self.scope}{name}"
        assert path not in self.initializers, f"two constants are named {path}"
        self.initializers[path] = numpy_helper.from_array(array, path)
        return path

    def value(self, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """A number or a short list, named by itself and kept once a graph."""
        array = np.asarray(value, dtype)
        name = f"{array.dtype}({array.tolist()})"
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def _free_name(self, name: str) -> str:
        path = first = f"{self.scope}{name}"
        count = 1
        while path in self.nodes:
            count += 1
            path = f"{first}_{count}"
        return path
