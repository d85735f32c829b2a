"""The canonical operators in NumPy: plain, independent of torch, the second opinion before anything is called fraud.

It works on integers where the torch backend works on gridded floats, and takes each formula from
``docs/numerics.md``. Arrays are float32 or int32, C-contiguous. A result that is not finite raises ``NonFinite``.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay.errors import NonFinite
from replay.kernels import spec
from replay.layout import Array
from replay.operators import Operator
from replay.program import Program

_F = np.float32
_D = np.float64


def _single(text: str) -> np.float32:
    return np.uint32(int(text, 16)).view(_F)


def _double(text: str) -> np.float64:
    return np.uint64(int(text, 16)).view(_D)


_LOG2E = _single(spec.LOG2E)
_TWO_LOG2E = _single(spec.TWO_LOG2E)
_EXP2 = [_single(text) for text in spec.EXP2]
_GELU_TANH = [_single(text) for text in spec.GELU_TANH]
_ERF_P, _SQRT_HALF = _single(spec.ERF_P), _single(spec.SQRT_HALF)
_ERF_A = [_single(text) for text in spec.ERF_A]
_ZERO, _ONE, _HALF, _CLAMP = _F(0), _F(1), _F(0.5), _F(spec.CLAMP)


@dataclass(frozen=True)
class Gridded:
    """A linear weight: integers as fp64 [K, N] and the exponent of each output row [N]."""

    q: Array
    exponent: Array


# ---- building blocks -------------------------------------------------------------------------------------------------


def power(exponent: Array) -> Array:
    """2^exponent in fp64, from its bits."""
    return ((exponent.astype(np.int64) + 1023) << 52).view(_D)


def exponents(x: Array, axis: int = -1) -> tuple[Array, Array]:
    """(biased exponent of the largest |x| along ``axis``, clamped; whether that row has no grid), axis kept."""
    top = np.ascontiguousarray(np.abs(x).max(axis=axis, keepdims=True)).view(np.int32) >> 23
    return np.clip(top, spec.EXPONENT_MIN, spec.EXPONENT_MAX), top > spec.EXPONENT_MAX


def integers(x: Array, top: Array, bits: int) -> Array:
    """Multiples of 2^(top − 126 − bits), half to even, as fp64 integers."""
    return np.rint(x.astype(_D) * power(126 + bits - top))


def finish(y: Array, bad: Array | None = None) -> Array:
    """Write a float32 result: −0 becomes +0; raises ``NonFinite`` at the first element that is not finite or ``bad``."""
    wrong = ~np.isfinite(y)
    if bad is not None:
        wrong |= bad
    if wrong.any():
        raise NonFinite(int(np.argmax(wrong)))
    return np.ascontiguousarray(y + _ZERO)


def exp2(z: Array, bias: int = 0) -> Array:
    """2^(z + bias) in fp32 for |z| ≤ 60."""
    n = np.rint(z)
    f = z - n
    p = f * _EXP2[4]
    for c in (_EXP2[3], _EXP2[2], _EXP2[1], _EXP2[0]):
        p = (p + c) * f
    p = p + _ONE
    return (p.view(np.int32) + ((n.astype(np.int32) + np.int32(bias)) << 23)).view(_F)


def rsqrt(v: Array) -> Array:
    """1/√v of a float32 v > 0, by Newton in fp64, rounded once to float32."""
    wide = v.astype(_D)
    y = (np.int64(spec.RSQRT) - (wide.view(np.int64) >> 1)).view(_D)
    half = wide * 0.5
    for _ in range(spec.RSQRT_STEPS):
        y = y * (1.5 - (half * y) * y)
    return y.astype(_F)


def dot(q: Array, weight: Gridded, exponent: Array) -> Array:
    """Σ q·w, exact, times its power of two: [M, N] fp64. ``exponent``: [M, 1]."""
    total: Array = (q @ weight.q) * power(exponent) * power(weight.exponent)
    return total


# ---- operators -------------------------------------------------------------------------------------------------------


def _embedding(_: Operator, x: Array, table: Array) -> Array:
    return finish(table[x])


def _position_rows(_: Operator, x: Array, table: Array) -> Array:
    return finish(table[: x.shape[0]])


def _linear(op: Operator, x: Array, weight: Gridded, bias: Array | None = None) -> Array:
    bits = op.integer("a_bits")
    rows = x.reshape(-1, x.shape[-1])
    top, bad = exponents(rows)
    total = dot(integers(rows, top, bits), weight, top - (126 + bits))
    y = (total + (0.0 if bias is None else bias.astype(_D))).astype(_F)
    return finish(y, bad).reshape(*x.shape[:-1], y.shape[-1])


def _attention(op: Operator, x: Array) -> Array:
    tokens, size = x.shape[0], op.integer("head_dim")
    heads, groups, causal = op.integer("heads"), op.integer("kv_heads"), op.integer("causal") == 1
    # [heads, tokens, size]; a group of keys and values serves heads / groups query heads
    parts = np.split(x.reshape(tokens, heads + 2 * groups, size).transpose(1, 0, 2), [heads, heads + groups])
    q, k, v = (np.ascontiguousarray(part) for part in parts)
    k, v = (np.repeat(part, heads // groups, axis=0) for part in (k, v))
    (tq, bad_q), (tk, bad_k), (tv, bad_v) = exponents(q), exponents(k), exponents(v)
    bq, bk = op.integer("q_bits"), op.integer("k_bits")
    s = integers(q, tq, bq) @ integers(k, tk, bk).transpose(0, 2, 1)
    s = s * power(tq - (126 + bq)) * power(tk - (126 + bk)).transpose(0, 2, 1)
    t = (s * _double(op.text("scale"))).astype(_F)  # [heads, i, j]
    allowed = np.tri(tokens, dtype=bool) if causal else np.ones((tokens, tokens), bool)
    bad = bad_q | ((~np.isfinite(t) | (bad_k | bad_v).transpose(0, 2, 1)) & allowed).any(axis=-1, keepdims=True)
    m = t.max(axis=-1, keepdims=True, where=allowed, initial=-np.inf)
    u = exp2(np.where(allowed, np.maximum(t - m, -_CLAMP), -_CLAMP), spec.WEIGHT_BITS).astype(_D)
    u = np.where(allowed, u, 0.0)
    d = np.rint(u).sum(axis=-1, keepdims=True)
    e = np.maximum.accumulate(tv, axis=1) if causal else np.broadcast_to(tv.max(axis=1, keepdims=True), tv.shape)
    w = np.rint(np.where(allowed, u * power(np.minimum(tv.transpose(0, 2, 1) - e, 0)), 0.0))
    total = w @ integers(v, tv, spec.VALUE_BITS)
    y = (total * power(e - (126 + spec.VALUE_BITS)) / d).astype(_F)  # [heads, tokens, size]
    shape = (tokens, heads * size)
    lost = np.broadcast_to(bad, y.shape).transpose(1, 0, 2).reshape(shape)
    return finish(y.transpose(1, 0, 2).reshape(shape), lost)


def _sums(x: Array, bits: int) -> tuple[Array, Array, Array, Array]:
    """(Σq, Σq², unit in fp64, rows without grid), the sums exact in int64."""
    top, bad = exponents(x)
    q = integers(x, top, bits).astype(np.int64)
    return q.sum(-1, keepdims=True), (q * q).sum(-1, keepdims=True), power(top - (126 + bits)), bad


def _layer_norm(op: Operator, x: Array, gain: Array, shift: Array) -> Array:
    s1, s2, unit, bad = _sums(x, op.integer("bits"))
    spread = np.int64(x.shape[-1]) * s2 - s1 * s1
    mean = (s1.astype(_D) * unit * _double(op.text("inv_d"))).astype(_F)
    variance = (spread.astype(_D) * (unit * unit) * _double(op.text("inv_d2"))).astype(_F)
    return finish((x - mean) * rsqrt(variance + _single(op.text("eps"))) * gain + shift, bad)


def _l2_normalise(op: Operator, x: Array) -> Array:
    _, s2, unit, bad = _sums(x, op.integer("bits"))
    square = (s2.astype(_D) * (unit * unit)).astype(_F)
    return finish(x * rsqrt(np.maximum(square, _single(op.text("floor")))), bad)


def _mean_tokens(op: Operator, x: Array) -> Array:
    bits = op.integer("bits")
    top, bad = exponents(x, axis=0)
    total = integers(x, top, bits).sum(axis=0, keepdims=True)
    return finish((total * power(top - (126 + bits)) / _D(x.shape[0])).astype(_F)[0], bad[0])


def _softmax(_: Operator, x: Array) -> Array:
    bad = exponents(x)[1]
    t = x * _LOG2E
    u = exp2(np.maximum(t - t.max(axis=-1, keepdims=True), -_CLAMP), spec.WEIGHT_BITS).astype(_D)
    return finish((u / np.rint(u).sum(axis=-1, keepdims=True)).astype(_F), bad)


def _gelu_erf(_: Operator, x: Array) -> Array:
    z = np.abs(x * _SQRT_HALF)
    t = _ONE / (z * _ERF_P + _ONE)
    p = t * _ERF_A[4]
    for a in (_ERF_A[3], _ERF_A[2], _ERF_A[1], _ERF_A[0]):
        p = (p + a) * t
    tail = p * exp2(np.maximum(z * z * -_LOG2E, -_CLAMP)) * x * _HALF
    return finish(np.where(x < _ZERO, tail, x - tail))


def _gelu_tanh(_: Operator, x: Array) -> Array:
    w = (x * x * _GELU_TANH[1] + _GELU_TANH[0]) * x
    return finish(x / (exp2(np.clip(w, -_CLAMP, _CLAMP)) + _ONE))


def _sigmoid(_: Operator, x: Array) -> Array:
    return finish(_ONE / (exp2(np.clip(x * -_LOG2E, -_CLAMP, _CLAMP)) + _ONE))


def _tanh(_: Operator, x: Array) -> Array:
    e = exp2(np.maximum(np.abs(x) * -_TWO_LOG2E, -_CLAMP))
    y = (_ONE - e) / (_ONE + e)
    return finish(np.where(x < _ZERO, -y, y))


def _argmax(_: Operator, x: Array) -> Array:
    places: Array = np.argmax(x, axis=-1)
    return places.astype(np.int32)


def _transpose(op: Operator, x: Array) -> Array:
    return np.ascontiguousarray(x.transpose([int(axis) for axis in op.items("perm")]))


_TABLE: Mapping[str, Callable[..., Array]] = {
    "embedding": _embedding,
    "position_rows": _position_rows,
    "add": lambda _, x, y: finish(x + y),
    "sub": lambda _, x, y: finish(x - y),
    "mul": lambda _, x, y: finish(x * y),
    "div": lambda _, x, y: finish(x / y),
    "linear": _linear,
    "attention": _attention,
    "layer_norm": _layer_norm,
    "l2_normalise": _l2_normalise,
    "softmax": _softmax,
    "gelu_erf": _gelu_erf,
    "gelu_tanh": _gelu_tanh,
    "relu": lambda _, x: finish(np.maximum(x, _ZERO)),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "mean_tokens": _mean_tokens,
    "argmax": _argmax,
    "take": lambda _, x, table: table[x],
    "transpose": _transpose,
    "to_float": lambda _, x: x.astype(_F),
}


class NumpyKernels:
    """One program's weights, ready to run. ``apply`` is pure; an instance may serve several threads."""

    name = "numpy"

    def __init__(self, program: Program, weights: Mapping[str, Array]) -> None:
        self._weights: dict[str, Any] = {}
        for weight in program.weights:
            array = weights[weight.name]
            self._weights[weight.name] = self.grid(array) if weight.form == "grid" else array

    @staticmethod
    def grid(weight: Array) -> Gridded:
        """A weight [N, K] on its grid."""
        bits = spec.dot_bits(weight.shape[1])[1]
        top, _ = exponents(weight)
        return Gridded(np.ascontiguousarray(integers(weight, top, bits).T), (top - (126 + bits))[:, 0])

    @staticmethod
    def environment() -> dict[str, str]:
        """Library versions that this backend depends on."""
        return {"numpy": np.__version__, "python": platform.python_version()}

    def load(self, array: Array) -> Array:
        return np.ascontiguousarray(array)

    def unload(self, value: Array) -> Array:
        return value

    def apply(self, op: Operator, values: Sequence[Array], dims: Mapping[str, int]) -> Array:
        """The operator's result. ``dims`` binds the symbols. Raises ``NonFinite``."""
        if op.kind == "reshape":
            return values[0].reshape([dims[dim] if isinstance(dim, str) else dim for dim in op.items("shape")])
        with np.errstate(all="ignore"):
            return _TABLE[op.kind](op, *values, *(self._weights[name] for name in op.weights))
