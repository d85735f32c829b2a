"""The canonical operators in NumPy: plain, independent of torch, the second opinion before anything is called fraud.

It works on integers where the torch backend works on gridded floats, and takes each formula from
``docs/numerics.md``. Arrays are C-contiguous. A result that is not finite raises ``NonFinite``.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from replay.kernels import numpy_arithmetic, numpy_network, numpy_shapes
from replay.kernels.numpy_core import exponents, integers
from replay.kernels.numpy_network import Gridded
from replay.kernels.state import STATEFUL, State
from replay.layout import Array, tensor_root
from replay.operators import Operator
from replay.program import Program

_TABLE: Mapping[str, Callable[..., Array]] = {
    **numpy_network.TABLE,
    **numpy_arithmetic.TABLE,
    **numpy_shapes.TABLE,
}


class NumpyKernels:
    """One program's weights, ready to run. ``apply`` is pure but for ``state``; an instance may serve several threads."""

    name = "numpy"
    root = staticmethod(tensor_root)

    def __init__(self, program: Program, weights: Mapping[str, Array]) -> None:
        self._weights: dict[str, Any] = {}
        bits = program.grid_bits
        for weight in program.weights:
            array = weights[weight.name]
            self._weights[weight.name] = self.grid(array, bits[weight.name]) if weight.form == "grid" else array

    @staticmethod
    def grid(weight: Array, bits: int) -> Gridded:
        """A weight [N, K] on its grid."""
        top, _ = exponents(weight)
        return Gridded(np.ascontiguousarray(integers(weight, top, bits).T), (top - (126 + bits))[:, 0])

    @staticmethod
    def environment() -> dict[str, str]:
        """Library versions that this backend depends on."""
        return {"numpy": np.__version__, "python": platform.python_version()}

    @staticmethod
    def strays() -> str:
        """See ``replay.run.Kernels``: NumPy rounds in the calling thread only; its products by BLAS are exact."""
        return ""

    def gridded(self, name: str) -> tuple[Array, Array]:
        """(q int32 [N, K], e int32 [N]) of a linear weight: row n is q·2^e."""
        weight = self._weights[name]
        return np.ascontiguousarray(weight.q.T).astype(np.int32), weight.exponent.astype(np.int32)

    def load(self, array: Array) -> Array:
        return np.ascontiguousarray(array)

    def unload(self, value: Array) -> Array:
        return value

    def apply(
        self, op: Operator, values: Sequence[Array], dims: Mapping[str, int], state: State | None = None
    ) -> Array:
        """The operator's result. ``dims`` binds the symbols. Raises ``NonFinite``."""
        if op.kind == "reshape":
            return values[0].reshape(numpy_shapes.sized(op, dims))
        if op.kind == "expand":
            return np.ascontiguousarray(np.broadcast_to(values[0], numpy_shapes.sized(op, dims)))
        weights = [self._weights[name] for name in op.weights]
        with np.errstate(all="ignore"):
            if state is not None and op.kind in STATEFUL:
                return _TABLE[op.kind](op, *values, *weights, state=state)
            return _TABLE[op.kind](op, *values, *weights)
