"""Signatures of operators that move elements: no arithmetic, the bits stay as they are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from replay.operators.types import (
    INTEGERS,
    MAX_RANK,
    Dim,
    Signature,
    Site,
    TensorType,
    broadcast,
    signature,
)

MAX_JOINED = 256
#: Elements that one operator may make of a value of fixed shape: a bound on what a small file can ask for.
MAX_ELEMENTS = 1 << 31


def _constant(site: Site) -> TensorType:
    """A raw weight as a value."""
    return TensorType(site.weights[0].dtype, site.weights[0].shape)


def _shape(site: Site, shape: Sequence[Dim]) -> tuple[Dim, ...]:
    site.need(1 <= len(shape) <= MAX_RANK, f"wants 1 to {MAX_RANK} dimensions")
    site.need(all(dim in site.symbols if isinstance(dim, str) else dim >= 1 for dim in shape), "wants known dimensions")
    most = math.prod(site.most(dim) for dim in shape)
    site.need(most <= MAX_ELEMENTS, f"{list(shape)} may hold {most} elements, at most {MAX_ELEMENTS} are allowed")
    return tuple(shape)


def _reshape(site: Site) -> TensorType:
    value, shape = site.values[0], _shape(site, site.op.items("shape"))
    site.need(_volume(shape) == _volume(value.shape), f"{value} does not reshape to {list(shape)}")
    return TensorType(value.dtype, shape)


def _volume(shape: Sequence[Dim]) -> tuple[int, list[str]]:
    return math.prod(dim for dim in shape if isinstance(dim, int)), sorted(d for d in shape if isinstance(d, str))


def _transpose(site: Site) -> TensorType:
    value, order = site.values[0], site.op.integers("perm")
    site.need(sorted(order) == list(range(len(value.shape))), "perm must permute the axes")
    return TensorType(value.dtype, tuple(value.shape[axis] for axis in order))


def _expand(site: Site) -> TensorType:
    value, shape = site.values[0], _shape(site, site.op.items("shape"))
    site.need(broadcast(site, value.shape, shape) == shape, f"{value} does not expand to {list(shape)}")
    return TensorType(value.dtype, shape)


def _slice(site: Site) -> TensorType:
    """Elements start, start + step, … along one axis, ``count`` of them."""
    value = site.values[0]
    axis, step = site.axis(value), site.within("step", -(2**31), 2**31)
    size = site.fixed(value.shape[axis])
    start, count = site.within("start", 0, size - 1), site.within("count", 1, size)
    site.need(step != 0 and 0 <= start + (count - 1) * step < size, f"leaves axis {axis} of {value}")
    return TensorType(value.dtype, (*value.shape[:axis], count, *value.shape[axis + 1 :]))


def _concat(site: Site) -> TensorType:
    first = site.values[0]
    axis, total = site.axis(first), 0
    for value in site.values:
        same = len(value.shape) == len(first.shape) and value.dtype == first.dtype
        same = same and value.shape[:axis] + value.shape[axis + 1 :] == first.shape[:axis] + first.shape[axis + 1 :]
        site.need(same, f"{first} and {value} do not join along axis {axis}")
        total += site.fixed(value.shape[axis])
    return TensorType(first.dtype, _shape(site, (*first.shape[:axis], total, *first.shape[axis + 1 :])))


def _pad(site: Site) -> TensorType:
    """``before``, ``after``: elements added per axis; ``value``: the bits of what is added."""
    value = site.values[0]
    before, after = site.op.integers("before"), site.op.integers("after")
    site.need(len(before) == len(after) == len(value.shape), "wants one number per axis")
    _bits(site, value)
    shape: list[Dim] = []
    for dim, low, high in zip(value.shape, before, after, strict=True):
        site.need(0 <= low < 2**31 and 0 <= high < 2**31, "pads are at least 0")
        shape.append(dim if low == high == 0 else site.fixed(dim) + low + high)
    return TensorType(value.dtype, _shape(site, shape))


def _bits(site: Site, value: TensorType) -> None:
    """Attribute ``value``: the bits of one element, 8 hex digits (int64: 16, bool: 2); a float is finite and not −0."""
    text = site.op.text("value")
    digits = {"int64": 16, "bool": 2}.get(value.dtype, 8)
    site.need(re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None, f"attribute value must be {digits} hex digits")
    bits = int(text, 16)
    finite = bits & 0x7FFFFFFF < 0x7F800000 and bits != 0x80000000
    site.need(value.dtype != "float32" or finite, "attribute value must be a finite float32")
    site.need(value.dtype != "bool" or bits <= 1, "attribute value must be 00 or 01")


def _windows(site: Site) -> TensorType:
    """[N, C, *S] → [N, C, *O, k]: the elements under each window, row-major; what lies outside is ``value``."""
    value, op = site.typed(0, ("float32", "int32", "int64"), 3), site.op
    spatial = value.shape[2:]
    kernel, strides, dilations = op.integers("kernel"), op.integers("strides"), op.integers("dilations")
    before, after = op.integers("before"), op.integers("after")
    lists = (kernel, strides, dilations, before, after)
    site.need(all(len(one) == len(spatial) for one in lists), "wants one number per spatial axis")
    site.need(all(1 <= item < 2**31 for one in lists[:3] for item in one), "kernel, strides, dilations are at least 1")
    site.need(all(0 <= item < 2**31 for one in lists[3:] for item in one), "pads are at least 0")
    _bits(site, value)
    sizes: list[Dim] = []
    for dim, k, s, d, low, high in zip(spatial, *lists, strict=True):
        room = site.fixed(dim) + low + high - (k - 1) * d - 1
        site.need(room >= 0, f"a window of {k} does not fit into {value}")
        sizes.append(room // s + 1)
    return TensorType(value.dtype, _shape(site, (*value.shape[:2], *sizes, math.prod(kernel))))


def _gather(site: Site) -> TensorType:
    """Slices of the first value along ``axis``, chosen by the second."""
    value, index = site.values[0], site.typed(1, INTEGERS)
    axis = site.axis(value)
    return TensorType(value.dtype, _shape(site, (*value.shape[:axis], *index.shape, *value.shape[axis + 1 :])))


def _gather_elements(site: Site) -> TensorType:
    value, index = site.values[0], site.typed(1, INTEGERS)
    axis = site.axis(value)
    site.need(len(value.shape) == len(index.shape), "value and index have the same rank")
    for place, (dim, most) in enumerate(zip(index.shape, value.shape, strict=True)):
        good = place == axis or dim == most or (isinstance(dim, int) and isinstance(most, int) and dim <= most)
        site.need(good, f"{index} does not lie within {value}")
    return TensorType(value.dtype, index.shape)


def _scatter_elements(site: Site) -> TensorType:
    """The first value with the elements that the second names along ``axis`` replaced by those of the third."""
    value, index, updates = site.values
    _gather_elements(Site(site.op, (value, index), (), site.symbols, site.grid))
    site.need(updates == TensorType(value.dtype, index.shape), f"wants updates like the index {index}, not {updates}")
    return value


SIGNATURES: Mapping[str, Signature] = {
    "constant": signature(_constant, values=(0,), weights=(1,)),
    "reshape": signature(_reshape, "shape"),
    "transpose": signature(_transpose, "perm"),
    "expand": signature(_expand, "shape"),
    "slice": signature(_slice, "axis start count step"),
    "concat": signature(_concat, "axis", values=range(1, MAX_JOINED + 1)),
    "pad": signature(_pad, "before after value"),
    "windows": signature(_windows, "kernel strides dilations before after value"),
    "gather": signature(_gather, "axis", values=(2,)),
    "gather_elements": signature(_gather_elements, "axis", values=(2,)),
    "scatter_elements": signature(_scatter_elements, "axis", values=(3,)),
}
