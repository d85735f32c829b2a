"""Linear operators by int8 products of digits: the same exact integers as one dgemm, at less cost and memory.

A number on its grid is split into balanced base-256 digits, three under grid hi, two under lo. ``torch._int_mm`` sums
products of digits exactly in int32, as long as the processor does not saturate: without VNNI it does so silently for
digits above 64, so that there weights of grid lo are split into base-128 digits, and grid hi is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from replay.errors import BackendRefused
from replay.kernels.torch_backend import TorchKernels
from replay.kernels.torch_core import F32, F64, I32, Top, exponents, finish
from replay.layout import Array
from replay.operators import Operator
from replay.program import Program

_I8 = torch.int8
#: int8 [M, K] · int8 [K, N] → int32, exact; torch has no public name for it.
int8_product = torch._int_mm  # noqa: SLF001
#: ``_int_mm`` wants more rows than this, and K and N in multiples of EIGHT.
_FEW, _EIGHT = 16, 8


@dataclass(frozen=True)
class Digits:
    """A weight [N, K] as digits, least significant first: ``values`` int8 [N', n·K'], N' and K' multiples of 8.
    ``unit``: fp64 [1, N], 2^exponent of each row. ``shift``: log₂ of the digits' base."""

    values: Tensor
    unit: Tensor
    rows: int
    length: int
    count: int
    shift: int

    @property
    def padded(self) -> int:
        return self.values.shape[1] // self.count

    def integers(self) -> tuple[Tensor, Tensor]:
        """(q int32 [N, K], exponent int32 [N])."""
        q = torch.zeros(self.rows, self.length, dtype=I32)
        for digit in range(self.count):
            first = digit * self.padded
            q.add_(
                self.values[: self.rows, first : first + self.length].to(I32).bitwise_left_shift_(self.shift * digit)
            )
        return q, exponents(self.unit.view(-1))


def vnni() -> bool:
    """Whether int8 products do not saturate on this processor."""
    return bool(torch.cpu._is_vnni_supported())  # noqa: SLF001  torch has no public name for it


def exact_length(count: int) -> int:
    """The longest row whose digit products, ``count`` digits a side, sum to less than 2³¹."""
    return (2**31 - 1) // (count << 14)


class Int8Kernels(TorchKernels):
    """Torch's kernels with linear operators by int8 products; rows too long for int32 sums fall back to dgemm."""

    name = "torch-int8"

    def __init__(self, program: Program, weights: Mapping[str, Array]) -> None:
        self._grid_name = program.grid
        if program.grid != "lo" and not vnni():
            raise BackendRefused("this processor has no VNNI: int8 products would saturate", backend=self.name)
        super().__init__(program, weights)

    @staticmethod
    def environment() -> dict[str, str]:
        return TorchKernels.environment() | {"vnni": str(vnni())}

    def grid(self, weight: Tensor, bits: int) -> object:  # type: ignore[override]
        """A weight [N, K] as digits, or on its grid in fp64 where K is too long for int32 sums."""
        count = 2 if self._grid_name == "lo" else 3
        rows, length = weight.shape
        if length > exact_length(count):
            return super().grid(weight, bits)
        shift = 8 if vnni() else 7
        top = self._top(weight)
        magic = top.magic(bits)
        q = (weight + magic).view(I32) - magic.view(I32)
        wide = _up(length)
        values = torch.zeros(_up(rows), count * wide, dtype=_I8)
        for digit in range(count):
            last = digit == count - 1
            low = q if last else ((q + (1 << (shift - 1))) & ((1 << shift) - 1)) - (1 << (shift - 1))
            values[:rows, digit * wide : digit * wide + length] = low
            q = (q - low) >> shift
        return Digits(values, top.unit(bits).t().contiguous(), rows, length, count, shift)

    def _linear(self, op: Operator, x: Tensor, weight: object, bias: Tensor | None = None) -> Tensor:
        if not isinstance(weight, Digits):
            return super()._linear(op, x, weight, bias)  # type: ignore[arg-type]
        rows = x.view(-1, x.shape[-1])
        top, bits = self._top(rows), op.integer("a_bits")
        a = self._digits(rows, top, bits, weight)
        total = self._products(a, weight)[: rows.shape[0], : weight.rows]
        total.mul_(top.unit(bits)).mul_(weight.unit)
        if bias is not None:
            total.add_(bias)
        y = torch.empty(total.shape, dtype=F32).copy_(total)
        return finish(y, top.bad).view(*x.shape[:-1], y.shape[1])

    def _digits(self, x: Tensor, top: Top, bits: int, weight: Digits) -> Tensor:
        """Base-256 digits of the rows, most significant first: int8 [M', n·K'], M' > 16."""
        magic = top.magic(bits)
        q = torch.add(x, magic, out=self._buffers.take("int8.q", x.shape, F32)).view(I32)
        q.sub_(magic.view(I32))
        wide, count = weight.padded, weight.count
        a = self._buffers.take(f"int8.a{wide}", (padded_rows(x.shape[0]), count * wide), _I8)
        if a.shape[0] > x.shape[0]:
            a[x.shape[0] :].zero_()
        for digit in range(count - 1, -1, -1):
            part = a[: x.shape[0], digit * wide : (digit + 1) * wide]
            part[:, : weight.length].copy_(q)  # the low byte, as a balanced digit
            if wide > weight.length:
                part[:, weight.length :].zero_()
            if digit:
                q.add_(128).bitwise_right_shift_(8)
        return a

    def _products(self, a: Tensor, weight: Digits) -> Tensor:
        """Σ q_a·q_w, exact: fp64 [M', N'] in a buffer."""
        shape = (a.shape[0], weight.values.shape[0])
        total = self._buffers.take("int8.total", shape, F64)
        part = self._buffers.take("int8.part", shape, F64)
        product = self._buffers.take("int8.product", shape, I32)
        first = True
        for power, left, right in digit_pairs(weight):
            int8_product(a[:, left], weight.values[:, right].t(), out=product)
            if first:
                total.copy_(product).mul_(float(1 << power))
                first = False
            else:
                total.add_(part.copy_(product).mul_(float(1 << power)))
        return total


def digit_pairs(weight: Digits) -> Sequence[tuple[int, slice, slice]]:
    """(power of two, columns of the activation's digits, columns of the weight's) of each product. Where both sides have
    base 256, digits whose product has the same power stand side by side and are summed by one product."""
    n, wide = weight.count, weight.padded
    if weight.shift != 8:
        return [
            (
                8 * (n - 1 - i) + weight.shift * k,
                slice(i * wide, (i + 1) * wide),
                slice(k * wide, (k + 1) * wide),
            )
            for i in range(n)
            for k in range(n)
        ]
    found = []
    for j in range(2 * n - 1):  # from the most significant
        a, w = max(0, j - n + 1), max(0, n - 1 - j)
        count = min(n, j + 1) - a
        found.append((8 * (2 * n - 2 - j), slice(a * wide, (a + count) * wide), slice(w * wide, (w + count) * wide)))
    return found


def padded_rows(rows: int) -> int:
    """Rows that ``_int_mm`` takes."""
    return max(rows, _FEW + 1)


def _up(size: int) -> int:
    return -(-size // _EIGHT) * _EIGHT
