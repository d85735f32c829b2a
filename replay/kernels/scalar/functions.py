"""The functions of one number: fp32 bits in, fp32 bits out, every operation rounded in the order that the page gives.

``FUNCTIONS`` maps an operator kind to its function. What is not finite by definition comes out as the NaN ``F32.nan``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from replay.kernels import spec
from replay.kernels.scalar.softfloat import F32, F64, Format, narrow, widen


def _bits(text: str) -> int:
    return int(text, 16)


def _all_bits(texts: Sequence[str]) -> tuple[int, ...]:
    return tuple(int(text, 16) for text in texts)


NOT_FINITE = F32.nan
ONE, HALF, SIXTY = F32.one, F32.nearest(1, -1), F32.nearest(60)
LOG2E, MINUS_LOG2E, MINUS_TWO_LOG2E = _bits(spec.LOG2E), F32.neg(_bits(spec.LOG2E)), F32.neg(_bits(spec.TWO_LOG2E))
_ONE, _HALF, _THREE_HALVES = F64.one, F64.nearest(1, -1), F64.nearest(3, -1)
_EXP2 = (ONE, *_all_bits(spec.EXP2))
_EXP64, _LOG64, _SIN64, _COS64 = map(_all_bits, (spec.EXP64, spec.LOG64, spec.SIN64, spec.COS64))
_ATAN64, _ERF64 = _all_bits(spec.ATAN64), _all_bits(spec.ERF64)
_LN2, _HALF_PI = _all_bits(spec.LN2), _all_bits(spec.HALF_PI)


def larger(form: Format, x: int, y: int) -> int:
    return y if form.order(x) < form.order(y) else x


def smaller(form: Format, x: int, y: int) -> int:
    return y if form.order(y) < form.order(x) else x


def clamp(form: Format, x: int, bound: int) -> int:
    """Whichever of x, −bound and bound lies between the others."""
    return smaller(form, larger(form, x, form.neg(bound)), bound)


def polynomial(form: Format, z: int, coefficients: Sequence[int]) -> int:
    """Horner: ``(((c_n·z + c_{n−1})·z + …)·z + c₀``, each operation rounded."""
    result = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = form.add(form.mul(result, z), coefficient)
    return result


# ---- fp32 ------------------------------------------------------------------------------------------------------------


def exp2(z: int, power: int = 0) -> int:
    """2^z·2^power for |z| ≤ 60."""
    n = F32.whole(z)
    p = polynomial(F32, F32.sub(z, F32.nearest(n)), _EXP2)
    return p + ((n + power) << F32.fraction)


def exp2_from(z: int, power: int = 0) -> int:
    """2^max(z, −60)·2^power: what a weight of a softmax is made by; z ≤ 60."""
    return exp2(larger(F32, z, F32.neg(SIXTY)), power)


def newton_rsqrt(v: int) -> int:
    """The fourth Newton step towards v^−½, v an fp64 > 0."""
    y = spec.RSQRT - (v >> 1)
    h = F64.mul(v, _HALF)
    for _ in range(4):
        y = F64.mul(y, F64.sub(_THREE_HALVES, F64.mul(F64.mul(h, y), y)))
    return y


def rsqrt(v: int) -> int:
    return narrow(newton_rsqrt(widen(v)))


def relu(x: int) -> int:
    return larger(F32, x, 0)


def gelu_tanh(x: int) -> int:
    k0, k1 = _all_bits(spec.GELU_TANH)
    exponent = F32.mul(F32.add(F32.mul(F32.mul(x, x), k1), k0), x)
    return F32.div(x, F32.add(exp2(clamp(F32, exponent, SIXTY)), ONE))


def sigmoid(x: int) -> int:
    return F32.div(ONE, F32.add(exp2(clamp(F32, F32.mul(x, MINUS_LOG2E), SIXTY)), ONE))


def silu(x: int) -> int:
    return F32.div(x, F32.add(exp2(clamp(F32, F32.mul(x, MINUS_LOG2E), SIXTY)), ONE))


def tanh(x: int) -> int:
    e = exp2_from(F32.mul(x & F32.magnitude, MINUS_TWO_LOG2E))
    return F32.div(F32.sub(ONE, e), F32.add(ONE, e)) | x & F32.negative


def gelu_erf(x: int) -> int:
    """Abramowitz–Stegun 7.1.26."""
    size = x & F32.magnitude
    z = F32.mul(size, _bits(spec.SQRT_HALF))
    t = F32.div(ONE, F32.add(F32.mul(z, _bits(spec.ERF_P)), ONE))
    p = F32.mul(polynomial(F32, t, _all_bits(spec.ERF_A)), t)
    tail = F32.mul(p, exp2_from(F32.mul(F32.mul(z, z), MINUS_LOG2E)))
    return F32.sub(relu(x), F32.mul(F32.mul(tail, size), HALF))


def floor(x: int) -> int:
    return F32.nearest(F32.floor(x))


def ceil(x: int) -> int:
    return F32.nearest(-F32.floor(F32.neg(x)))


def round_half_even(x: int) -> int:
    return F32.nearest(F32.whole(x))


# ---- fp64, then one rounding to fp32 ---------------------------------------------------------------------------------


def exp64(x: int) -> int:
    """e^x in fp64, x clamped to ±150."""
    x = clamp(F64, x, F64.nearest(150))
    n = F64.whole(F64.mul(x, _bits(spec.INV_LN2)))
    turns = F64.nearest(n)
    r = F64.sub(F64.sub(x, F64.mul(turns, _LN2[0])), F64.mul(turns, _LN2[1]))
    return F64.scale(polynomial(F64, r, _EXP64), n)


def ln64(v: int) -> int:
    """The natural logarithm in fp64, v > 0 normal."""
    n = (v >> F64.fraction) - (F64.one >> F64.fraction)
    m = v & F64.fraction_mask | F64.one
    if m > _bits(spec.SQRT2):
        m, n = F64.scale(m, -1), n + 1
    s = F64.div(F64.sub(m, _ONE), F64.add(m, _ONE))
    turns, tail = F64.nearest(n), F64.mul(s, polynomial(F64, F64.mul(s, s), _LOG64))
    return F64.add(F64.mul(turns, _LN2[0]), F64.add(F64.mul(turns, _LN2[1]), tail))


def exp(x: int) -> int:
    return narrow(exp64(widen(x)))


def log(x: int) -> int:
    return narrow(ln64(widen(x))) if F32.order(x) > 0 else NOT_FINITE


def softplus(x: int) -> int:
    e = exp64(widen(x | F32.negative))
    return narrow(F64.add(widen(relu(x)), ln64(F64.add(_ONE, e))))


def power(x: int, y: int) -> int:
    """x^y of two fp32 numbers."""
    if F32.order(y) == 0:
        return ONE
    if F32.order(x) == 0:
        return 0 if F32.order(y) > 0 else NOT_FINITE
    whole = F32.nearest(F32.whole(y)) == y
    if F32.order(x) < 0 and not whole:
        return NOT_FINITE
    y64 = widen(y)
    result = narrow(exp64(F64.mul(y64, ln64(widen(x & F32.magnitude)))))
    odd = F32.order(x) < 0 and F32.whole(y) % 2 == 1
    return F32.neg(result) if odd else result


def sqrt(x: int) -> int:
    if F32.order(x) <= 0:
        return 0 if F32.order(x) == 0 else NOT_FINITE
    v = widen(x)
    return narrow(F64.mul(v, newton_rsqrt(v)))


def _turned(x: int) -> tuple[int, int, int] | None:
    """(quarter turns mod 4, sine and cosine in fp64 of what is left); None where |x| > 2^18."""
    if x & F32.magnitude > F32.nearest(1, 18):
        return None
    v = widen(x)
    n = F64.whole(F64.mul(v, _bits(spec.TWO_OVER_PI)))
    turns, r = F64.nearest(n), v
    for part in _HALF_PI:
        r = F64.sub(r, F64.mul(turns, part))
    square = F64.mul(r, r)
    return n % 4, F64.mul(r, polynomial(F64, square, _SIN64)), polynomial(F64, square, _COS64)


def sin(x: int) -> int:
    found = _turned(x)
    if found is None:
        return NOT_FINITE
    n, s, c = found
    return narrow((s, c, F64.neg(s), F64.neg(c))[n])


def cos(x: int) -> int:
    found = _turned(x)
    if found is None:
        return NOT_FINITE
    n, s, c = found
    return narrow((c, F64.neg(s), F64.neg(c), s)[n])


def tan(x: int) -> int:
    found = _turned(x)
    if found is None:
        return NOT_FINITE
    n, s, c = found
    return narrow(F64.div(s, c) if n % 2 == 0 else F64.div(F64.neg(c), s))


def atan(x: int) -> int:
    a, root3 = widen(x & F32.magnitude), _bits(spec.SQRT3)
    inverted = a > _ONE
    if inverted:
        a = F64.div(_ONE, a)
    reduced = a > _bits(spec.TAN_15)
    if reduced:
        a = F64.div(F64.sub(F64.mul(a, root3), _ONE), F64.add(a, root3))
    y = F64.mul(a, polynomial(F64, F64.mul(a, a), _ATAN64))
    if reduced:
        y = F64.add(y, _bits(spec.PI_6))
    if inverted:
        y = F64.sub(_bits(spec.PI_2), y)
    return narrow(y) | x & F32.negative


def erf(x: int) -> int:
    """A power series below ½, Abramowitz–Stegun 7.1.26 beyond."""
    a = widen(x & F32.magnitude)
    square = F64.mul(a, a)
    if a < _HALF:
        y = F64.mul(a, polynomial(F64, square, _ERF64))
    else:
        t = F64.div(_ONE, F64.add(F64.mul(a, _bits(spec.ERF64_P)), _ONE))
        tail = F64.mul(F64.mul(t, polynomial(F64, t, _all_bits(spec.ERF64_A))), exp64(F64.neg(square)))
        y = F64.sub(_ONE, tail)
    return narrow(y) | x & F32.negative


#: float32 → float32, element by element.
FUNCTIONS: Mapping[str, Callable[[int], int]] = {
    "relu": relu, "floor": floor, "ceil": ceil, "round": round_half_even, "sqrt": sqrt, "exp": exp, "log": log,
    "sin": sin, "cos": cos, "tan": tan, "atan": atan, "erf": erf, "sigmoid": sigmoid, "tanh": tanh,
    "gelu_erf": gelu_erf, "gelu_tanh": gelu_tanh, "silu": silu, "softplus": softplus,
}  # fmt: skip
