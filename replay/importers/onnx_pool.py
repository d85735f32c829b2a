"""Pools of any number of spatial axes: windows, then a sum or a maximum; and blocks put back into an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from replay.importers.onnx_convolution import Windows, read_windows, spatial
from replay.importers.onnx_value import Call, Rule, Value, volume
from replay.layout import Array
from replay.operators import DType

_LEAST: Mapping[DType, str] = {"float32": "ff7fffff", "int32": "80000000", "int64": "8000000000000000"}


def _pool(call: Call, value: Value) -> Windows:
    call.need(value.rank >= 3, "wants [N, C, …]")
    kernel = call.ints("kernel_shape")
    call.need(len(kernel) == value.rank - 2, "wants one kernel size per axis")
    same = call.text("auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER").startswith("SAME")
    wide = any(step != 1 for step in call.ints("dilations", ()))
    ceil = call.flag("ceil_mode")
    call.need(not (same and (wide or ceil)), "auto_pad with dilations or ceil_mode: implementations differ")
    return read_windows(call, spatial(value), kernel, ceil=ceil)


def _inside(windows: Windows, *, padding: bool = False) -> Array:
    """[*O, k]: whether each entry is an element (or, with ``padding``, one that ONNX itself pads)."""
    made = np.ones((1,) * (2 * len(windows.sizes)), bool)
    rank = len(windows.sizes)
    for axis in range(rank):
        at, low, high = windows.places(axis), 0, windows.sizes[axis]
        if padding:
            low, high = -windows.before[axis], high + windows.padded[axis]
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = at.shape
        made = made & ((at >= low) & (at < high)).reshape(shape)
    return made.reshape(*windows.counts, -1)


def _check_table(call: Call, windows: Windows) -> None:
    call.low.grow((*windows.counts, math.prod(windows.kernel)))


def _max_pool(call: Call) -> Sequence[Value]:
    low, value = call.low, call.value()
    windows, column_major = _pool(call, value), call.flag("storage_order")
    call.need(value.dtype in _LEAST, f"the type {value.dtype}")
    _check_table(call, windows)
    call.need(bool(_inside(windows).any(-1).all()), "a window lies in the padding")
    seen = windows.applied(low, value, _LEAST[value.dtype])
    best = low.reduce("reduce_max", seen, [-1], keep=False)
    if len(call.node.outputs) < 2 or not call.node.outputs[1]:
        return [best]
    return best, _max_places(call, value, windows, seen, column_major=column_major)


def _max_places(call: Call, value: Value, windows: Windows, seen: Value, *, column_major: bool) -> Value:
    """Flat indices into the input, int64: those of the first of the largest elements."""
    low, rank = call.low, len(windows.sizes)
    table = np.zeros((1,) * (2 * rank), np.int64)
    for axis in range(rank):
        at = np.clip(windows.places(axis), 0, windows.sizes[axis] - 1)
        behind = windows.sizes[:axis] if column_major else windows.sizes[axis + 1 :]
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = at.shape
        table = table + at.reshape(shape) * math.prod(behind)
    cells = math.prod(windows.kernel)
    flat = table.reshape(-1)  # [O·k]
    found = low.reduce("argmax", seen, [-1], keep=False)  # [N, C, *O]
    base = low.constant(np.arange(flat.size // cells, dtype=np.int32).reshape(windows.counts) * np.int32(cells))
    inner = low.gather(low.constant(flat), low("add", found, base), 0)
    planes = volume(value.shape[:2])
    low.grow((planes,))
    first = np.arange(planes, dtype=np.int64).reshape(planes, *(1,) * rank) * math.prod(windows.sizes)
    return low("add", inner, low.constant(first.reshape(volume(value.shape[:1]), value.size(1), *(1,) * rank)))


def _average_pool(call: Call) -> Value:
    low, value = call.low, call.value()
    windows, include = _pool(call, value), call.flag("count_include_pad")
    call.need(value.dtype == "float32", f"the type {value.dtype}")
    _check_table(call, windows)
    count = _inside(windows, padding=include).sum(-1)
    call.need(bool((count > 0).all()), "a window lies in the padding")
    total = low.reduce("reduce_sum", windows.applied(low, value), [-1], keep=False)
    same = int(count.flat[0])
    if (count == same).all():
        return low("div", total, float(same))
    return low("div", total, low.constant(count.astype(np.float32)))


def _power_mean(call: Call, seen: Value, axes: Sequence[int], *, keep: bool) -> Value:
    low, p = call.low, call.whole("p", 2)
    call.need(p >= 1 and seen.dtype == "float32", "p is at least 1")
    size = low("abs", seen)
    if p == 1:
        return low.reduce("reduce_sum", size, axes, keep=keep)
    if p == 2:
        return low("sqrt", low.reduce("reduce_sum", low("mul", seen, seen), axes, keep=keep))
    return low("pow", low.reduce("reduce_sum", low("pow", size, float(p)), axes, keep=keep), 1 / p)


def _lp_pool(call: Call) -> Value:
    value = call.value()
    return _power_mean(call, _pool(call, value).applied(call.low, value), [-1], keep=False)


def _global(kind: str) -> Rule:
    def rule(call: Call) -> Value:
        value = call.value()
        call.need(value.rank >= 3 and value.dtype == "float32", "wants float32 [N, C, …]")
        return call.low.reduce(kind, value, range(2, value.rank), keep=True)

    return Rule(rule, 7)


def _global_lp_pool(call: Call) -> Value:
    value = call.value()
    return _power_mean(call, value, range(2, value.rank), keep=True)


def _col2im(call: Call) -> Value:
    """Overlapping blocks added up: each element of the image gathers what lies over it, then an exact sum."""
    low, value = call.low, call.value()
    image, block = tuple(call.integers(1, "the image")), tuple(call.integers(2, "the block"))
    rank, cells = len(image), math.prod(block)
    call.need(len(block) == rank and value.rank == 3 and min(*image, *block) >= 1, "shapes do not fit")
    windows = read_windows(call, image, block)
    blocks = math.prod(windows.counts)
    channels, rest = divmod(value.size(1), cells)
    call.need(rest == 0 and value.shape[2] == blocks, "blocks do not fit the image")
    low.grow((blocks, cells))
    at = np.zeros((1,) * (2 * rank), np.int64)
    for axis in range(rank):
        shape, place = [1] * (2 * rank), windows.places(axis)
        shape[axis], shape[rank + axis] = place.shape
        at = at * image[axis] + place.reshape(shape)
    kept = _inside(windows).reshape(blocks, cells).T.reshape(-1)  # [cells, blocks], as the input lies
    target = at.reshape(blocks, cells).T.reshape(-1)[kept]
    source = np.flatnonzero(kept)
    order = np.argsort(target, kind="stable")
    target, source = target[order], source[order]
    starts = np.searchsorted(target, np.arange(math.prod(image)))
    rank_in = np.arange(len(target)) - starts[target]
    most = int(rank_in.max(initial=0)) + 1
    low.grow((math.prod(image), most))
    table = np.full((math.prod(image), most), cells * blocks, np.int64)  # the element behind the last is a zero
    table[target, rank_in] = source
    flat = low.reshape(value, (value.shape[0], channels, cells * blocks))
    flat = low.pad(flat, (0, 0, 0), (0, 0, 1))
    made = low.reduce("reduce_sum", low.gather(flat, low.constant(table), 2), [-1], keep=False)
    return low.reshape(made, (value.shape[0], channels, *image))


RULES: Mapping[str, Rule] = {
    "AveragePool": Rule(_average_pool, 7),
    "Col2Im": Rule(_col2im, 18),
    "GlobalAveragePool": _global("reduce_mean"),
    "GlobalLpPool": Rule(_global_lp_pool, 7),
    "GlobalMaxPool": _global("reduce_max"),
    "LpPool": Rule(_lp_pool, 11),
    "MaxPool": Rule(_max_pool, 8),
}
