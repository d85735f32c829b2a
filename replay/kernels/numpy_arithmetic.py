"""Elementwise operators and reductions along the last dimension in NumPy (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from replay.kernels import numpy_functions
from replay.kernels.numpy_core import (
    F32,
    F64,
    I32,
    I64,
    ONE,
    ZERO,
    exponents,
    finish,
    integers,
    power,
    refuse,
)
from replay.kernels.numpy_functions import exp64, log64
from replay.layout import Array
from replay.operators import Operator

# ---- operands --------------------------------------------------------------------------------------------------------


def written(y: Array) -> Array:
    """A result of any dtype, as an operator writes it."""
    return finish(y) if y.dtype == F32 else np.ascontiguousarray(y)


def _divide(_: Operator, x: Array, y: Array) -> Array:
    """fp32 division, or integer division towards zero."""
    if x.dtype == F32:
        return finish(x / y)
    x, y = np.broadcast_arrays(x, y)
    refuse(y == 0)
    quotient = np.where(y == -1, -x, x // np.where(y == -1, 1, y))  # the quotient of the least integer wraps
    inexact = (y != -1) & ((x < 0) != (y < 0)) & (quotient * y != x)
    return np.ascontiguousarray(np.where(inexact, quotient + 1, quotient).astype(x.dtype))


def _mod(_: Operator, x: Array, y: Array) -> Array:
    """The remainder that has the divisor's sign."""
    x, y = np.broadcast_arrays(x, y)
    refuse(y == 0)
    return np.ascontiguousarray(np.where(y == -1, 0, x % np.where(y == -1, 1, y)).astype(x.dtype))


def _fmod(_: Operator, x: Array, y: Array) -> Array:
    """The remainder that has the dividend's sign."""
    x, y = np.broadcast_arrays(x, y)
    refuse(y == 0)
    return np.ascontiguousarray(np.where(y == -1, 0, np.fmod(x, np.where(y == -1, 1, y))).astype(x.dtype))


def _pow(_: Operator, x: Array, y: Array) -> Array:
    x, y = np.broadcast_arrays(x, y)
    if x.dtype != F32:
        return _integer_power(x, y)
    size = np.abs(x)
    safe = np.where(size > ZERO, size, ONE).astype(F64)
    result = exp64(y.astype(F64) * log64(safe)).astype(F32)
    whole = y == np.floor(y)
    odd = whole & (np.abs(y) < F32(2**24)) & ((y.astype(I64, casting="unsafe") & 1) == 1)
    result = np.where((x < ZERO) & odd, -result, result)
    result = np.where(x == ZERO, np.where(y > ZERO, ZERO, ONE), result)
    result = np.where(y == ZERO, ONE, result)
    return finish(result.astype(F32), ((x < ZERO) & ~whole) | ((x == ZERO) & (y < ZERO)))


def _integer_power(x: Array, y: Array) -> Array:
    """Squaring and multiplying, which wrap; a negative exponent has no result."""
    refuse(y < 0)
    result, base, left = np.ones_like(x), x.copy(), y.copy()
    while (left > 0).any():
        result = np.where(left & 1, result * base, result)
        base, left = base * base, left >> 1
    return np.ascontiguousarray(result)


def _where(_: Operator, condition: Array, yes: Array, no: Array) -> Array:
    return written(np.where(condition, yes, no))


def _cast(op: Operator, x: Array) -> Array:
    """Towards zero from fp32, which must fit; integers wrap; bool is 0 or 1, and whatever is not 0 is true."""
    to: Any = np.dtype(op.text("to"))
    if x.dtype == F32 and to.kind == "i":
        limit = F32(2.0 ** (8 * to.itemsize - 1))
        whole = np.trunc(x)
        refuse(~((whole >= -limit) & (whole < limit)))
        return np.asarray(whole.astype(to))
    if to == np.bool_:
        return np.asarray(x != 0)
    return written(x.astype(to))


# ---- reductions ------------------------------------------------------------------------------------------------------


def _total(op: Operator, x: Array) -> tuple[Array, Array]:
    """(exact sum of each row times its unit, in fp64; rows without grid)"""
    bits = op.integer("bits")
    top, bad = exponents(x)
    return integers(x, top, bits).sum(-1) * power(top - (126 + bits))[..., 0], bad[..., 0]


def _reduced(y: Array) -> Array:
    """A row alone gives one element."""
    return y if y.ndim else y.reshape(1)


def _reduce_sum(op: Operator, x: Array) -> Array:
    if x.dtype != F32:
        return _reduced(np.asarray(x.sum(-1, dtype=x.dtype)))
    total, bad = _total(op, x)
    return finish(_reduced(np.asarray(total).astype(F32)), _reduced(np.asarray(bad)))


def _reduce_mean(op: Operator, x: Array) -> Array:
    total, bad = _total(op, x)
    return finish(_reduced(np.asarray(total / F64(x.shape[-1])).astype(F32)), _reduced(np.asarray(bad)))


def _reduce_prod(_: Operator, x: Array) -> Array:
    """Left to right, each product rounded (integers wrap)."""
    total = x[..., 0]
    for place in range(1, x.shape[-1]):
        total = total * x[..., place]
    return written(_reduced(np.asarray(total)))


def _cumsum(op: Operator, x: Array) -> Array:
    flip = op.integer("reverse") == 1
    x = np.ascontiguousarray(x[..., ::-1]) if flip else x
    bits, bad = op.integer("bits"), None
    if x.dtype == F32:
        top, bad = exponents(x)
        q, unit = integers(x, top, bits), power(top - (126 + bits))
    else:
        q, unit = x, np.asarray(1, x.dtype)
    total = np.cumsum(q, axis=-1, dtype=q.dtype)
    if op.integer("exclusive"):
        total = total - q
    y = (total * unit).astype(x.dtype)
    y = np.ascontiguousarray(y[..., ::-1]) if flip else y
    return finish(y, np.broadcast_to(bad, y.shape)) if bad is not None else y


def _places(y: Any) -> Array:
    return _reduced(np.asarray(y)).astype(I32)


def _order(op: Operator, x: Array) -> Array:
    """Indices of the k largest (smallest), in that order; the lowest index first among equals."""
    # a stable sort of the negated values would overflow at the least integer, a reversed stable sort does not
    if op.integer("largest"):
        order = x.shape[-1] - 1 - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    else:
        order = np.argsort(x, axis=-1, kind="stable")
    return np.ascontiguousarray(order[..., : op.integer("k")])


def _float(function: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda _, x: written(function(x))


def _pair(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda _, x, y: written(function(x, y))


TABLE: Mapping[str, Callable[..., Array]] = {
    **numpy_functions.TABLE,
    "relu": _float(lambda x: np.maximum(x, ZERO)),
    "floor": _float(np.floor),
    "ceil": _float(np.ceil),
    "round": _float(np.rint),
    "neg": _float(np.negative),
    "abs": _float(np.abs),
    "sign": _float(np.sign),
    "not": lambda _, x: ~x,
    "bit_not": lambda _, x: ~x,
    "add": _pair(np.add),
    "sub": _pair(np.subtract),
    "mul": _pair(np.multiply),
    "div": _divide,
    "max": _pair(np.maximum),
    "min": _pair(np.minimum),
    "pow": _pow,
    "mod": _mod,
    "fmod": _fmod,
    "bit_and": _pair(np.bitwise_and),
    "bit_or": _pair(np.bitwise_or),
    "bit_xor": _pair(np.bitwise_xor),
    "and": _pair(np.logical_and),
    "or": _pair(np.logical_or),
    "xor": _pair(np.logical_xor),
    "equal": _pair(np.equal),
    "less": _pair(np.less),
    "less_equal": _pair(np.less_equal),
    "where": _where,
    "cast": _cast,
    "reduce_sum": _reduce_sum,
    "reduce_mean": _reduce_mean,
    "reduce_max": lambda _, x: written(_reduced(x.max(-1))),
    "reduce_min": lambda _, x: written(_reduced(x.min(-1))),
    "reduce_prod": _reduce_prod,
    "cumsum": _cumsum,
    "argmax": lambda _, x: _places(np.argmax(x, axis=-1)),
    "argmin": lambda _, x: _places(np.argmin(x, axis=-1)),
    "top_values": lambda op, x: written(np.take_along_axis(x, _order(op, x), -1)),
    "top_indices": lambda op, x: _order(op, x).astype(I32),
}
