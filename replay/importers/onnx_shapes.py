"""ONNX's operators that move elements or make constants: reshape, slice, join, pad, tile, ranges, masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from replay.errors import ProgramError
from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_value import Call, Rule, Value, broadcast, fixed, volume
from replay.layout import Array
from replay.operators import Dim

#: Longest vector of sizes: a little more than any tensor has dimensions.
_SIZES_MAX = 16


def _identity(call: Call) -> Value:
    return call.value()


def sizes(call: Call, place: int) -> list[Dim]:
    """A shape given as a constant; entries may be the symbol of the open dimension."""
    array = call.constant(place, "the shape")
    call.need(
        array.ndim == 1 and array.size <= _SIZES_MAX and array.dtype in (np.int64, object), "a shape is int64 [n]"
    )
    return [item if isinstance(item, str) else int(item) for item in array]


def _reshape(call: Call) -> Value:
    value, wanted = call.value(), sizes(call, 1)
    zero = call.flag("allowzero")
    shape: list[Dim] = []
    for place, dim in enumerate(wanted):
        if dim == 0 and not zero:
            call.need(place < value.rank, "a 0 beyond the input's dimensions")
            shape.append(value.shape[place])
        else:
            call.need(isinstance(dim, str) or dim == -1 or dim >= 1, f"the dimension {dim}")
            shape.append(dim)
    return call.low.reshape(value, filled(value.shape, shape))


def filled(old: Sequence[Dim], new: Sequence[Dim]) -> tuple[Dim, ...]:
    """``new`` with its −1 worked out, so that it holds as many elements as ``old``. Raises ``ProgramError``."""
    if new.count(-1) > 1:
        raise ProgramError("two open dimensions")
    if -1 not in new:
        return tuple(new)
    have = math.prod(dim for dim in old if isinstance(dim, int))
    want = math.prod(dim for dim in new if isinstance(dim, int) and dim != -1)
    free = [dim for dim in old if isinstance(dim, str)]
    for dim in new:
        if isinstance(dim, str):
            if dim not in free:
                raise ProgramError(f"{list(old)} does not reshape to {list(new)}")
            free.remove(dim)
    rest = have // want
    if have % want or len(free) > 1 or (free and rest != 1):
        raise ProgramError(f"the open dimension of {list(old)} cannot be worked out in {list(new)}")
    return tuple((free[0] if free else rest) if dim == -1 else dim for dim in new)


def _flatten(call: Call) -> Value:
    value, axis = call.value(), call.whole("axis", 1)
    call.need(-value.rank <= axis <= value.rank, f"axis {axis}")
    axis = axis + value.rank if axis < 0 else axis
    return call.low.reshape(value, (merged(value.shape[:axis]), merged(value.shape[axis:])))


def merged(dims: Sequence[Dim]) -> Dim:
    """Several dimensions as one. Raises ``ProgramError`` where the open one would be multiplied."""
    wide = [dim for dim in dims if dim != 1]
    return wide[0] if len(wide) == 1 else volume(dims)


def _axes(call: Call, rank: int) -> tuple[int, ...] | None:
    """The second input, in opsets below 13 an attribute."""
    if call.optional(1) is not None:
        given: Sequence[int] = call.integers(1, "axes")
    elif call.has("axes"):
        given = call.ints("axes")
    else:
        return None
    call.need(all(-rank <= axis < rank for axis in given), f"axes {list(given)[:_SIZES_MAX]}")
    found = tuple(axis % rank for axis in given)
    call.need(len(set(found)) == len(found), "an axis stands twice")
    return found


def _squeeze(call: Call) -> Value:
    value = call.value()
    axes = _axes(call, value.rank)
    if axes is None:
        call.need(all(isinstance(dim, int) for dim in value.shape), "axes are needed where a dimension is open")
        axes = tuple(axis for axis, dim in enumerate(value.shape) if dim == 1)
    call.need(all(value.shape[axis] == 1 for axis in axes), "only a dimension of 1 can go")
    return call.low.reshape(value, [dim for axis, dim in enumerate(value.shape) if axis not in axes])


def _unsqueeze(call: Call) -> Value:
    value = call.value()
    count = len(call.integers(1, "axes")) if call.optional(1) is not None else len(call.ints("axes"))
    rank = value.rank + count
    call.need(rank <= _SIZES_MAX, f"{rank} dimensions")
    axes = _axes(call, rank)
    rest = iter(value.shape)
    return call.low.reshape(value, [1 if axis in (axes or ()) else next(rest) for axis in range(rank)])


def _transpose(call: Call) -> Value:
    value = call.value()
    return call.low.transpose(value, call.ints("perm", range(value.rank)[::-1]))


def _expand(call: Call) -> Value:
    value, wanted = call.value(), sizes(call, 1)
    call.need(all(isinstance(dim, str) or dim >= 1 for dim in wanted), "a shape without elements")
    return call.low.expand(value, broadcast(value.shape, wanted))


def _tile(call: Call) -> Value:
    low, value, repeats = call.low, call.value(), call.integers(1, "repeats")
    call.need(len(repeats) == value.rank and min(repeats, default=1) >= 1, "wants one count ≥ 1 per axis")
    for axis, count in enumerate(repeats):
        if count == 1:
            continue
        if value.shape[axis] == 1:
            value = low.expand(value, (*value.shape[:axis], count, *value.shape[axis + 1 :]))
        else:
            size = value.size(axis)
            value = low.reshape(value, (*value.shape[:axis], 1, *value.shape[axis:]))
            value = low.expand(value, (*value.shape[:axis], count, *value.shape[axis + 1 :]))
            value = low.reshape(value, (*value.shape[:axis], count * size, *value.shape[axis + 2 :]))
    return value


def _concat(call: Call) -> Value:
    call.need(call.has("axis"), "without an axis")
    values = call.values()
    axis = call.whole("axis", 0)
    open_axis = [value.shape[value.axis(axis)] for value in values if isinstance(value.shape[value.axis(axis)], str)]
    call.need(not open_axis or len(values) == 1, "along the open dimension")
    return call.low.concat(values, axis)


def _split(call: Call) -> Sequence[Value]:
    low, value = call.low, call.value()
    axis, outputs = value.axis(call.whole("axis", 0)), len(call.node.outputs)
    size = value.size(axis)
    if call.optional(1) is not None:
        call.need(not call.has("num_outputs"), "split and num_outputs together")
        parts = call.integers(1, "split")
    else:
        count = call.whole("num_outputs", outputs)
        call.need(count == outputs, f"{outputs} outputs, not {count}")
        call.need(call.has("num_outputs") or size % count == 0, f"{size} does not split into {count} equal parts")
        each = -(-size // count)
        parts = [each] * (count - 1) + [size - each * (count - 1)]
    call.need(len(parts) == outputs and sum(parts) == size, f"{parts[:8]} does not split {size}")
    call.need(min(parts) >= 1, "a part without elements")
    starts = [sum(parts[:place]) for place in range(len(parts))]
    return [low.slice(value, axis, start, part) for start, part in zip(starts, parts, strict=True)]


def _slice(call: Call) -> Value:
    value, starts, ends = call.value(), call.integers(1, "starts"), call.integers(2, "ends")
    axes = call.integers(3, "axes") if call.optional(3) is not None else list(range(len(starts)))
    steps = call.integers(4, "steps") if call.optional(4) is not None else [1] * len(starts)
    call.need(len(starts) == len(ends) == len(axes) == len(steps), "lists of different lengths")
    for axis, start, end, step in zip(value.axes(axes), starts, ends, steps, strict=True):
        call.need(step != 0, "a step of 0")
        if value.shape[axis] == "B":
            call.need(step == 1 and start == 0 and end >= 2**31 - 1, "a part of the open dimension")
            continue
        chosen = range(*slice(start, end, step).indices(value.size(axis)))
        count = len(chosen)
        if count == 0 and value.array is not None:
            return call.low.constant(value.array[(slice(None),) * axis + (slice(0, 0),)])
        call.need(count > 0, "a part without elements")
        value = call.low.slice(value, axis, chosen.start, count, step)
    return value


def _pad(call: Call) -> Value:
    low, value = call.low, call.value()
    pads = call.integers(1, "pads")
    mode = call.text("mode", "constant", "reflect", "edge", "wrap")
    axes = call.integers(3, "axes") if call.optional(3) is not None else list(range(value.rank))
    fill = call.optional(2)
    call.need(len(pads) == 2 * len(axes), "wants two pads per axis")
    for place, axis in enumerate(value.axes(axes)):
        low_pad, high_pad = pads[place], pads[place + len(axes)]
        if low_pad == high_pad == 0:
            continue
        size = value.size(axis)
        start, end = max(-low_pad, 0), size - max(-high_pad, 0)
        call.need(start < end, "a part without elements")
        value = low.slice(value, axis, start, end - start)
        value = _padded(call, value, axis, max(low_pad, 0), max(high_pad, 0), mode, fill)
    return value


def _padded(call: Call, value: Value, axis: int, before: int, after: int, mode: str, fill: Value | None) -> Value:
    low, size = call.low, value.size(axis)
    if mode == "constant":
        return joined_fill(low, value, axis, before, after, fill)
    limit = {"reflect": size - 1, "wrap": size, "edge": 2**24}[mode]
    call.need(max(before, after) <= limit, f"a pad above {limit}")
    low.grow((before, after, size))
    index = np.arange(-before, size + after)
    if mode == "reflect":
        index = np.where(index < 0, -index, np.where(index >= size, 2 * (size - 1) - index, index))
    elif mode == "edge":
        index = np.clip(index, 0, size - 1)
    else:
        index = index % size
    return low.gather(value, low.constant(index.astype(np.int64)), axis)


def joined_fill(low: Lowering, value: Value, axis: int, before: int, after: int, fill: Value | None) -> Value:
    """``fill``: one number, computed or constant; zero without it."""
    if not before and not after:
        return value
    widths: tuple[list[int], list[int]] = ([0] * value.rank, [0] * value.rank)
    widths[0][axis], widths[1][axis] = before, after
    array = np.zeros((), np.dtype(value.dtype)) if fill is None else fill.array
    if array is not None and value.array is None:
        bits = np.ascontiguousarray(array.astype(np.dtype(value.dtype)).reshape(())) + np.dtype(value.dtype).type(0)
        text = bits.tobytes()[::-1].hex()
        return low.pad(value, *widths, text)
    source = low.reshape(low.number(0, value.dtype) if fill is None else fill, (1,) * value.rank)

    def added(count: int) -> list[Value]:
        return [low.expand(source, (*value.shape[:axis], count, *value.shape[axis + 1 :]))] if count else []

    return low.concat([*added(before), value, *added(after)], axis)


def _shape(call: Call) -> Value:
    value = call.value()
    first, last = call.whole("start", 0), call.whole("end", value.rank)
    part = list(value.shape)[slice(*slice(first, last).indices(value.rank))]
    symbolic = any(isinstance(dim, str) for dim in part)
    array = np.array(part, object if symbolic else np.int64).reshape(len(part))
    return call.low.constant(array)


def _size(call: Call) -> Value:
    return call.low.constant(np.array(volume(call.value().shape), np.int64))


def _constant(call: Call) -> Value:
    given = [name for name in call.node.attributes if name.startswith("value")]
    call.need(len(given) == 1, "wants one value")
    if given[0] == "value":
        array = call.tensor("value")
    elif given[0] == "value_int":
        array = np.array(call.whole("value_int", 0), np.int64)
    elif given[0] == "value_ints":
        array = np.array(call.ints("value_ints"), np.int64)
    elif given[0] == "value_float":
        array = np.array(call.decimal("value_float", 0.0), np.float32)
    elif given[0] == "value_floats":
        array = np.array(call.floats("value_floats"), np.float32)
    else:
        raise call.refuse(f"{given[0][:64]} is not supported")
    if array is None:
        raise call.refuse("wants a tensor")
    return call.low.constant(array)


def _constant_of_shape(call: Call) -> Value:
    wanted, given = sizes(call, 0), call.tensor("value")
    one = np.zeros(1, np.float32) if given is None else given.reshape(-1)
    call.need(one.size == 1, "wants one value")
    if 0 in wanted:
        call.low.grow([dim for dim in wanted if dim != 0])
        return call.low.constant(np.zeros([fixed(dim) for dim in wanted], one.dtype))
    call.need(all(isinstance(dim, str) or dim >= 1 for dim in wanted), "a negative dimension")
    return call.low.expand(call.low.constant(one.reshape((1,) * len(wanted))), wanted)


def _range(call: Call) -> Value:
    start, limit, delta = (call.constant(place).reshape(-1) for place in range(3))
    call.need(start.size == limit.size == delta.size == 1 and delta[0] != 0, "wants three numbers, the last not 0")
    call.need(start.dtype == limit.dtype == delta.dtype and start.dtype.kind == "i", "wants integers of one type")
    items = range(int(start[0]), int(limit[0]), int(delta[0]))
    call.need(len(items) >= 1, "a range without elements")
    call.low.grow((len(items),))
    return call.low.constant(np.arange(items.start, items.stop, items.step, dtype=start.dtype))


def _trilu(call: Call) -> Value:
    value = call.value()
    shift = call.integer(1, "k") if call.optional(1) is not None else 0
    upper = call.flag("upper", 1)
    rows, columns = value.size(-2), value.size(-1)
    call.low.grow((rows, columns))
    shift = min(max(shift, -rows - 1), columns + 1)
    ones = np.ones((rows, columns), bool)
    mask: Array = np.triu(ones, shift) if upper else np.tril(ones, shift)
    return call.low.where(call.low.constant(mask), value, call.low.number(0, value.dtype))


def _space_to_depth(call: Call) -> Value:
    low, value, size = call.low, call.value(), call.whole("blocksize", 0)
    call.need(value.rank == 4 and size >= 1, "wants [N, C, H, W] and a block size")
    batch, channels, height, width = value.shape
    blocks_first = call.text("mode", "DCR", "CRD") == "DCR"
    high, wide = divmod(fixed(height), size), divmod(fixed(width), size)
    call.need(high[1] == wide[1] == 0, "blocks do not fit")
    value = low.reshape(value, (batch, channels, high[0], size, wide[0], size))
    value = low.transpose(value, (0, 3, 5, 1, 2, 4) if blocks_first else (0, 1, 3, 5, 2, 4))
    return low.reshape(value, (batch, fixed(channels) * size * size, high[0], wide[0]))


def _depth_to_space(call: Call) -> Value:
    low, value, size = call.low, call.value(), call.whole("blocksize", 0)
    call.need(value.rank == 4 and size >= 1, "wants [N, C, H, W] and a block size")
    batch, channels, height, width = value.shape
    depth, rest = divmod(fixed(channels), size * size)
    call.need(rest == 0, "blocks do not fit")
    if call.text("mode", "DCR", "CRD") == "DCR":
        value = low.transpose(low.reshape(value, (batch, size, size, depth, height, width)), (0, 3, 4, 1, 5, 2))
    else:
        value = low.transpose(low.reshape(value, (batch, depth, size, size, height, width)), (0, 1, 4, 2, 5, 3))
    return low.reshape(value, (batch, depth, fixed(height) * size, fixed(width) * size))


RULES: Mapping[str, Rule] = {
    "Concat": Rule(_concat, 7),
    "Constant": Rule(_constant, 7),
    "ConstantOfShape": Rule(_constant_of_shape, 9),
    "DepthToSpace": Rule(_depth_to_space, 7),
    "Expand": Rule(_expand, 8),
    "Flatten": Rule(_flatten, 7),
    "Identity": Rule(_identity, 7),
    "Pad": Rule(_pad, 11),
    "Range": Rule(_range, 11),
    "Reshape": Rule(_reshape, 7),
    "Shape": Rule(_shape, 7),
    "Size": Rule(_size, 7),
    "Slice": Rule(_slice, 10),
    "SpaceToDepth": Rule(_space_to_depth, 7),
    "Split": Rule(_split, 7),
    "Squeeze": Rule(_squeeze, 7),
    "Tile": Rule(_tile, 7),
    "Transpose": Rule(_transpose, 7),
    "Trilu": Rule(_trilu, 14),
    "Unsqueeze": Rule(_unsqueeze, 7),
}
