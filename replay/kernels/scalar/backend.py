"""The canonical operators in plain Python integers: what a contract on chain computes, and far too slow for more.

The third implementation, after torch and NumPy, and independent of both: written from ``docs/numerics.md``. NumPy arrays
cross its border and take no part in the computing.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from replay.kernels.scalar import arithmetic, attention, network, shapes, tables
from replay.kernels.scalar.grid import GridRow, grid_row, unit_power
from replay.kernels.scalar.tensor import Call, Kind, Tensor
from replay.kernels.state import State
from replay.layout import Array, tensor_root
from replay.operators import DType, Operator
from replay.program import Program

KINDS: Mapping[str, Kind] = {
    **network.KINDS,
    **attention.KINDS,
    **tables.KINDS,
    **arithmetic.KINDS,
    **shapes.KINDS,
}


def to_tensor(array: Array) -> Tensor:
    """float32 as bits, integers and truth values as numbers."""
    dtype: DType = next(known for known in get_args(DType) if array.dtype == np.dtype(known))
    data = np.ascontiguousarray(array).view(np.uint32) if dtype == "float32" else array.astype(np.int64)
    return Tensor(dtype, tuple(array.shape), data.reshape(-1).tolist())


def to_array(tensor: Tensor) -> Array:
    if tensor.dtype == "float32":
        return np.array(tensor.data, np.uint32).view(np.float32).reshape(tensor.shape)
    return np.array(tensor.data, np.int64).astype(tensor.dtype).reshape(tensor.shape)


class ScalarKernels:
    """One program's weights, ready to run; see ``replay.run.Kernels``. Values are ``Tensor``."""

    name = "scalar"
    root = staticmethod(tensor_root)

    def __init__(self, program: Program, weights: Mapping[str, Array]) -> None:
        """``weights``: all of them, or those of the operators that will be asked for."""
        self._bits = program.grid_bits
        self._raw: dict[str, Tensor] = {}
        self._grid: dict[str, list[GridRow]] = {}
        for weight in program.weights:
            if weight.name not in weights:
                continue
            tensor = to_tensor(weights[weight.name])
            if weight.form == "grid":
                rows = [grid_row(row, program.grid_bits[weight.name]) for row in tensor.rows()]
                self._grid[weight.name] = [row for row in rows if row is not None]
            else:
                self._raw[weight.name] = tensor

    @staticmethod
    def environment() -> dict[str, str]:
        """Versions that this backend depends on."""
        return {"python": platform.python_version()}

    @staticmethod
    def strays() -> str:
        """See ``replay.run.Kernels``: integers have no rounding mode."""
        return ""

    def gridded(self, name: str) -> tuple[Array, Array]:
        """(q int32 [N, K], e int32 [N]) of a linear weight: row n is q·2^e."""
        rows, bits = self._grid[name], self._bits[name]
        exponent = [unit_power(row.exponent, bits) for row in rows]
        return np.array([row.integers for row in rows], np.int32), np.array(exponent, np.int32)

    def load(self, array: Array) -> Tensor:
        return to_tensor(array)

    def unload(self, value: Tensor) -> Array:
        return to_array(value)

    def apply(
        self, op: Operator, values: Sequence[Tensor], dims: Mapping[str, int], state: State | None = None
    ) -> Tensor:
        """The operator's result. ``dims`` binds the symbols. Raises ``NonFinite``."""
        raw = [self._raw[name] for name in op.weights if name in self._raw]
        grid = [row for name in op.weights if name in self._grid for row in self._grid[name]]
        return KINDS[op.kind](Call(op, values, raw, grid, dims, state))
