"""Inverse and hyperbolic functions from the kinds there are, each within a few units in the last place.

Both sides of a ``where`` are computed, and must be finite: arguments are clamped before the side that does not count.
"""

from __future__ import annotations

import math

from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_value import Value

#: Above this, √(x² + 1) is x in float32, and x² would not overflow below it.
_LARGE = float(1 << 28)


def _half_circle(low: Lowering, x: Value) -> Value:
    """Asin x = 2·atan(x / (1 + √((1 − x)(1 + x)))); |x| > 1 is not finite."""
    root = low("sqrt", low("mul", low("sub", low.number(1), x), low("add", x, 1)))
    return low("mul", low("atan", low("div", x, low("add", root, 1))), 2)


def asin(low: Lowering, x: Value) -> Value:
    return _half_circle(low, x)


def acos(low: Lowering, x: Value) -> Value:
    """2·asin √((1 − |x|)/2), from π for negative x."""
    a = low("abs", x)
    half = low("sqrt", low("mul", low("sub", low.number(1), a), 0.5))
    angle = low("mul", _half_circle(low, half), 2)
    return low.where(low("less", x, 0), low("sub", low.number(math.pi), angle), angle)


def _halves(low: Lowering, x: Value) -> tuple[Value, Value]:
    """(e^|x|/2, e^−|x|/2), from e^(|x|/2), which overflows no earlier than they do."""
    h = low("exp", low("mul", low("abs", x), 0.5))
    return low("mul", low("mul", h, 0.5), h), low("div", low("div", low.number(0.5), h), h)


def cosh(low: Lowering, x: Value) -> Value:
    return low("add", *_halves(low, x))


def sinh(low: Lowering, x: Value) -> Value:
    """By its series below 1, where the difference of two exponentials would cancel."""
    grown, fallen = _halves(low, x)
    large = low("mul", low("sign", x), low("sub", grown, fallen))
    near = low("max", low("min", x, 1), -1)
    square = low("mul", near, near)
    total = low.number(1)
    for divisor in (110, 72, 42, 20, 6):
        total = low("add", low("div", low("mul", square, total), float(divisor)), 1)
    return low.where(low("less", low("abs", x), 1), low("mul", near, total), large)


def log1p(low: Lowering, u: Value) -> Value:
    """ln(1 + u): with w = fp32(1 + u) it is u·ln w / (w − 1), in which the rounding of w cancels."""
    w = low("add", u, 1)
    same = low("equal", w, 1)
    step = low.where(same, low.number(1), low("sub", w, 1))
    return low.where(same, u, low("div", low("mul", u, low("log", w)), step))


def _logarithm(low: Lowering, x: Value, small: Value) -> Value:
    """Ln 2x where x is large, else ``small``."""
    large = low("add", low("log", low("max", x, _LARGE)), math.log(2))
    return low.where(low("less", x, _LARGE), small, large)


def asinh(low: Lowering, x: Value) -> Value:
    """± ln(1 + a + a²/(1 + √(a² + 1)))."""
    a = low("abs", x)
    near = low("min", a, _LARGE)
    square = low("mul", near, near)
    root = low("add", low("sqrt", low("add", square, 1)), 1)
    return low("mul", low("sign", x), _logarithm(low, a, log1p(low, low("add", near, low("div", square, root)))))


def acosh(low: Lowering, x: Value) -> Value:
    """ln(1 + t + √t·√(t + 2)), t = x − 1; x < 1 is not finite."""
    t = low("sub", low("min", x, _LARGE), 1)
    root = low("mul", low("sqrt", t), low("sqrt", low("add", t, 2)))
    return _logarithm(low, x, log1p(low, low("add", t, root)))


def atanh(low: Lowering, x: Value) -> Value:
    """± ½·ln(1 + 2a/(1 − a)); |x| ≥ 1 is not finite."""
    a = low("abs", x)
    half = low("mul", log1p(low, low("div", low("mul", a, 2), low("sub", low.number(1), a))), 0.5)
    return low("mul", low("sign", x), half)
