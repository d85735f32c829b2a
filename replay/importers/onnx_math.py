"""ONNX's elementwise operators: arithmetic, logic, functions and activations, composed where there is no such kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np

from replay.importers.onnx_functions import acos, acosh, asin, asinh, atanh, cosh, sinh
from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_value import Call, Rule, Value, broadcast
from replay.operators import DType

_INTEGERS = ("int32", "int64")


def _unary(kind: str, *dtypes: str) -> Callable[[Call], Value]:
    def rule(call: Call) -> Value:
        value = call.value()
        call.need(not dtypes or value.dtype in dtypes, f"the type {value.dtype}")
        return call.low(kind, value)

    return rule


def _function(function: Callable[[Lowering, Value], Value]) -> Callable[[Call], Value]:
    """A float function made of several operators."""

    def rule(call: Call) -> Value:
        value = call.value()
        call.need(value.dtype == "float32", f"the type {value.dtype}")
        return function(call.low, value)

    return rule


def _binary(kind: str, *, swap: bool = False) -> Callable[[Call], Value]:
    """``swap``: a > b is b < a."""

    def rule(call: Call) -> Value:
        left, right = call.value(0), call.value(1)
        return call.low(kind, right, left) if swap else call.low(kind, left, right)

    return rule


def _variadic(kind: str, *, mean: bool = False) -> Callable[[Call], Value]:
    def rule(call: Call) -> Value:
        values = call.values()
        total = reduce(lambda left, right: call.low(kind, left, right), values)
        call.need(not mean or total.dtype == "float32", "the mean of integers")
        return call.low("div", total, float(len(values))) if mean else total

    return rule


def _mod(call: Call) -> Value:
    left, right = call.value(0), call.value(1)
    call.need(left.dtype != "float32", "float remainders")
    return call.low("fmod" if call.flag("fmod") else "mod", left, right)


def _pow(call: Call) -> Value:
    """The result has the type of the base."""
    base, exponent = call.value(0), call.value(1)
    if base.dtype == exponent.dtype == "float32":
        two = exponent.array is not None and bool((exponent.array == 2).all()) and exponent.array.size == 1
        if two and exponent.rank <= base.rank:
            return call.low("mul", base, base)
        return call.low("pow", base, exponent)
    if base.dtype == "float32":
        return call.low("pow", base, call.low.cast(exponent, "float32"))
    if exponent.dtype == "float32":
        array = call.constant(1, "a float exponent of integers")
        call.need(bool((array == np.floor(array)).all() and (np.abs(array) < 2**24).all()), "a fractional exponent")
        exponent = call.low.constant(array.astype(np.int64))
    return call.low("pow", base, call.low.cast(exponent, base.dtype))


def _bit_shift(call: Call) -> Value:
    """To the right the sign moves in. A count below 0 or of the width or more shifts all bits out."""
    low, value, count = call.low, call.value(0), call.value(1)
    call.need(value.dtype in _INTEGERS, f"the type {value.dtype}")
    most = 30 if value.dtype == "int32" else 62  # 2^most is the largest power of two there is
    count = low.where(low("less", count, 0), low.number(64, value.dtype), count)
    two, zero = low.number(2, value.dtype), low.number(0, value.dtype)
    if call.text("direction", "", "LEFT", "RIGHT") == "LEFT":
        return low("mul", value, low("pow", two, count))  # which wraps to 0 beyond the width
    power = low("pow", two, low("min", count, most))
    shifted = low("div", low("sub", value, low("mod", value, power)), power)
    sign = low.where(low("less", value, 0), low.number(-1, value.dtype), zero)
    return low.where(low("less", low.number(most, value.dtype), count), sign, shifted)


def _clip(call: Call) -> Value:
    """max(x, low) first, then min: where the bounds cross, the upper one stays. An infinite bound is none."""
    value = call.value()
    for place, kind in ((1, "max"), (2, "min")):
        bound = call.optional(place)
        if bound is None:
            continue
        call.need(math.prod(dim if isinstance(dim, int) else 2 for dim in bound.shape) == 1, "a bound is one number")
        none = -np.inf if kind == "max" else np.inf
        if bound.array is not None and bound.array.dtype == np.float32 and bool((bound.array == none).all()):
            continue
        value = call.low(kind, value, call.low.reshape(bound, ()))
    return value


def _cast(call: Call) -> Value:
    codes: Mapping[int, DType] = {1: "float32", 6: "int32", 7: "int64", 9: "bool"}
    to = call.whole("to", -1)
    call.ignore("saturate", "round_mode")
    call.need(to in codes, f"to type {to}")
    return call.low.cast(call.value(), codes[to])


def _cast_like(call: Call) -> Value:
    call.ignore("saturate", "round_mode")
    return call.low.cast(call.value(0), call.value(1).dtype)


def _where(call: Call) -> Value:
    return call.low.where(call.value(0), call.value(1), call.value(2))


def _is_nan(call: Call) -> Value:
    """Values of a program are finite, so this is false everywhere; it still depends on its input."""
    value = call.value()
    return call.low("not", call.low("equal", value, value))


def _is_inf(call: Call) -> Value:
    call.ignore("detect_negative", "detect_positive")
    return _is_nan(call)


# ---- activations -------------------------------------------------------------------------------------------------------


def _floats(call: Call) -> Value:
    value = call.value()
    call.need(value.dtype == "float32", f"the type {value.dtype}")
    return value


def _relu(call: Call) -> Value:
    value = call.value()
    return call.low("relu", value) if value.dtype == "float32" else call.low("max", value, 0)


def _leaky_relu(call: Call) -> Value:
    value = _floats(call)
    return call.low.where(call.low("less", value, 0), call.low("mul", value, call.decimal("alpha", 0.01)), value)


def _prelu(call: Call) -> Value:
    value, slope = call.value(0), call.value(1)
    call.need(broadcast(value.shape, slope.shape) == value.shape, "the slope does not broadcast to the input")
    return call.low.where(call.low("less", value, 0), call.low("mul", value, slope), value)


def exp_minus_one(low: Lowering, value: Value) -> Value:
    """e^min(x, 0) − 1."""
    return low("sub", low("exp", low("min", value, 0)), 1)


def elu(low: Lowering, value: Value, alpha: float) -> Value:
    return low("add", low("relu", value), low("mul", exp_minus_one(low, value), alpha))


def _elu(call: Call) -> Value:
    return elu(call.low, _floats(call), call.decimal("alpha", 1.0))


def _selu(call: Call) -> Value:
    alpha, gamma = call.decimal("alpha", 1.67326319217681884765625), call.decimal("gamma", 1.05070102214813232421875)
    return call.low("mul", elu(call.low, _floats(call), alpha), gamma)


def _celu(call: Call) -> Value:
    low, value, alpha = call.low, _floats(call), call.decimal("alpha", 1.0)
    call.need(alpha > 0, "alpha must be positive")
    return low("add", low("relu", value), low("mul", exp_minus_one(low, low("div", value, alpha)), alpha))


def _gelu(call: Call) -> Value:
    return call.low("gelu_tanh" if call.text("approximate", "none", "tanh") == "tanh" else "gelu_erf", _floats(call))


def hard_sigmoid(low: Lowering, value: Value, alpha: float, beta: float) -> Value:
    return low("max", low("min", low("add", low("mul", value, alpha), beta), 1), 0)


def _hard_sigmoid(call: Call) -> Value:
    return hard_sigmoid(call.low, _floats(call), call.decimal("alpha", 0.2), call.decimal("beta", 0.5))


def _thresholded_relu(call: Call) -> Value:
    low, value = call.low, _floats(call)
    return low.where(low("less", low.number(call.decimal("alpha", 1.0)), value), value, low.number(0))


def _shrink(call: Call) -> Value:
    low, value = call.low, _floats(call)
    limit, bias = call.decimal("lambd", 0.5), call.decimal("bias", 0.0)
    upper = low.where(low("less", low.number(limit), value), low("sub", value, bias), low.number(0))
    return low.where(low("less", value, -limit), low("add", value, bias), upper)


def _swish(call: Call) -> Value:
    low, value, alpha = call.low, _floats(call), call.decimal("alpha", 1.0)
    return low("silu", value) if alpha == 1 else low("mul", value, low("sigmoid", low("mul", value, alpha)))


def _swiglu(call: Call) -> Value:
    call.need(call.value(0).shape == call.value(1).shape, "gate and value differ")
    return call.low("mul", _swish(call), call.value(1))


def softsign(low: Lowering, value: Value) -> Value:
    return low("div", value, low("add", low("abs", value), 1))


RULES: Mapping[str, Rule] = {
    "Abs": Rule(_unary("abs"), 7),
    "Acos": Rule(_function(acos), 7),
    "Acosh": Rule(_function(acosh), 9),
    "Add": Rule(_binary("add"), 7),
    "And": Rule(_binary("and"), 7),
    "Asin": Rule(_function(asin), 7),
    "Asinh": Rule(_function(asinh), 9),
    "Atan": Rule(_unary("atan", "float32"), 7),
    "Atanh": Rule(_function(atanh), 9),
    "BitShift": Rule(_bit_shift, 11),
    "BitwiseAnd": Rule(_binary("bit_and"), 18),
    "BitwiseNot": Rule(_unary("bit_not"), 18),
    "BitwiseOr": Rule(_binary("bit_or"), 18),
    "BitwiseXor": Rule(_binary("bit_xor"), 18),
    "Cast": Rule(_cast, 9),
    "CastLike": Rule(_cast_like, 15),
    "Ceil": Rule(_unary("ceil"), 7),
    "Celu": Rule(_celu, 12),
    "Clip": Rule(_clip, 11),
    "Cos": Rule(_unary("cos"), 7),
    "Cosh": Rule(_function(cosh), 9),
    "Div": Rule(_binary("div"), 7),
    "Elu": Rule(_elu, 7),
    "Equal": Rule(_binary("equal"), 7),
    "Erf": Rule(_unary("erf", "float32"), 9),
    "Exp": Rule(_unary("exp"), 7),
    "Floor": Rule(_unary("floor"), 7),
    "Gelu": Rule(_gelu, 20),
    "Greater": Rule(_binary("less", swap=True), 7),
    "GreaterOrEqual": Rule(_binary("less_equal", swap=True), 12),
    "HardSigmoid": Rule(_hard_sigmoid, 7),
    "HardSwish": Rule(_function(lambda low, x: low("mul", x, hard_sigmoid(low, x, 1 / 6, 0.5))), 14),
    "IsInf": Rule(_is_inf, 10),
    "IsNaN": Rule(_is_nan, 9),
    "LeakyRelu": Rule(_leaky_relu, 7),
    "Less": Rule(_binary("less"), 7),
    "LessOrEqual": Rule(_binary("less_equal"), 12),
    "Log": Rule(_unary("log"), 7),
    "Max": Rule(_variadic("max"), 8),
    "Mean": Rule(_variadic("add", mean=True), 8),
    "Min": Rule(_variadic("min"), 8),
    "Mish": Rule(_function(lambda low, x: low("mul", x, low("tanh", low("softplus", x)))), 18),
    "Mod": Rule(_mod, 10),
    "Mul": Rule(_binary("mul"), 7),
    "Neg": Rule(_unary("neg"), 7),
    "Not": Rule(_unary("not"), 1),
    "Or": Rule(_binary("or"), 7),
    "PRelu": Rule(_prelu, 7),
    "Pow": Rule(_pow, 7),
    "Reciprocal": Rule(_function(lambda low, x: low("div", low.number(1), x)), 7),
    "Relu": Rule(_relu, 7),
    "Round": Rule(_unary("round"), 11),
    "Selu": Rule(_selu, 7),
    "Shrink": Rule(_shrink, 9),
    "Sigmoid": Rule(_unary("sigmoid"), 7),
    "Sign": Rule(_unary("sign"), 9),
    "Sin": Rule(_unary("sin"), 7),
    "Sinh": Rule(_function(sinh), 9),
    "Softplus": Rule(_unary("softplus"), 7),
    "Softsign": Rule(_function(softsign), 7),
    "Sqrt": Rule(_unary("sqrt"), 7),
    "Sub": Rule(_binary("sub"), 7),
    "Sum": Rule(_variadic("add"), 8),
    "Swish": Rule(_swish, 24),
    "SwiGLU": Rule(_swiglu, 28),
    "Tan": Rule(_unary("tan"), 7),
    "Tanh": Rule(_unary("tanh"), 7),
    "ThresholdedRelu": Rule(_thresholded_relu, 10),
    "Where": Rule(_where, 9),
    "Xor": Rule(_binary("xor"), 7),
}
