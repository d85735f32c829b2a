"""What the torch operators are built from: scratch memory, row maxima and grids, the exponentials, how a result is
written. Everything is exact or rounded once where ``docs/numerics.md`` says so; powers of two come from bits."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from replay.errors import NonFinite
from replay.kernels import spec

F32, F64, I32, I64 = torch.float32, torch.float64, torch.int32, torch.int64


def single(text: str) -> float:
    return float(struct.unpack(">f", bytes.fromhex(text))[0])


def double(text: str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(text))[0])


def doubles(texts: Sequence[str]) -> list[float]:
    return [double(text) for text in texts]


def scalar(value: float, dtype: torch.dtype = F32) -> Tensor:
    """A constant as torch takes it soonest: a Python number is made into a tensor, and that one cast, at each operation."""
    return torch.tensor(value, dtype=dtype, device="cpu")


LOG2E = single(spec.LOG2E)
_C1, _C2, _C3, _C4, _C5 = (single(text) for text in spec.EXP2)
_LN2, _INV_LN2, _SQRT2 = doubles(spec.LN2), double(spec.INV_LN2), double(spec.SQRT2)
_EXP64, _LOG64 = doubles(spec.EXP64), doubles(spec.LOG64)
_FIELD_MAX = spec.EXPONENT_MAX << 23
#: fp32 adding of this rounds |z| < 2²² to an integer, which then stands in the low bits.
_ROUND = scalar(12582912.0)
_MANTISSA = scalar(23, I32)


class Buffers:
    """Scratch memory by name: grown when needed, never shrunk, so that a run touches no fresh pages."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        count = 1
        for dim in shape:
            count *= dim
        kept = self._kept.get((name, dtype))
        if kept is None or kept.numel() < count:
            kept = self._kept[name, dtype] = torch.empty(count, dtype=dtype)
        return kept[:count].view(*shape)


@dataclass(frozen=True)
class Top:
    """Row maxima: ``field`` is the biased exponent e in its place among the fp32 bits (e << 23, int32), clamped to the
    exponents that have a grid; ``bad`` marks rows beyond, None if there is none. All powers of two come from bits."""

    field: Tensor
    bad: Tensor | None = None

    def magic(self, bits: int) -> Tensor:
        """1.5·2^23 units: adding it to x in fp32 rounds x half-even to the grid of ``bits`` ≤ 22."""
        return (self.field + (((24 - bits) << 23) | 0x400000)).view(F32)

    def power(self) -> Tensor:
        """2^(e − 127) in fp32."""
        return self.field.view(F32)

    def inverse(self) -> Tensor:
        """2^(127 − e) in fp32."""
        return (0x7F000000 - self.field).view(F32)

    def unit(self, bits: int) -> Tensor:
        """2^(e − 126 − bits) in fp64."""
        return self.power().to(F64).mul_(2.0 ** (1 - bits))

    def per_unit(self, bits: int) -> Tensor:
        """2^(126 + bits − e) in fp64."""
        return self.inverse().to(F64).mul_(2.0 ** (bits - 1))


class TorchCore:
    """Scratch memory and the steps that several operators share. Results stand in buffers, until the next call of the
    same step; a subclass copies what it gives away."""

    def __init__(self) -> None:
        self._buffers = Buffers()

    def _top(self, x: Tensor, dim: int = -1) -> Top:
        size = torch.abs(x, out=self._buffers.take("abs", x.shape, F32))
        field = size.amax(dim, keepdim=True).view(I32).bitwise_and_(0x7F800000)
        bad = field > _FIELD_MAX if int(field.max()) > _FIELD_MAX else None
        return Top(field.clamp_(spec.EXPONENT_MIN << 23, _FIELD_MAX), bad)

    def _grid(self, x: Tensor, top: Top, bits: int, name: str) -> Tensor:
        """Values on their grid of ``bits`` ≤ 22 (multiples of the unit, not integers), as fp64 in a buffer."""
        magic = top.magic(bits)
        near = torch.add(x, magic, out=self._buffers.take("near", x.shape, F32)).sub_(magic)
        return self._buffers.take(name, x.shape, F64).copy_(near)

    def _exp2(self, z: Tensor, scale: float = 1.0) -> Tensor:
        """``scale``·2^z in fp32 for |z| ≤ 60 and ``scale`` a power of two, in a buffer; z is consumed.

        Scaling the polynomial by a power of two scales each of its roundings, so the bits are those of 2^z.
        """
        n = torch.add(z, _ROUND, out=self._buffers.take("exp2.n", z.shape, F32))
        p = torch.sub(n, _ROUND, out=self._buffers.take("exp2.p", z.shape, F32))
        f = z.sub_(p)
        c0, c1, c2, c3, c4, c5 = scaled_exp2(scale)
        torch.mul(f, c5, out=p).add_(c4).mul_(f).add_(c3).mul_(f).add_(c2).mul_(f).add_(c1).mul_(f)
        p.add_(c0).view(I32).add_(n.view(I32).bitwise_left_shift_(_MANTISSA))
        return p


@cache
def scaled_exp2(scale: float) -> tuple[Tensor, ...]:
    """c₀ … c₅ of 2^f times a power of two."""
    return tuple(scalar(c * scale) for c in (1.0, _C1, _C2, _C3, _C4, _C5))


def exponents(units: Tensor) -> Tensor:
    """log₂ of fp64 powers of two, int32."""
    return ((units.view(I64) >> 52) - 1023).to(I32)


def newton(v: Tensor) -> Tensor:
    """1/√v in fp64 of a float32 v > 0: a guess from the bits and four Newton steps, each operation rounded."""
    half = v.to(F64)
    y = (spec.RSQRT - (half.view(I64) >> 1)).view(F64)
    half.mul_(0.5)
    for _ in range(spec.RSQRT_STEPS):
        y = y * (1.5 - (half * y).mul_(y))
    return y


def rsqrt(v: Tensor) -> Tensor:
    """1/√v of a float32 v > 0, rounded once to float32."""
    return newton(v).to(F32)


def horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """c₀ + x·(c₁ + x·(…)) in fp64, each operation rounded."""
    total = torch.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total.mul_(x).add_(c)
    return total


def exp64(x: Tensor) -> Tensor:
    """e^x in fp64, x clamped to ±150."""
    x = x.clamp(-spec.EXP_CLAMP, spec.EXP_CLAMP)
    n = (x * _INV_LN2).round_()
    r = x.sub_(n * _LN2[0]).sub_(n * _LN2[1])
    return horner(r, _EXP64).mul_(((n.to(I64) + 1023) << 52).view(F64))


def log64(v: Tensor) -> Tensor:
    """Ln v of a normal fp64 v > 0."""
    bits = v.view(I64)
    n = (bits >> 52) - 1023
    m = ((bits & ((1 << 52) - 1)) | (1023 << 52)).view(F64)
    high = m > _SQRT2
    m, n = torch.where(high, m * 0.5, m), (n + high).to(F64)
    s = (m - 1.0).div_(m + 1.0)
    tail = horner(s * s, _LOG64).mul_(s)
    return tail.add_(n * _LN2[1]).add_(n * _LN2[0])


def written(y: Tensor) -> Tensor:
    """A result of any dtype, as an operator writes it."""
    return finish(y) if y.dtype == F32 else y.contiguous()


def finish(y: Tensor, bad: Tensor | None = None) -> Tensor:
    """Write a float32 result (in place): −0 becomes +0; raises ``NonFinite`` at the first element not finite or ``bad``.

    A finite sum proves that every element is finite, so the exact search runs only when the sum is not.
    """
    y.add_(0.0)
    if bad is None and bool(torch.isfinite(y.sum())):
        return y
    wrong = ~torch.isfinite(y)
    refuse(wrong if bad is None else wrong | bad)
    return y


def refuse(wrong: Tensor) -> None:
    """Raises ``NonFinite`` at the first element marked, in row-major order."""
    places = wrong.reshape(-1).nonzero()
    if len(places):
        raise NonFinite(int(places[0]))
