"""The network operators in NumPy, on integers: dot products, attention, norms, tables (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay.kernels import spec
from replay.kernels.numpy_core import (
    CLAMP,
    F32,
    F64,
    I32,
    I64,
    LOG2E,
    double,
    exp2,
    exponents,
    finish,
    integers,
    power,
    rsqrt,
    single,
)
from replay.kernels.numpy_functions import log64
from replay.kernels.state import State
from replay.layout import Array
from replay.operators import Operator


@dataclass(frozen=True)
class Gridded:
    """A linear weight: integers as fp64 [K, N] and the exponent of each output row [N]."""

    q: Array
    exponent: Array


def embedding(_: Operator, x: Array, table: Array) -> Array:
    return finish(table[x])


def position_rows(_: Operator, x: Array, table: Array, *, state: State | None = None) -> Array:
    first = 0 if state is None else state.position
    return finish(table[first : first + x.shape[0]])


def linear(op: Operator, x: Array, weight: Gridded, bias: Array | None = None) -> Array:
    bits = op.integer("a_bits")
    rows = x.reshape(-1, x.shape[-1])
    top, bad = exponents(rows)
    total = (integers(rows, top, bits) @ weight.q) * power(top - (126 + bits)) * power(weight.exponent)
    y = (total + (0.0 if bias is None else bias.astype(F64))).astype(F32)
    return finish(y, bad).reshape(*x.shape[:-1], y.shape[-1])


def matmul(op: Operator, left: Array, right: Array) -> Array:
    a, b = op.integer("a_bits"), op.integer("b_bits")
    (ta, bad_a), (tb, bad_b) = exponents(left), exponents(right)
    total = integers(left, ta, a) @ np.swapaxes(integers(right, tb, b), -1, -2)
    y = (total * power(ta - (126 + a)) * np.swapaxes(power(tb - (126 + b)), -1, -2)).astype(F32)
    return finish(y, bad_a | np.swapaxes(bad_b, -1, -2))


@dataclass(frozen=True)
class Kept:
    """Keys and values of the tokens so far, on their grids. k, v: [groups, tokens, size] integers; tk, tv: exponents
    [groups, tokens, 1]; bad: [groups, tokens, 1], rows without a grid."""

    k: Array
    v: Array
    tk: Array
    tv: Array
    bad: Array

    def joined(self, later: Kept) -> Kept:
        parts = ((getattr(self, name), getattr(later, name)) for name in ("k", "v", "tk", "tv", "bad"))
        return Kept(*(np.concatenate(part, axis=1) for part in parts))


def attention(op: Operator, x: Array, mask: Array | None = None, *, state: State | None = None) -> Array:
    tokens, size = x.shape[0], op.integer("head_dim")
    heads, groups, causal = op.integer("heads"), op.integer("kv_heads"), op.integer("causal") == 1
    bq, bk = op.integer("q_bits"), op.integer("k_bits")
    # [heads, tokens, size]; a group of keys and values serves heads / groups query heads
    parts = np.split(x.reshape(tokens, heads + 2 * groups, size).transpose(1, 0, 2), [heads, heads + groups])
    q, k, v = (np.ascontiguousarray(part) for part in parts)
    (tq, bad_q), (tk, bad_k), (tv, bad_v) = exponents(q), exponents(k), exponents(v)
    kept = Kept(integers(k, tk, bk), integers(v, tv, spec.VALUE_BITS), tk, tv, bad_k | bad_v)
    if state is not None:
        before = state.kept.get(op.output)
        kept = kept if before is None else before.joined(kept)
        state.kept[op.output] = kept
    total = kept.k.shape[1]
    first = total - tokens
    allowed: Array = _allowed(tokens, total, first, op.integer("window")) if causal else np.ones((tokens, total), bool)
    if mask is not None:
        allowed = allowed & mask[None, :]
    ks, vs, tk, tv, bad_kv = (
        np.repeat(part, heads // groups, axis=0) for part in (kept.k, kept.v, kept.tk, kept.tv, kept.bad)
    )
    s = integers(q, tq, bq) @ ks.transpose(0, 2, 1)
    s = s * power(tq - (126 + bq)) * power(tk - (126 + bk)).transpose(0, 2, 1)
    t = (s * double(op.text("scale"))).astype(F32)  # [heads, i, j]
    bad = bad_q | ((~np.isfinite(t) | bad_kv.transpose(0, 2, 1)) & allowed).any(axis=-1, keepdims=True)
    bad = bad | ~allowed.any(axis=-1, keepdims=True)
    m = t.max(axis=-1, keepdims=True, where=allowed, initial=-np.inf)
    u = exp2(np.where(allowed, np.maximum(t - m, -CLAMP), -CLAMP), spec.WEIGHT_BITS).astype(F64)
    u = np.where(allowed, u, 0.0)
    d = np.rint(u).sum(axis=-1, keepdims=True)
    by_key = tv.transpose(0, 2, 1)  # [heads, 1, j]
    e = np.where(allowed, by_key, spec.EXPONENT_MIN).max(axis=-1, keepdims=True)  # [heads, i, 1]
    w = np.rint(np.where(allowed, u * power(np.minimum(by_key - e, 0)), 0.0))
    y = ((w @ vs) * power(e - (126 + spec.VALUE_BITS)) / d).astype(F32)  # [heads, tokens, size]
    shape = (tokens, heads * size)
    lost = np.broadcast_to(bad, y.shape).transpose(1, 0, 2).reshape(shape)
    return finish(y.transpose(1, 0, 2).reshape(shape), lost)


def _allowed(tokens: int, total: int, first: int, window: int) -> Array:
    """[tokens, total]: j ≤ i, and within the last ``window`` tokens where there is a window; i counts from ``first``."""
    i, j = np.arange(first, first + tokens)[:, None], np.arange(total)[None, :]
    allowed: Array = (j <= i) & (j > i - window) if window else j <= i
    return allowed


def rope(op: Operator, x: Array, cos: Array, sin: Array, *, state: State | None = None) -> Array:
    size, heads, half = op.integer("head_dim"), op.integer("heads"), cos.shape[1]
    first = 0 if state is None else state.position
    parts = x.reshape(x.shape[0], -1, size)
    c, s = (table[first : first + x.shape[0], None, :] for table in (cos, sin))
    if op.integer("interleaved"):
        low, high = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    else:
        low, high = slice(0, half), slice(half, 2 * half)
    a, b = parts[:, :heads, low], parts[:, :heads, high]
    y = parts.copy()
    y[:, :heads, low] = a * c - b * s
    y[:, :heads, high] = b * c + a * s
    return finish(y.reshape(x.shape))


def _sums(x: Array, bits: int) -> tuple[Array, Array, Array, Array]:
    """(Σq, Σq², unit in fp64, rows without grid), the sums exact in int64."""
    top, bad = exponents(x)
    q = integers(x, top, bits).astype(I64)
    return q.sum(-1, keepdims=True), (q * q).sum(-1, keepdims=True), power(top - (126 + bits)), bad


def layer_norm(op: Operator, x: Array, gain: Array | None = None, shift: Array | None = None) -> Array:
    s1, s2, unit, bad = _sums(x, op.integer("bits"))
    spread = I64(x.shape[-1]) * s2 - s1 * s1
    mean = (s1.astype(F64) * unit * double(op.text("inv_d"))).astype(F32)
    variance = (spread.astype(F64) * (unit * unit) * double(op.text("inv_d2"))).astype(F32)
    y = (x - mean) * rsqrt(variance + single(op.text("eps")))
    return finish(y if gain is None or shift is None else y * gain + shift, bad)


def rms_norm(op: Operator, x: Array, gain: Array | None = None) -> Array:
    _, s2, unit, bad = _sums(x, op.integer("bits"))
    square = (s2.astype(F64) * (unit * unit) * double(op.text("inv_d"))).astype(F32)
    y = x * rsqrt(square + single(op.text("eps")))
    return finish(y if gain is None else y * gain, bad)


def l2_normalise(op: Operator, x: Array) -> Array:
    _, s2, unit, bad = _sums(x, op.integer("bits"))
    square = (s2.astype(F64) * (unit * unit)).astype(F32)
    return finish(x * rsqrt(np.maximum(square, single(op.text("floor")))), bad)


def mean_tokens(op: Operator, x: Array) -> Array:
    bits = op.integer("bits")
    top, bad = exponents(x, axis=0)
    total = integers(x, top, bits).sum(axis=0, keepdims=True)
    return finish((total * power(top - (126 + bits)) / F64(x.shape[0])).astype(F32)[0], bad[0])


def _weights(x: Array) -> tuple[Array, Array, Array]:
    """(x − max in fp32, u in fp64, Σ round(u)) of a softmax row."""
    z = x - x.max(axis=-1, keepdims=True)
    u = exp2(np.maximum(z * LOG2E, -CLAMP), spec.WEIGHT_BITS).astype(F64)
    return z, u, np.rint(u).sum(axis=-1, keepdims=True)


def softmax(_: Operator, x: Array) -> Array:
    weights = _weights(x)
    return finish((weights[1] / weights[2]).astype(F32))


def log_softmax(_: Operator, x: Array) -> Array:
    z, _u, d = _weights(x)
    return finish((z.astype(F64) - (log64(d) - double(spec.LN_WEIGHT_UNIT))).astype(F32))


def sample_weights(op: Operator, x: Array) -> Array:
    z = (x - x.max(axis=-1, keepdims=True)).astype(F64) * double(op.text("scale"))
    return np.rint(exp2(np.maximum(z.astype(F32), -CLAMP), spec.SAMPLE_BITS)).astype(I64)


def take(_: Operator, x: Array, table: Array) -> Array:
    return np.asarray(table[x])


def tree_leaves(_: Operator, x: Array, *tables: Array) -> Array:
    """Walk from each root until a leaf; children stand behind their parents, so every walk ends."""
    feature, threshold, mode, yes, no, roots = tables
    rows = np.arange(x.shape[0])[:, None]
    at = np.broadcast_to(roots[None, :], (x.shape[0], len(roots)))
    while (mode[at] != spec.TREE_LEAF).any():
        value, limit, how = x[rows, feature[at]], threshold[at], mode[at]
        choices = [value <= limit, value < limit, value >= limit, value > limit, value == limit, value != limit]
        at = np.where(how == spec.TREE_LEAF, at, np.where(np.choose(np.minimum(how, 5), choices), yes[at], no[at]))
    return np.asarray(yes[at].astype(I32))


TABLE: Mapping[str, Callable[..., Any]] = {
    "embedding": embedding,
    "position_rows": position_rows,
    "linear": linear,
    "matmul": matmul,
    "attention": attention,
    "rope": rope,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "l2_normalise": l2_normalise,
    "mean_tokens": mean_tokens,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "sample_weights": sample_weights,
    "take": take,
    "tree_leaves": tree_leaves,
}
