"""What the NumPy operators are built from: powers of two, grids, the two exponentials, and how a result is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.errors import NonFinite
from replay.kernels import spec
from replay.layout import Array

F32, F64, I32, I64 = np.float32, np.float64, np.int32, np.int64


def single(text: str) -> np.float32:
    return np.uint32(int(text, 16)).view(F32)


def double(text: str) -> np.float64:
    return np.uint64(int(text, 16)).view(F64)


def doubles(texts: Sequence[str]) -> list[np.float64]:
    return [double(text) for text in texts]


ZERO, ONE, HALF, CLAMP = F32(0), F32(1), F32(0.5), F32(spec.CLAMP)
LOG2E = single(spec.LOG2E)
_EXP2 = [single(text) for text in spec.EXP2]


def power(exponent: Array) -> Array:
    """2^exponent in fp64, from its bits."""
    return ((exponent.astype(I64) + 1023) << 52).view(F64)


def exponents(x: Array, axis: int = -1) -> tuple[Array, Array]:
    """(biased exponent of the largest |x| along ``axis``, clamped; whether that row has no grid), axis kept."""
    top = np.ascontiguousarray(np.abs(x).max(axis=axis, keepdims=True)).view(I32) >> 23
    return np.clip(top, spec.EXPONENT_MIN, spec.EXPONENT_MAX), top > spec.EXPONENT_MAX


def integers(x: Array, top: Array, bits: int) -> Array:
    """Multiples of 2^(top − 126 − bits), half to even, as fp64 integers."""
    return np.rint(x.astype(F64) * power(126 + bits - top))


def finish(y: Array, bad: Array | None = None) -> Array:
    """Write a float32 result: −0 becomes +0; raises ``NonFinite`` at the first element that is not finite or ``bad``."""
    wrong = ~np.isfinite(y)
    if bad is not None:
        wrong |= bad
    refuse(wrong)
    return np.ascontiguousarray(y + ZERO)


def refuse(wrong: Array) -> None:
    """Raises ``NonFinite`` at the first element marked."""
    if wrong.any():
        raise NonFinite(int(np.argmax(wrong)))


def exp2(z: Array, bias: int = 0) -> Array:
    """2^(z + bias) in fp32 for |z| ≤ 60."""
    n = np.rint(z)
    f = z - n
    p = f * _EXP2[4]
    for c in (_EXP2[3], _EXP2[2], _EXP2[1], _EXP2[0]):
        p = (p + c) * f
    p = p + ONE
    return (p.view(I32) + ((n.astype(I32) + I32(bias)) << 23)).view(F32)


def newton(v: Array) -> Array:
    """1/√v in fp64 of a float32 v > 0: a guess from the bits and four Newton steps, each operation rounded."""
    wide = v.astype(F64)
    y = (I64(spec.RSQRT) - (wide.view(I64) >> 1)).view(F64)
    half = wide * 0.5
    for _ in range(spec.RSQRT_STEPS):
        y = y * (1.5 - (half * y) * y)
    return y


def rsqrt(v: Array) -> Array:
    """1/√v of a float32 v > 0, rounded once to float32."""
    return newton(v).astype(F32)


def horner(x: Array, coefficients: Sequence[np.float64]) -> Array:
    """c₀ + x·(c₁ + x·(…)) in fp64, each operation rounded."""
    total = np.full(x.shape, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total
