"""The canonical operators in torch: exact sums by one dgemm, buffers kept between calls.

Every formula is the one of ``docs/numerics.md``; nothing here is shared with the NumPy backend. Only operations that
torch rounds correctly at every length, stride, thread count and instruction set are used (no sqrt, exp, tanh, erf,
softmax, layer_norm, no ``alpha=``, no division by a Python number). Gridded values are multiples of a power of two
held in floats; on CPU one instance serves one thread at a time (a lock sees to it).

The operators stand in ``torch_network``, ``torch_attention`` and ``torch_functions`` (methods ``_<kind>``, which use
the buffers and which a faster backend may override), in ``torch_arithmetic`` and in ``torch_shapes`` (plain functions).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from replay.kernels import torch_arithmetic, torch_mode, torch_shapes
from replay.kernels.state import STATEFUL, State
from replay.kernels.torch_attention import AttentionKernels
from replay.kernels.torch_core import F64, Buffers
from replay.kernels.torch_functions import FunctionKernels
from replay.kernels.torch_network import Gridded, NetworkKernels
from replay.layout import Array, tensor_root
from replay.operators import SIGNATURES, Operator
from replay.program import Program

__all__ = ["Gridded", "TorchKernels"]

#: These take their shape from the symbols that the inputs bind.
_SIZED = {"reshape": torch_shapes.reshape, "expand": torch_shapes.expand}
_PLAIN: Mapping[str, Callable[..., Tensor]] = {**torch_arithmetic.TABLE, **torch_shapes.TABLE}


#: Linear weights of a model that are kept as fp64, by their number: 128 MiB. Of a larger model twice the memory of fp32
#: costs more than widening them anew at each use.
_WIDE = 16 << 20


class TorchKernels(NetworkKernels, AttentionKernels, FunctionKernels):
    """One program's weights, ready to run on CPU."""

    name = "torch"
    root = staticmethod(tensor_root)

    def __init__(self, program: Program, weights: Mapping[str, Array]) -> None:
        super().__init__()
        torch.set_flush_denormal(False)
        self._lock = threading.Lock()
        gridded_numbers = sum(weights[one.name].size for one in program.weights if one.form == "grid")
        self._wide = gridded_numbers <= _WIDE
        self._weights: dict[str, Tensor | Gridded] = {}
        for weight in program.weights:
            tensor = self.load(weights[weight.name])
            gridded = weight.form == "grid"
            self._weights[weight.name] = self.grid(tensor, program.grid_bits[weight.name]) if gridded else tensor
        self._buffers = Buffers()  # weights are larger than most of what will run through
        biases = {op.weights[1] for op in program.operators if op.kind == "linear" and len(op.weights) == 2}
        self._biases = {name: self.load(weights[name]).to(F64) for name in biases}
        self._table: Mapping[str, Callable[..., Tensor]] = {
            kind: _PLAIN[kind] if kind in _PLAIN else getattr(self, f"_{kind}") for kind in SIGNATURES.keys() - _SIZED
        }

    @staticmethod
    def environment() -> dict[str, str]:
        """Library versions and settings that this backend depends on."""
        return {
            "torch": torch.__version__,
            "threads": str(torch.get_num_threads()),
            "capability": torch.backends.cpu.get_cpu_capability(),
        }

    @staticmethod
    def strays() -> str:
        """See ``replay.run.Kernels``."""
        return torch_mode.strays()

    def gridded(self, name: str) -> tuple[Array, Array]:
        """(q int32 [N, K], e int32 [N]) of a linear weight: row n is q·2^e."""
        weight: Any = self._weights[name]
        q, exponent = weight.integers()
        return q.numpy(), exponent.numpy()

    def load(self, array: Array) -> Tensor:
        return torch.from_numpy(array.copy() if not array.flags.writeable else array).contiguous()

    def unload(self, value: Tensor) -> Array:
        array: Array = value.numpy()
        return array

    def apply(
        self, op: Operator, values: Sequence[Tensor], dims: Mapping[str, int], state: State | None = None
    ) -> Tensor:
        """The operator's result, in memory of its own (or its input's, for a reshape). ``dims`` binds the symbols;
        ``state``: the tokens before these. Raises ``NonFinite``."""
        if op.kind in _SIZED:
            return _SIZED[op.kind](op, values[0], dims)
        with self._lock, torch.inference_mode():
            run = self._table[op.kind]
            weights: list[Tensor | Gridded] = [self._weights[name] for name in op.weights]
            if op.kind == "linear":
                weights[1:] = [self._biases[name] for name in op.weights[1:]]
            if state is not None and op.kind in STATEFUL:
                return run(op, *values, *weights, state=state)
            return run(op, *values, *weights)
