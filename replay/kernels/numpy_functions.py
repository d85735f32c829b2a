"""Functions of one float32 element in NumPy: fp32 chains, or fp64 chains rounded once (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from replay.kernels import spec
from replay.kernels.numpy_core import (
    CLAMP,
    F32,
    F64,
    HALF,
    I64,
    LOG2E,
    ONE,
    ZERO,
    double,
    doubles,
    exp2,
    finish,
    horner,
    newton,
    power,
    single,
)
from replay.layout import Array
from replay.operators import Operator

_TWO_LOG2E = single(spec.TWO_LOG2E)
_GELU_TANH = [single(text) for text in spec.GELU_TANH]
_ERF_P, _SQRT_HALF = single(spec.ERF_P), single(spec.SQRT_HALF)
_ERF_A = [single(text) for text in spec.ERF_A]
_LN2, _HALF_PI = doubles(spec.LN2), doubles(spec.HALF_PI)
_EXP64, _LOG64, _SIN64, _COS64 = (doubles(c) for c in (spec.EXP64, spec.LOG64, spec.SIN64, spec.COS64))
_ATAN64, _ERF64, _ERF64_A = (doubles(c) for c in (spec.ATAN64, spec.ERF64, spec.ERF64_A))


# ---- fp64 functions --------------------------------------------------------------------------------------------------


def exp64(x: Array) -> Array:
    """e^x in fp64, x clamped to ±150."""
    x = np.clip(x, -spec.EXP_CLAMP, spec.EXP_CLAMP)
    n = np.rint(x * double(spec.INV_LN2))
    return horner((x - n * _LN2[0]) - n * _LN2[1], _EXP64) * power(n.astype(I64))


def log64(v: Array) -> Array:
    """Ln v of a normal fp64 v > 0."""
    bits = v.view(I64)
    n = (bits >> 52) - 1023
    m = ((bits & ((1 << 52) - 1)) | (1023 << 52)).view(F64)
    high = m > double(spec.SQRT2)
    m, n = np.where(high, m * 0.5, m), np.where(high, n + 1, n).astype(F64)
    s = (m - 1.0) / (m + 1.0)
    return n * _LN2[0] + (n * _LN2[1] + s * horner(s * s, _LOG64))


def _turn(x: Array) -> tuple[Array, Array, Array, Array]:
    """(sin r, cos r, quadrant, |x| too large) with x = quadrant·π/2 + r."""
    wide = x.astype(F64)
    far = np.abs(wide) > spec.SIN_MAX
    wide = np.where(far, 0.0, wide)
    n = np.rint(wide * double(spec.TWO_OVER_PI))
    r = ((wide - n * _HALF_PI[0]) - n * _HALF_PI[1]) - n * _HALF_PI[2]
    z = r * r
    return r * horner(z, _SIN64), horner(z, _COS64), n.astype(I64) & 3, far


def sine(x: Array, ahead: int) -> Array:
    """The sine of x + ahead·π/2."""
    s, c, quadrant, far = _turn(x)
    quadrant = (quadrant + ahead) & 3
    y = np.where(quadrant & 1, c, s)
    return finish(np.where(quadrant & 2, -y, y).astype(F32), far)


def tan(_: Operator, x: Array) -> Array:
    s, c, quadrant, far = _turn(x)
    odd = (quadrant & 1) == 1
    return finish((np.where(odd, -c, s) / np.where(odd, s, c)).astype(F32), far)


def atan(_: Operator, x: Array) -> Array:
    a = np.abs(x.astype(F64))
    over = a > 1.0
    a = np.where(over, 1.0 / np.where(over, a, 1.0), a)
    far = a > double(spec.TAN_15)
    a = np.where(far, (a * double(spec.SQRT3) - 1.0) / (a + double(spec.SQRT3)), a)
    y = a * horner(a * a, _ATAN64)
    y = np.where(far, y + double(spec.PI_6), y)
    y = np.where(over, double(spec.PI_2) - y, y)
    return finish(np.where(x < ZERO, -y, y).astype(F32))


def erf(_: Operator, x: Array) -> Array:
    a = np.abs(x.astype(F64))
    near = np.where(a < 0.5, a, 0.0)
    small = near * horner(near * near, _ERF64)
    t = 1.0 / (a * double(spec.ERF64_P) + 1.0)
    large = 1.0 - t * horner(t, _ERF64_A) * exp64(-(a * a))
    y = np.where(a < 0.5, small, large)
    return finish(np.where(x < ZERO, -y, y).astype(F32))


def exp(_: Operator, x: Array) -> Array:
    return finish(exp64(x.astype(F64)).astype(F32))


def log(_: Operator, x: Array) -> Array:
    bad = x <= ZERO
    return finish(log64(np.where(bad, ONE, x).astype(F64)).astype(F32), bad)


def softplus(_: Operator, x: Array) -> Array:
    wide = x.astype(F64)
    return finish((np.maximum(wide, 0.0) + log64(1.0 + exp64(-np.abs(wide)))).astype(F32))


def sqrt(_: Operator, x: Array) -> Array:
    zero = x == ZERO
    safe = np.where(x > ZERO, x, ONE)
    return finish(np.where(zero, ZERO, (safe.astype(F64) * newton(safe)).astype(F32)), x < ZERO)


# ---- fp32 functions --------------------------------------------------------------------------------------------------


def gelu_erf(_: Operator, x: Array) -> Array:
    z = np.abs(x * _SQRT_HALF)
    t = ONE / (z * _ERF_P + ONE)
    p = t * _ERF_A[4]
    for a in (_ERF_A[3], _ERF_A[2], _ERF_A[1], _ERF_A[0]):
        p = (p + a) * t
    tail = p * exp2(np.maximum(z * z * -LOG2E, -CLAMP)) * x * HALF
    return finish(np.where(x < ZERO, tail, x - tail))


def gelu_tanh(_: Operator, x: Array) -> Array:
    w = (x * x * _GELU_TANH[1] + _GELU_TANH[0]) * x
    return finish(x / (exp2(np.clip(w, -CLAMP, CLAMP)) + ONE))


def sigmoid(_: Operator, x: Array) -> Array:
    return finish(ONE / (exp2(np.clip(x * -LOG2E, -CLAMP, CLAMP)) + ONE))


def silu(_: Operator, x: Array) -> Array:
    return finish(x / (exp2(np.clip(x * -LOG2E, -CLAMP, CLAMP)) + ONE))


def tanh(_: Operator, x: Array) -> Array:
    e = exp2(np.maximum(np.abs(x) * -_TWO_LOG2E, -CLAMP))
    y = (ONE - e) / (ONE + e)
    return finish(np.where(x < ZERO, -y, y))


TABLE: Mapping[str, Callable[..., Array]] = {
    "sqrt": sqrt,
    "exp": exp,
    "log": log,
    "sin": lambda _, x: sine(x, 0),
    "cos": lambda _, x: sine(x, 1),
    "tan": tan,
    "atan": atan,
    "erf": erf,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "silu": silu,
    "tanh": tanh,
    "gelu_erf": gelu_erf,
    "gelu_tanh": gelu_tanh,
}
