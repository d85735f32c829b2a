"""ONNX's operators that choose elements by numbers: gather, scatter, one-hot, reversed sequences.

An index outside its axis makes the run not finite, where ONNX leaves the result undefined or stops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_value import Call, Rule, Value, volume
from replay.layout import Array

#: Elements times updates of a scatter that reduces: each element looks at every update.
MAX_PAIRS = 1 << 24


def from_front(low: Lowering, index: Value, size: int) -> Value:
    """Indices counted from the front; −1 is the last one."""
    return low.where(low("less", index, 0), low("add", index, size), index)


def _gather(call: Call) -> Value:
    value, index = call.value(0), call.value(1)
    axis = value.axis(call.whole("axis", 0))
    dim = value.shape[axis]
    if isinstance(dim, str):
        call.need(index.array is not None and bool((index.array >= 0).all()), "along the open dimension")
        return call.low.gather(value, index, axis)
    return call.low.gather(value, from_front(call.low, index, dim), axis)


def _gather_elements(call: Call) -> Value:
    value, index = call.value(0), call.value(1)
    axis = value.axis(call.whole("axis", 0))
    return pick(call.low, value, from_front(call.low, index, value.size(axis)), axis)


def pick(low: Lowering, value: Value, index: Value, axis: int) -> Value:
    """``gather_elements`` with indices from the front."""
    names = [low.real(value), low.real(index)]
    return low.held(low.apply("gather_elements", names, axis=value.axis(axis)), index.shape)


def _flat_index(low: Lowering, index: Value, sizes: Sequence[int]) -> Value:
    """Index [..., k] of the first k axes → one number per tuple, −1 where a part lies outside."""
    total, good = low.number(0, "int64"), low.constant(np.array(True))
    for place, size in enumerate(sizes):
        part = low.reshape(low.slice(index, -1, place, 1), index.shape[:-1])
        part = low.cast(from_front(low, part, size), "int64")
        inside = low("and", low("less_equal", low.number(0, "int64"), part), low("less", part, size))
        good = low("and", good, inside) if place else inside
        total = low("add", low("mul", total, size), part) if place else part
    return low.where(good, total, -1)


def _gather_nd(call: Call) -> Value:
    low, value, index = call.low, call.value(0), call.value(1)
    batch = call.whole("batch_dims", 0)
    depth = index.size(-1) if index.rank else 0
    call.need(0 <= batch < min(value.rank, index.rank) and 1 <= depth <= value.rank - batch, "ranks do not fit")
    call.need(value.shape[:batch] == index.shape[:batch], "batch dimensions differ")
    if batch:
        count = volume(value.shape[:batch])
        steps = low.reshape(low.steps(count), (count, *(1,) * (index.rank - batch)))
        inner = low.reshape(index, (count, *index.shape[batch:]))
        steps = low.expand(steps, (*inner.shape[:-1], 1))
        index = low.concat([steps, low.cast(inner, "int64")], -1)
        lead = (*value.shape[:batch], *inner.shape[1:-1])
        value = low.reshape(value, (count, *value.shape[batch:]))
        depth += 1
    else:
        lead = index.shape[:-1]
    sizes = [value.size(axis) for axis in range(depth)]
    flat = low.reshape(value, (volume(sizes), *value.shape[depth:]))
    made = low.gather(flat, _flat_index(low, index, sizes), 0)
    return low.reshape(made, (*lead, *value.shape[depth:]))


def _scattered(call: Call, flat: Value, index: Value, updates: Value) -> Value:
    """Flat [n, …], index [m], updates [m, …]: by the reduction that the node names."""
    low, how = call.low, call.text("reduction", "none", "add", "mul", "max", "min")
    if how == "none":
        if flat.rank > 1:
            index = low.expand(low.reshape(index, (*index.shape, *(1,) * (flat.rank - 1))), updates.shape)
        names = [low.real(flat), low.real(index), low.real(updates)]
        return low.held(low.apply("scatter_elements", names, axis=0))
    call.need(flat.dtype != "bool", "a reduction of bools")
    count, given = flat.size(0), index.size(0)
    call.need(volume(flat.shape) * given <= MAX_PAIRS, f"more than {MAX_PAIRS} pairs of element and update")
    # an index outside must not vanish: reading a table of 0 … n − 1 through each makes it not finite
    index = low.gather(low.steps(count), index, 0)
    hit = low("equal", low.reshape(index, (1, given)), low.reshape(low.steps(count), (count, 1)))
    rest = flat.shape[1:]
    hit = low.reshape(hit, (count, given, *(1,) * len(rest)))
    kinds: Mapping[str, tuple[str, float]] = {
        "add": ("reduce_sum", 0),
        "mul": ("reduce_prod", 1),
        "max": ("reduce_max", _extreme(flat, -1)),
        "min": ("reduce_min", _extreme(flat, 1)),
    }
    kind, neutral = kinds[how]
    seen = low.where(hit, low.reshape(updates, (1, *updates.shape)), neutral)
    joined = low.concat([low.reshape(flat, (count, 1, *rest)), seen], 1)
    return low.reduce(kind, joined, [1], keep=False)


def _extreme(value: Value, sign: int) -> float:
    if value.dtype == "float32":
        return sign * float(np.finfo(np.float32).max)
    info = np.iinfo(np.dtype(value.dtype))
    return int(info.max if sign > 0 else info.min)


def _scatter_nd(call: Call) -> Value:
    low, value, index, updates = call.low, call.value(0), call.value(1), call.value(2)
    depth = index.size(-1) if index.rank else 0
    call.need(1 <= depth <= value.rank, "ranks do not fit")
    sizes, rest = [value.size(axis) for axis in range(depth)], value.shape[depth:]
    call.need(updates.shape == (*index.shape[:-1], *rest), "updates do not fit")
    given = volume(index.shape[:-1])
    flat = low.reshape(value, (volume(sizes), *rest))
    places = low.reshape(_flat_index(low, index, sizes), (given,))
    return low.reshape(_scattered(call, flat, places, low.reshape(updates, (given, *rest))), value.shape)


def _scatter_elements(call: Call) -> Value:
    low, value, index, updates = call.low, call.value(0), call.value(1), call.value(2)
    axis = value.axis(call.whole("axis", 0))
    call.need(index.shape == updates.shape and index.rank == value.rank, "index and updates differ")
    index = from_front(low, index, value.size(axis))
    if call.text("reduction", "none", "add", "mul", "max", "min") == "none":
        names = [low.real(value), low.real(index), low.real(updates)]
        return low.held(low.apply("scatter_elements", names, axis=axis), value.shape)
    sizes, places = [value.size(at) for at in range(value.rank)], [index.size(at) for at in range(index.rank)]
    call.need(
        all(n <= m for at, (n, m) in enumerate(zip(places, sizes, strict=True)) if at != axis), "too many indices"
    )
    low.grow((*places, value.rank))
    grid: list[Array] = list(np.indices(places))
    parts = [
        low.reshape(low.cast(index, "int64"), (*places, 1)) if at == axis else low.constant(grid[at][..., None])
        for at in range(value.rank)
    ]
    total = volume(places)
    flat_index = low.reshape(_flat_index(low, low.concat(parts, -1), sizes), (total,))
    flat = low.reshape(value, (volume(sizes),))
    return low.reshape(_scattered(call, flat, flat_index, low.reshape(updates, (total,))), value.shape)


def _one_hot(call: Call) -> Value:
    low, index, pair = call.low, call.value(0), call.value(2)
    depths = call.constant(1, "the depth").reshape(-1)
    call.need(depths.size == 1 and float(depths[0]) == int(depths[0]) >= 1, "a depth is one whole number ≥ 1")
    depth, axis = int(depths[0]), call.whole("axis", -1)
    call.need(-index.rank - 1 <= axis <= index.rank and pair.shape == (2,), "the axis or the values do not fit")
    axis %= index.rank + 1
    index = low.cast(index, "int64") if index.dtype != "int32" else index
    index = from_front(low, index, depth)
    shape = (*index.shape[:axis], 1, *index.shape[axis:])
    steps = low.reshape(low.steps(depth, index.dtype), (depth, *(1,) * (index.rank - axis)))
    hit = low("equal", low.reshape(index, shape), steps)
    off, on = (low.reshape(low.slice(pair, 0, place, 1), ()) for place in range(2))
    return low.where(hit, on, off)


def _reverse_sequence(call: Call) -> Value:
    low, value, lengths = call.low, call.value(0), call.value(1)
    time, batch = call.whole("time_axis", 0), call.whole("batch_axis", 1)
    call.need(value.rank >= 2 and {time, batch} == {0, 1}, "time and batch are the first two axes")
    turned = value if time == 0 else low.transpose(value, (1, 0, *range(2, value.rank)))
    steps, count = turned.size(0), turned.shape[1]
    call.need(lengths.shape == (count,), "lengths do not fit")
    at = low.reshape(low.steps(steps), (steps, 1))
    long = low.reshape(low.cast(lengths, "int64"), (1, count))
    index = low.where(low("less", at, long), low("sub", low("sub", long, 1), at), at)
    index = low.reshape(index, (*index.shape, *(1,) * (value.rank - 2)))
    made = pick(low, turned, low.expand(index, turned.shape), 0)
    return made if time == 0 else low.transpose(made, (1, 0, *range(2, value.rank)))


def _compress(call: Call) -> Value:
    low, value, condition = call.low, call.value(0), call.constant(1, "the condition")
    call.need(condition.dtype == np.bool_ and condition.ndim == 1, "a condition is bool [n]")
    if call.has("axis"):
        axis = value.axis(call.whole("axis", 0))
    else:
        value, axis = low.reshape(value, (volume(value.shape),)), 0
    chosen = np.flatnonzero(condition)
    call.need(len(chosen) > 0 and chosen[-1] < value.size(axis), "chooses nothing, or beyond the end")
    return low.gather(value, low.constant(chosen.astype(np.int64)), axis)


def _eye_like(call: Call) -> Value:
    """The result depends on the input's shape only."""
    value, codes = call.value(), {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}
    rows, columns = value.size(0), value.size(1)
    code = call.whole("dtype", {"float32": 1, "int32": 6, "int64": 7, "bool": 9}[value.dtype])
    call.need(code in codes and value.rank == 2, f"type {code}")
    call.low.grow((rows, columns))
    shift = min(max(call.whole("k", 0), -rows), columns)
    return call.low.constant(np.eye(rows, columns, shift, dtype=codes[code]))


def _tensor_scatter(call: Call) -> Value:
    """A cache [B, …] with an update written into one axis, from a place of its own in each sequence."""
    low, value, update, first = call.low, call.value(0), call.value(1), call.optional(2)
    axis, circular = value.axis(call.whole("axis", -2)), call.text("mode", "linear", "circular") == "circular"
    size, count = value.size(axis), update.size(axis)
    call.need(axis > 0 and count <= size and update.rank == value.rank, "the update does not fit")
    steps = low.steps(size)
    place = steps
    if first is not None:
        start = low.reshape(low.cast(first, "int64"), (*first.shape, 1))
        # read through a table, a start outside makes the run not finite
        start = low("mod", start, size) if circular else low.gather(low.steps(size - count + 1), start, 0)
        place = low("sub", steps, start)
    place = low("mod", place, size) if circular else place
    hit = low("and", low("less_equal", low.number(0, "int64"), place), low("less", place, count))
    lead = place.shape[:-1] or (1,)
    shape = (*lead, *(1,) * (axis - 1), size, *(1,) * (value.rank - axis - 1))
    index = low.reshape(low("max", low("min", place, count - 1), 0), shape)
    return low.where(low.reshape(hit, shape), pick(low, update, low.expand(index, value.shape), axis), value)


RULES: Mapping[str, Rule] = {
    "Compress": Rule(_compress, 9),
    "EyeLike": Rule(_eye_like, 9),
    "Gather": Rule(_gather, 7),
    "GatherElements": Rule(_gather_elements, 11),
    "GatherND": Rule(_gather_nd, 11),
    "OneHot": Rule(_one_hot, 11),
    "ReverseSequence": Rule(_reverse_sequence, 10),
    "ScatterElements": Rule(_scatter_elements, 11),
    "ScatterND": Rule(_scatter_nd, 11),
    "TensorScatter": Rule(_tensor_scatter, 24),
}
