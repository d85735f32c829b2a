"""Operators that move elements, in NumPy: the bits stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from replay.kernels.numpy_core import refuse
from replay.layout import Array
from replay.operators import Operator


def filler(op: Operator, dtype: np.dtype[Any]) -> Array:
    """The element that attribute ``value`` gives by its bits."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return np.array(int(op.text("value"), 16), unsigned).view(dtype)


def _slice(op: Operator, x: Array) -> Array:
    start, count, step = (op.integer(name) for name in ("start", "count", "step"))
    index = start + step * np.arange(count)
    return np.ascontiguousarray(np.take(x, index, axis=op.integer("axis")))


def _pad(op: Operator, x: Array, before: Sequence[int] | None = None, after: Sequence[int] | None = None) -> Array:
    low = op.integers("before") if before is None else before
    high = op.integers("after") if after is None else after
    y = np.full([a + n + b for a, n, b in zip(low, x.shape, high, strict=True)], filler(op, x.dtype))
    y[tuple(slice(a, a + n) for a, n in zip(low, x.shape, strict=True))] = x
    return y


def _windows(op: Operator, x: Array) -> Array:
    padded = _pad(op, x, (0, 0, *op.integers("before")), (0, 0, *op.integers("after")))
    kernel, strides, dilations = (op.integers(name) for name in ("kernel", "strides", "dilations"))
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    rank = len(kernel)
    seen = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, s) for s in strides)
    holes = tuple(slice(None, None, d) for d in dilations)
    seen = seen[(slice(None), slice(None), *steps, *holes)]
    return np.ascontiguousarray(seen).reshape(*seen.shape[: 2 + rank], -1)


def _inside(index: Array, size: int) -> Array:
    return (index >= 0) & (index < size)


def _gather(op: Operator, x: Array, index: Array) -> Array:
    axis = op.integer("axis")
    good = _inside(index, x.shape[axis])
    y = np.take(x, np.where(good, index, 0), axis=axis)
    shape = (1,) * axis + index.shape + (1,) * (x.ndim - axis - 1)
    refuse(np.broadcast_to(~good.reshape(shape), y.shape))
    return np.ascontiguousarray(y)


def _gather_elements(op: Operator, x: Array, index: Array) -> Array:
    axis = op.integer("axis")
    refuse(~_inside(index, x.shape[axis]))
    part = x[tuple(slice(None) if place == axis else slice(0, n) for place, n in enumerate(index.shape))]
    return np.ascontiguousarray(np.take_along_axis(part, index.astype(np.int64), axis=axis))


def _scatter_elements(op: Operator, x: Array, index: Array, updates: Array) -> Array:
    """Updates in row-major order: where an element is named twice the last one stays."""
    axis = op.integer("axis")
    places: list[Array] = list(np.indices(index.shape))
    places[axis] = index
    if not _inside(index, x.shape[axis]).all():
        refuse(np.ones(x.shape, bool))  # the whole result has no meaning; its first element says so
    flat = np.ravel_multi_index(tuple(place.reshape(-1).astype(np.int64) for place in places), x.shape)
    y = x.reshape(-1).copy()
    last = np.full(y.shape, -1)
    np.maximum.at(last, flat, np.arange(flat.size))
    y[last >= 0] = updates.reshape(-1)[last[last >= 0]]
    return y.reshape(x.shape)


def sized(op: Operator, dims: Mapping[str, int]) -> list[int]:
    """Attribute ``shape`` with its symbols bound."""
    return [dims[dim] if isinstance(dim, str) else dim for dim in op.items("shape")]


TABLE: Mapping[str, Callable[..., Array]] = {
    "constant": lambda _, weight: weight,
    "transpose": lambda op, x: np.ascontiguousarray(x.transpose(op.integers("perm"))),
    "slice": _slice,
    "concat": lambda op, *parts: np.concatenate(parts, axis=op.integer("axis")),
    "pad": _pad,
    "windows": _windows,
    "gather": _gather,
    "gather_elements": _gather_elements,
    "scatter_elements": _scatter_elements,
}
