"""ONNX's operators along axes: reductions, arg, top, running sums, softmax and its kin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_value import Call, Rule, Value

#: Longest axis of a running product, which becomes one multiplication per step.
MAX_STEPS = 1024

Reduction = Callable[[Lowering, Value, Sequence[int], bool], Value]


def _axes(call: Call, value: Value) -> Sequence[int] | None:
    """The axes of a reduction, from its attribute or its second input; None: it reduces nothing."""
    given: Sequence[int]
    if call.has("axes"):
        call.need(len(call.inputs) < 2, "axes stand twice")
        given = call.ints("axes")
    else:
        given = call.integers(1, "axes") if call.optional(1) is not None else ()
    leave = call.flag("noop_with_empty_axes")
    if given:
        return value.axes(given)
    return None if leave else range(value.rank)


def _reduction(
    function: Reduction, before: Callable[[Lowering, Value], Value] | None = None, *, integers: bool = True
) -> Callable[[Call], Value]:
    """``before``: what happens to each element, even where nothing is reduced."""

    def rule(call: Call) -> Value:
        value = call.value()
        keep, axes = call.flag("keepdims", 1), _axes(call, value)
        call.need(integers or value.dtype == "float32", f"the type {value.dtype}")
        if axes is None and before is None:
            return call.low.reshape(value, value.shape)
        value = before(call.low, value) if before else value
        return function(call.low, value, axes if axes is not None else (), keep)

    return rule


def _kind(kind: str) -> Reduction:
    def run(low: Lowering, value: Value, axes: Sequence[int], keep: bool) -> Value:
        if not axes:
            return low.reshape(value, value.shape)
        if value.dtype == "bool":
            return low.cast(low.reduce(kind, low.cast(value, "int32"), axes, keep), "bool")
        return low.reduce(kind, value, axes, keep)

    return run


_sum = _kind("reduce_sum")


def _norm(low: Lowering, value: Value, axes: Sequence[int], keep: bool) -> Value:
    return low("sqrt", _sum(low, value, axes, keep))


def _log_sum(low: Lowering, value: Value, axes: Sequence[int], keep: bool) -> Value:
    return low("log", _sum(low, value, axes, keep))


def _log_sum_exp(low: Lowering, value: Value, axes: Sequence[int], keep: bool) -> Value:
    """The largest element, less its log-softmax (which is the largest of those)."""
    if not axes:
        return low.reshape(value, value.shape)
    row = low.rows(value, axes)
    logs = low.held(low.apply("log_softmax", [low.real(row)]), row.shape)
    made = low("sub", low.reduce("reduce_max", row, [-1], False), low.reduce("reduce_max", logs, [-1], False))
    return low.reshape(made, low.kept(value, axes, keep))


def _square(low: Lowering, value: Value) -> Value:
    return low("mul", value, value)


def _absolute(low: Lowering, value: Value) -> Value:
    return low("abs", value)


def _arg(kind: str) -> Callable[[Call], Value]:
    def rule(call: Call) -> Value:
        value, axis = call.value(), call.whole("axis", 0)
        keep, last = call.flag("keepdims", 1), call.flag("select_last_index")
        axis = value.axis(axis)
        if not last:
            found = call.low.reduce(kind, value, [axis], keep)
            return call.low.cast(found, "int64")
        found = call.low.reduce(kind, call.low.flip(value, axis), [axis], keep)
        return call.low.cast(call.low("sub", call.low.number(value.size(axis) - 1, "int32"), found), "int64")

    return rule


def _top(call: Call) -> Sequence[Value]:
    low, value, count = call.low, call.value(), call.integer(1, "k")
    axis, largest = value.axis(call.whole("axis", -1)), call.whole("largest", 1)
    call.flag("sorted", 1)  # sorted is one of the orders that unsorted allows
    call.need(largest in (0, 1), "largest is 0 or 1")
    call.need(1 <= count <= value.size(axis), f"k = {count}")
    values = low.along("top_values", value, axis, k=count, largest=largest)
    return values, low.cast(low.along("top_indices", value, axis, k=count, largest=largest), "int64")


def _cumsum(call: Call) -> Value:
    low, value, axis = call.low, call.value(), call.integer(1, "axis")
    exclusive, reverse = call.flag("exclusive"), call.flag("reverse")
    row = low.moved(value, value.axis(axis), value.rank - 1)
    return low.along("cumsum", value, axis, exclusive=int(exclusive), reverse=int(reverse), **low.total_bits(row))


def _cumprod(call: Call) -> Value:
    low, value, axis = call.low, call.value(), call.integer(1, "axis")
    axis, exclusive, reverse = value.axis(axis), call.flag("exclusive"), call.flag("reverse")
    size = value.size(axis)
    call.need(size <= MAX_STEPS, f"more than {MAX_STEPS} steps")
    parts = [low.slice(value, axis, at, 1) for at in range(size)]
    parts = parts[::-1] if reverse else parts
    if exclusive:
        one = low.expand(low.number(1, value.dtype, value.rank), parts[0].shape)
        parts = [one, *parts[:-1]]
    made = parts[:1]
    for part in parts[1:]:
        made.append(low("mul", made[-1], part))
    return low.concat(made[::-1] if reverse else made, axis)


def _rows(kind: str) -> Callable[[Call], Value]:
    def rule(call: Call) -> Value:
        low, value = call.low, call.value()
        call.need(value.dtype == "float32" and value.rank > 0, f"the type {value.dtype}{list(value.shape)}")
        return low.along(kind, value, call.whole("axis", -1))

    return rule


def _hardmax(call: Call) -> Value:
    low, value = call.low, call.value()
    axis = value.axis(call.whole("axis", -1))
    place = low.reduce("argmax", value, [axis], keep=True)
    shape = [1] * value.rank
    shape[axis] = value.size(axis)
    steps = low.reshape(low.steps(value.size(axis), "int32"), shape)
    return low.cast(low("equal", place, steps), value.dtype)


RULES: Mapping[str, Rule] = {
    "ArgMax": Rule(_arg("argmax"), 7),
    "ArgMin": Rule(_arg("argmin"), 7),
    "CumProd": Rule(_cumprod, 26),
    "CumSum": Rule(_cumsum, 11),
    "Hardmax": Rule(_hardmax),
    "LogSoftmax": Rule(_rows("log_softmax")),
    "ReduceL1": Rule(_reduction(_sum, _absolute), 7),
    "ReduceL2": Rule(_reduction(_norm, _square, integers=False), 7),
    "ReduceLogSum": Rule(_reduction(_log_sum, lambda _, value: value, integers=False), 7),
    "ReduceLogSumExp": Rule(_reduction(_log_sum_exp, lambda _, value: value, integers=False), 7),
    "ReduceMax": Rule(_reduction(_kind("reduce_max")), 7),
    "ReduceMean": Rule(_reduction(_kind("reduce_mean"), integers=False), 7),
    "ReduceMin": Rule(_reduction(_kind("reduce_min")), 7),
    "ReduceProd": Rule(_reduction(_kind("reduce_prod")), 7),
    "ReduceSum": Rule(_reduction(_sum), 7),
    "ReduceSumSquare": Rule(_reduction(_sum, _square), 7),
    "Softmax": Rule(_rows("softmax")),
    "TopK": Rule(_top, 10),
}
