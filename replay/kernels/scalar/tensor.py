"""What the scalar operators pass to each other: tensors as flat lists of Python integers, and one call of an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from replay.errors import NonFinite
from replay.kernels.scalar.grid import GridRow
from replay.kernels.scalar.softfloat import F32
from replay.kernels.state import State
from replay.operators import DType, Operator

#: Bits of an integer; the results of integer arithmetic wrap to it.
WIDTHS: Mapping[DType, int] = {"int32": 32, "int64": 64}


@dataclass(frozen=True, slots=True)
class Tensor:
    """``data``: row-major; bit patterns for float32, the number itself for int32 and int64, 0 or 1 for bool."""

    dtype: DType
    shape: tuple[int, ...]
    data: list[int]

    def rows(self) -> Iterator[list[int]]:
        """The rows along the last dimension."""
        length = self.shape[-1]
        return (self.data[at : at + length] for at in range(0, len(self.data), length))

    def __getitem__(self, part: slice) -> Tensor:
        """A range of the first dimension."""
        inner = math.prod(self.shape[1:])
        kept = range(self.shape[0])[part]
        data = [item for index in kept for item in self.data[index * inner : (index + 1) * inner]]
        return Tensor(self.dtype, (len(kept), *self.shape[1:]), data)


@dataclass(frozen=True, slots=True)
class Call:
    """An operator with what it reads. ``weights``: the raw ones; ``grid``: the rows of the gridded one (linear)."""

    op: Operator
    values: Sequence[Tensor]
    weights: Sequence[Tensor] = ()
    grid: Sequence[GridRow] = ()
    dims: Mapping[str, int] = field(default_factory=dict)
    state: State | None = None

    @property
    def position(self) -> int:
        """Tokens before those of this call."""
        return 0 if self.state is None else self.state.position

    @property
    def operands(self) -> tuple[Tensor, Tensor]:
        """Two operands, of which the second may be a weight."""
        first, second = (*self.values, *self.weights)
        return first, second

    def bits(self, name: str) -> int:
        """An attribute that holds the bits of a number in hex."""
        return int(self.op.text(name), 16)

    def shape(self) -> tuple[int, ...]:
        """The attribute ``shape``, its symbols replaced by their values."""
        return tuple(dim if isinstance(dim, int) else self.dims[dim] for dim in self.op.items("shape"))


Kind = Callable[[Call], Tensor]


def floats(shape: Sequence[int], data: Iterable[int]) -> Tensor:
    """An fp32 result as it is written: −0 becomes +0. Raises ``NonFinite`` for the first element that is Inf or NaN."""
    written = list(data)
    for element, bits in enumerate(written):
        if not F32.finite(bits):
            raise NonFinite(element)
        if bits == F32.negative:
            written[element] = 0
    return Tensor("float32", tuple(shape), written)


def wholes(dtype: DType, shape: Sequence[int], data: Iterable[int | None]) -> Tensor:
    """A result of integers or truth values. Raises ``NonFinite`` for the first element that is None."""
    written: list[int] = []
    for item in data:
        if item is None:
            raise NonFinite(len(written))
        written.append(item)
    return Tensor(dtype, tuple(shape), written)


def wrap(number: int, dtype: DType) -> int:
    """The number of this dtype that is congruent: two's complement."""
    half = 1 << (WIDTHS[dtype] - 1)
    return (number + half) % (2 * half) - half


def signed(bits: int, dtype: DType) -> int:
    """An element from its bits: a number for integers, the bits themselves for float32 and bool."""
    return wrap(bits, dtype) if dtype in WIDTHS else bits
