"""Where windows stand, and convolutions of any number of spatial axes: windows, then one ``linear``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_value import Call, Rule, Value
from replay.layout import Array

#: Groups that are no depthwise convolution: each is a product of its own.
MAX_GROUPS = 256


@dataclass(frozen=True, slots=True)
class Windows:
    """Where windows stand, per spatial axis. ``after`` may be more than ONNX pads (ceil_mode) or less than 0."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    #: What ONNX itself pads behind: the part of ``after`` that count_include_pad counts.
    padded: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        parts = zip(self.sizes, self.kernel, self.strides, self.dilations, self.before, self.after, strict=True)
        return tuple((n + low + high - (k - 1) * d - 1) // s + 1 for n, k, s, d, low, high in parts)

    def places(self, axis: int) -> Array:
        """[windows, k]: which element each window's entry is, along one axis; padding lies outside 0 … n − 1."""
        starts = np.arange(self.counts[axis]) * self.strides[axis] - self.before[axis]
        return np.asarray(starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis])

    def applied(self, low: Lowering, value: Value, bits: str = "") -> Value:
        """[N, C, *S] → [N, C, *O, k]."""
        for axis, high in enumerate(self.after):
            if high < 0:
                value = low.slice(value, 2 + axis, 0, self.sizes[axis] + high)
        after = [max(high, 0) for high in self.after]
        return low.windows(value, self.kernel, self.strides, self.dilations, self.before, after, bits)


def read_windows(call: Call, sizes: tuple[int, ...], kernel: Sequence[int], *, ceil: bool = False) -> Windows:
    rank = len(sizes)
    strides, dilations = call.ints("strides", (1,) * rank), call.ints("dilations", (1,) * rank)
    auto = call.text("auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    pads = call.ints("pads", (0,) * (2 * rank))
    lists = (kernel, strides, dilations)
    call.need(
        rank >= 1 and all(len(one) == rank for one in lists) and len(pads) == 2 * rank, "wants one number per axis"
    )
    call.need(all(item >= 1 for one in lists for item in one), "numbers below 1")
    call.need(all(item < 2**31 for one in lists for item in one), "numbers of 2³¹ or more")
    call.need(all(item >= 0 for item in pads), "negative pads")
    call.need(all(item < 2**31 for item in pads), "pads of 2³¹ or more")
    before, after = list(pads[:rank]), list(pads[rank:])
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto != "NOTSET":
        call.need(not any(pads), "pads beside auto_pad")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for axis, (n, s, span) in enumerate(zip(sizes, strides, spans, strict=True)):
            total = max((-(-n // s) - 1) * s + span - n, 0)
            small, large = total // 2, total - total // 2
            before[axis], after[axis] = (small, large) if auto == "SAME_UPPER" else (large, small)
    padded = tuple(after)
    if ceil:
        for axis, (n, s, span) in enumerate(zip(sizes, strides, spans, strict=True)):
            room = n + before[axis] + after[axis] - span
            count = -(-room // s) + 1
            if (count - 1) * s >= n + before[axis]:  # a window may not start in the padding behind
                count -= 1
            after[axis] += (count - 1) * s - room
    made = Windows(sizes, tuple(kernel), strides, dilations, tuple(before), tuple(after), padded)
    call.need(min(made.counts) >= 1, "a window does not fit")
    return made


def spatial(value: Value) -> tuple[int, ...]:
    """The sizes behind [N, C]."""
    return tuple(value.size(axis) for axis in range(2, value.rank))


def _conv(call: Call) -> Value:
    value, weight = call.value(0), call.value(1)
    groups = call.whole("group", 1)
    call.need(value.rank == weight.rank >= 3 and value.dtype == weight.dtype == "float32", "wants float32 [N, C, …]")
    kernel = tuple(weight.size(axis) for axis in range(2, weight.rank))
    call.need(call.ints("kernel_shape", kernel) == kernel, "the kernel's shape differs from the weight's")
    return convolved(call, value, weight, call.optional(2), groups, read_windows(call, spatial(value), kernel))


def convolved(call: Call, value: Value, weight: Value, bias: Value | None, groups: int, windows: Windows) -> Value:
    """Weight [M, C / groups, *kernel], bias [M]."""
    low, channels, outputs = call.low, value.size(1), weight.size(0)
    call.need(groups >= 1 and channels % groups == outputs % groups == 0, "groups do not divide the channels")
    call.need(weight.shape[1] == channels // groups, "the weight does not fit the channels")
    call.need(bias is None or bias.shape == (outputs,), "the bias does not fit")
    seen = windows.applied(low, value)  # [N, C, *O, k]
    axes, cells = len(windows.sizes), seen.size(-1)
    if groups == channels == outputs and groups > 1:
        rows = low.reshape(weight, (channels, *(1,) * axes, cells))
        made = low.reduce("reduce_sum", low("mul", seen, rows), [-1], keep=False)
        return made if bias is None else low("add", made, low.reshape(bias, (outputs, *(1,) * axes)))
    call.need(groups <= MAX_GROUPS, f"more than {MAX_GROUPS} groups")
    order = (0, *range(2, seen.rank - 1), 1, seen.rank - 1)
    inner, outer, parts = channels // groups, outputs // groups, []
    for group in range(groups):
        rows = low.transpose(low.slice(seen, 1, group * inner, inner), order)
        rows = low.reshape(rows, (*rows.shape[:-2], inner * cells))
        part = low.reshape(low.slice(weight, 0, group * outer, outer), (outer, inner * cells))
        added = None if bias is None else low.slice(bias, 0, group * outer, outer)
        parts.append(low.rows_dot(rows, part, added))
    joined = low.concat(parts, -1)
    return low.moved(joined, joined.rank - 1, 1)


def _conv_transpose(call: Call) -> Value:
    """The input with zeros between its elements, convolved with the kernel turned round."""
    low, value, weight, bias = call.low, call.value(0), call.value(1), call.optional(2)
    groups, rank = call.whole("group", 1), value.rank - 2
    call.need(value.rank == weight.rank >= 3 and value.dtype == weight.dtype == "float32", "wants float32 [N, C, …]")
    kernel = tuple(weight.size(axis) for axis in range(2, weight.rank))
    call.need(call.ints("kernel_shape", kernel) == kernel, "the kernel's shape differs from the weight's")
    strides, dilations = call.ints("strides", (1,) * rank), call.ints("dilations", (1,) * rank)
    extra = call.ints("output_padding", (0,) * rank)
    call.need(len(strides) == len(dilations) == len(extra) == rank, "wants one number per axis")
    call.need(min(*strides, *dilations) >= 1 and min(extra) >= 0, "numbers below 1")
    pads = _output_pads(call, value, kernel, strides, dilations, extra)
    channels = value.size(1)
    call.need(
        groups >= 1 and channels % groups == 0 and weight.shape[0] == channels, "groups do not divide the channels"
    )
    for axis in range(rank):
        value, weight = _spread(low, value, 2 + axis, strides[axis]), low.flip(weight, 2 + axis)
    outer = weight.size(1)
    turned = low.reshape(weight, (groups, channels // groups, *weight.shape[1:]))
    turned = low.transpose(turned, (0, 2, 1, *range(3, turned.rank)))
    turned = low.reshape(turned, (groups * outer, channels // groups, *kernel))
    before, after = [], []
    for axis in range(rank):
        span = (kernel[axis] - 1) * dilations[axis]
        before.append(span - pads[axis])
        after.append(span - pads[axis + rank] + extra[axis])
        if before[axis] < 0:
            size = value.size(2 + axis)
            value = low.slice(value, 2 + axis, -before[axis], size + before[axis])
            before[axis] = 0
    sizes = tuple(value.size(2 + axis) for axis in range(rank))
    ones = (1,) * rank
    windows = Windows(sizes, kernel, ones, tuple(dilations), tuple(before), tuple(after), tuple(after))
    call.need(min(windows.counts) >= 1, "the output has no elements")
    return convolved(call, value, turned, bias, groups, windows)


def _output_pads(
    call: Call,
    value: Value,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extra: Sequence[int],
) -> tuple[int, ...]:
    rank = len(kernel)
    auto = call.text("auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    pads = call.ints("pads", (0,) * (2 * rank))
    call.need(len(pads) == 2 * rank and min(pads) >= 0, "wants two pads ≥ 0 per axis")
    sizes = [value.size(2 + axis) for axis in range(rank)]
    if call.has("output_shape"):
        wanted = call.ints("output_shape")[-rank:]
        call.need(len(wanted) == rank, "wants one size per axis")
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        fits = all((k - 1) * d + 1 >= s for k, d, s in zip(kernel, dilations, strides, strict=True))
        call.need(fits and not any(extra), "auto_pad with gaps: implementations differ")
        wanted = tuple(n * s for n, s in zip(sizes, strides, strict=True))
    else:
        return pads
    before, after = [], []
    for axis in range(rank):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        total = (sizes[axis] - 1) * strides[axis] + extra[axis] + span - wanted[axis]
        small = total // 2
        before.append(total - small if auto == "SAME_LOWER" or auto in ("NOTSET", "VALID") else small)
        after.append(total - before[-1])
    return (*before, *after)


def _spread(low: Lowering, value: Value, axis: int, stride: int) -> Value:
    """``stride`` − 1 zeros between neighbours."""
    if stride == 1:
        return value
    size = value.size(axis)
    shape = value.shape
    value = low.reshape(value, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    after = [0] * value.rank
    after[axis + 1] = stride - 1
    value = low.pad(value, [0] * value.rank, after)
    value = low.reshape(value, (*shape[:axis], size * stride, *shape[axis + 1 :]))
    return low.slice(value, axis, 0, (size - 1) * stride + 1)


RULES: Mapping[str, Rule] = {
    "Conv": Rule(_conv, 7),
    "ConvTranspose": Rule(_conv_transpose, 7),
}
