"""ONNX's normalisations, and Dropout, which at inference does nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_value import Call, Rule, Value, broadcast, volume
from replay.kernels import spec
from replay.operators import Dim


def standard(low: Lowering, row: Value, eps: float, gain: Value | None = None, shift: Value | None = None) -> Value:
    """``layer_norm`` of rows; gain and shift [d] are its weights where both are constants (or there is no shift)."""
    size = row.size(-1)
    weights: list[str] = []
    own = gain is not None and gain.array is not None and (shift is None or shift.array is not None)
    if own and gain is not None and gain.array is not None:
        added = np.zeros(size, np.float32) if shift is None or shift.array is None else shift.array
        weights = [low.weight(gain.array.reshape(size)), low.weight(added.reshape(size))]
    name = low.apply(
        "layer_norm",
        [low.real(row)],
        weights,
        bits=spec.sum_bits(size),
        inv_d=spec.f64_hex(1.0 / size),
        inv_d2=spec.f64_hex(1.0 / (size * size)),
        eps=spec.f32_hex(eps),
    )
    made = low.held(name, row.shape)
    return made if own else scaled(low, made, gain, shift)


def scaled(low: Lowering, value: Value, gain: Value | None, shift: Value | None) -> Value:
    value = value if gain is None else low("mul", value, gain)
    return value if shift is None else low("add", value, shift)


def _epsilon(call: Call, default: float = 1e-5) -> float:
    eps = call.decimal("epsilon", default)
    call.need(1e-38 < eps < 1e38, "epsilon must be positive")
    return eps


def _tail(call: Call, value: Value) -> tuple[int, tuple[Dim, ...]]:
    """The first axis that is normalised, and the dimensions from there on."""
    axis = value.axis(call.whole("axis", -1))
    tail = value.shape[axis:]
    volume(tail)
    return axis, tail


def _whole(low: Lowering, weight: Value | None, tail: Sequence[Dim]) -> Value | None:
    """A weight as one row, where it has all dimensions; constants are repeated until they do."""
    if weight is None or weight.array is None:
        return None
    return low.reshape(low.expand(weight, tuple(tail)), (volume(tail),))


def _layer_norm(call: Call) -> Sequence[Value]:
    low, value, gain, shift = call.low, call.value(0), call.value(1), call.optional(2)
    axis, tail = _tail(call, value)
    eps = _epsilon(call)
    call.ignore("stash_type")
    call.need(value.dtype == "float32", f"the type {value.dtype}")
    for weight in (gain, shift):
        call.need(weight is None or broadcast(weight.shape, tail) == tail, "a weight does not fit")
    row = low.reshape(value, (*value.shape[:axis], volume(tail)))
    flat_gain, flat_shift = _whole(low, gain, tail), _whole(low, shift, tail)
    if flat_gain is not None and (shift is None or flat_shift is not None):
        made = low.reshape(standard(low, row, eps, flat_gain, flat_shift), value.shape)
    else:
        made = scaled(low, low.reshape(standard(low, row, eps), value.shape), gain, shift)
    if not any(call.node.outputs[1:]):
        return [made]
    mean = low.reduce("reduce_mean", row, [-1])
    distance = low("sub", row, mean)
    variance = low.reduce("reduce_mean", low("mul", distance, distance), [-1])
    inverse = low("div", low.number(1), low("sqrt", low("add", variance, eps)))
    shape = (*value.shape[:axis], *(1,) * len(tail))
    return made, low.reshape(mean, shape), low.reshape(inverse, shape)


def _rms_norm(call: Call) -> Value:
    low, value, gain = call.low, call.value(0), call.value(1)
    axis, tail = _tail(call, value)
    eps = _epsilon(call)
    call.ignore("stash_type")
    call.need(value.dtype == "float32" and broadcast(gain.shape, tail) == tail, "the types or the weight do not fit")
    size = volume(tail)
    row = low.reshape(value, (*value.shape[:axis], size))
    flat = _whole(low, gain, tail)
    weights = [] if flat is None or flat.array is None else [low.weight(flat.array)]
    name = low.apply(
        "rms_norm",
        [low.real(row)],
        weights,
        bits=spec.sum_bits(size),
        inv_d=spec.f64_hex(1.0 / size),
        eps=spec.f32_hex(eps),
    )
    made = low.held(name, value.shape)
    return made if weights else low("mul", made, gain)


def _channels(low: Lowering, weight: Value, rank: int) -> Value:
    """[C] → [C, 1, …] to stand beside [N, C, …]."""
    return low.reshape(weight, (*weight.shape, *(1,) * (rank - 2)))


def _batch_norm(call: Call) -> Value:
    """(x − mean)·(scale / √(variance + ε)) + bias, the middle one per channel."""
    low, value = call.low, call.value(0)
    scale, bias, mean, variance = (call.value(place) for place in range(1, 5))
    eps = call.decimal("epsilon", 1e-5)
    call.ignore("momentum")
    call.need(not call.flag("training_mode") and value.rank >= 2 and value.dtype == "float32", "training mode")
    for weight in (scale, bias, mean, variance):
        call.need(weight.shape == (value.size(1),), "a weight does not fit the channels")
    slope = low("div", scale, low("sqrt", low("add", variance, eps)))
    centred = low("sub", value, _channels(low, mean, value.rank))
    return low("add", low("mul", centred, _channels(low, slope, value.rank)), _channels(low, bias, value.rank))


def _instance_norm(call: Call) -> Value:
    low, value, gain, shift = call.low, call.value(0), call.value(1), call.value(2)
    call.need(value.rank >= 3 and gain.shape == shift.shape == (value.size(1),), "weights do not fit the channels")
    row = low.reshape(value, (*value.shape[:2], volume(value.shape[2:])))
    made = low.reshape(standard(low, row, _epsilon(call)), value.shape)
    return scaled(low, made, _channels(low, gain, value.rank), _channels(low, shift, value.rank))


def _group_norm(call: Call) -> Value:
    """From opset 21 on weights are per channel; before, per group, which is refused."""
    low, value, gain, shift = call.low, call.value(0), call.value(1), call.value(2)
    groups = call.whole("num_groups", 0)
    call.ignore("stash_type")
    channels = value.size(1)
    call.need(groups >= 1 and channels % groups == 0, "groups do not divide the channels")
    call.need(gain.shape == shift.shape == (channels,), "weights do not fit the channels")
    row = low.reshape(value, (value.shape[0], groups, channels // groups * volume(value.shape[2:])))
    made = low.reshape(standard(low, row, _epsilon(call)), value.shape)
    return scaled(low, made, _channels(low, gain, value.rank), _channels(low, shift, value.rank))


def _local_response(call: Call) -> Value:
    low, value, size = call.low, call.value(), call.whole("size", 0)
    alpha, beta, bias = call.decimal("alpha", 1e-4), call.decimal("beta", 0.75), call.decimal("bias", 1.0)
    call.need(value.rank >= 3 and size >= 1 and value.dtype == "float32", "wants float32 [N, C, …] and a size")
    channels, rest = value.size(1), volume(value.shape[2:])
    squares = low.reshape(low("mul", value, value), (value.shape[0], 1, channels, rest))
    ones, pads = (1, 1), ((size - 1) // 2, size - 1 - (size - 1) // 2)
    seen = low.windows(squares, (size, 1), ones, ones, (pads[0], 0), (pads[1], 0))
    total = low.reshape(low.reduce("reduce_sum", seen, [-1], keep=False), value.shape)
    base = low("add", low("mul", total, alpha / size), bias)
    return low("div", value, low("pow", base, beta))


def _lp_norm(call: Call) -> Value:
    """A row of zeros stays one."""
    low, value, p = call.low, call.value(), call.whole("p", 2)
    axis = value.axis(call.whole("axis", -1))
    call.need(p in (1, 2) and value.dtype == "float32", f"p = {p}")
    if p == 1:
        norm = low.reduce("reduce_sum", low("abs", value), [axis])
    else:
        norm = low("sqrt", low.reduce("reduce_sum", low("mul", value, value), [axis]))
    return low("div", value, low.where(low("equal", norm, 0), low.number(1), norm))


def _mean_variance(call: Call) -> Value:
    """(x − mean) / (√variance + 1e-9)."""
    low, value = call.low, call.value()
    axes = value.axes(call.ints("axes", (0, 2, 3)))
    call.need(value.dtype == "float32" and bool(axes), f"the type {value.dtype}")
    centred = low("sub", value, low.reduce("reduce_mean", value, axes))
    variance = low.reduce("reduce_mean", low("mul", centred, centred), axes)
    return low("div", centred, low("add", low("sqrt", variance), 1e-9))


def _dropout(call: Call) -> Sequence[Value]:
    low, value = call.low, call.value()
    call.ignore("seed", "ratio")
    ratio, training = call.optional(1), call.optional(2)
    if training is not None and call.constant(2, "the mode").reshape(-1)[0]:
        none = ratio is not None and ratio.array is not None and not ratio.array.any()
        call.need(none, "training mode")
    if not any(call.node.outputs[1:]):
        return [value]
    call.need(call.opset >= 10, "a mask of floats")
    one = low.constant(np.ones((1,) * value.rank, bool))
    return value, low.expand(one, value.shape)


RULES: Mapping[str, Rule] = {
    "BatchNormalization": Rule(_batch_norm, 9),
    "Dropout": Rule(_dropout, 7),
    "GroupNormalization": Rule(_group_norm, 21),
    "InstanceNormalization": Rule(_instance_norm, 7),
    "LRN": Rule(_local_response, 7),
    "LayerNormalization": Rule(_layer_norm, 17),
    "LpNormalization": Rule(_lp_norm, 7),
    "MeanVarianceNormalization": Rule(_mean_variance, 9),
    "RMSNormalization": Rule(_rms_norm, 23),
}
