"""IEEE arithmetic on bit patterns against the processor's, and the constants against the formulas that the page gives."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import pytest

from replay.kernels import spec
from replay.kernels.scalar.softfloat import F32, F64, Format, half_even, narrow, widen

FLOAT_OF = {F32: np.float32, F64: np.float64}
BITS_OF = {F32: np.uint32, F64: np.uint64}


def awkward_bits(form: Format) -> list[int]:
    """Zeros, subnormals, limits, powers of two, numbers next to them, infinities, NaN: of both signs."""
    fields = [0, 1, 2, 30, (form.one >> form.fraction) - 1, form.one >> form.fraction]
    fields += [fields[-1] + 1, fields[-1] + form.fraction, fields[-1] + form.digits]
    fields += [(form.infinity >> form.fraction) - 1]
    parts = [0, 1, 2, form.hidden >> 1, (form.hidden >> 1) + 1, form.fraction_mask - 1, form.fraction_mask]
    bits = [field << form.fraction | part for field in fields for part in parts] + [form.infinity, form.nan]
    return bits + [one | form.negative for one in bits]


def pairs(form: Format, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of awkward numbers, and ``count`` random ones; half of these are of similar size, so that sums cancel."""
    random, kind, awkward = np.random.default_rng(seed), BITS_OF[form], awkward_bits(form)
    width = np.dtype(kind).itemsize * 8
    x = random.integers(0, 1 << width, count, dtype=kind)
    y = random.integers(0, 1 << width, count, dtype=kind)
    close = random.integers(0, 2, count, dtype=bool)
    step = random.integers(-30, 31, count) * close
    field = (x & kind(form.infinity)) >> kind(form.fraction)
    field = np.clip(field.astype(np.int64) + step, 0, form.infinity >> form.fraction).astype(kind)
    y = np.where(close, (y & kind(form.negative | form.fraction_mask)) | field << kind(form.fraction), y)
    grid = np.array(awkward, kind)
    return np.concatenate([x, np.repeat(grid, len(grid))]), np.concatenate([y, np.tile(grid, len(grid))])


def canonical(form: Format, values: np.ndarray) -> list[int]:
    """Bits of numbers, every NaN the same."""
    bits = values.view(BITS_OF[form]).copy()
    bits[np.isnan(values)] = form.nan
    return bits.tolist()


@pytest.mark.parametrize("form", [F32, F64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_arithmetic_is_the_processors(form, name):
    x, y = pairs(form, 20_000, seed=form.digits)
    truth = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[name]
    with np.errstate(all="ignore"):
        wanted = canonical(form, truth(x.view(FLOAT_OF[form]), y.view(FLOAT_OF[form])))
    operation = getattr(form, name)
    got = [operation(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    assert len(got) > 30_000
    assert got == wanted


def test_the_quotient_of_ties_and_subnormals_is_the_processors():
    """Quotients that are subnormal, and those of short numbers, which are exact or ties."""
    random = np.random.default_rng(1)
    for form in (F32, F64):
        kind = BITS_OF[form]
        low, bias = random.integers(1, 1 << 14, (2, 20_000)), form.one >> form.fraction
        x = canonical(form, (low[0] * 2.0 ** (form.lowest + 3)).astype(FLOAT_OF[form]))
        y = canonical(form, (low[1] * 2.0 ** random.integers(-8, 8, 20_000)).astype(FLOAT_OF[form]))
        with np.errstate(all="ignore"):
            wanted = np.array(x, kind).view(FLOAT_OF[form]) / np.array(y, kind).view(FLOAT_OF[form])
        assert [form.div(a, b) for a, b in zip(x, y, strict=True)] == canonical(form, wanted)
        assert (wanted.view(kind) >> kind(form.fraction)).max() < bias
        assert np.count_nonzero(wanted.view(kind) < form.hidden) > 5_000


def test_narrowing_and_widening_are_the_processors():
    x, _ = pairs(F64, 20_000, seed=3)
    # exponents that fp32 has, and just below: rounding, ties, subnormal numbers, overflow
    random = np.random.default_rng(4)
    field = random.integers(1023 - 152, 1023 + 130, len(x)).astype(np.uint64)
    near = (x & np.uint64(F64.negative | F64.fraction_mask)) | field << np.uint64(52)
    ties = near & ~np.uint64((1 << 28) - 1)
    for bits in (x, near, ties):
        with np.errstate(all="ignore"):
            wanted = canonical(F32, bits.view(np.float64).astype(np.float32))
        assert [narrow(one) for one in bits.tolist()] == wanted
    y, _ = pairs(F32, 20_000, seed=5)
    with np.errstate(all="ignore"):
        wide = y.view(np.float32).astype(np.float64)
    assert [widen(one) for one in y.tolist()] == canonical(F64, wide)


def test_integers_round_as_the_processors():
    random = np.random.default_rng(6)
    wide = random.integers(-(2**63), 2**63, 20_000) >> random.integers(0, 63, 20_000)
    halves = (random.integers(1, 2**24, 5_000) * 2 + 1) << random.integers(0, 38, 5_000)
    numbers = np.concatenate([wide, halves, -halves, halves << 29, [2**63 - 1, -(2**63), 0, 2**53 + 1]])
    assert list(map(F64.nearest, numbers.tolist())) == canonical(F64, numbers.astype(np.float64))
    assert list(map(F32.nearest, numbers.tolist())) == canonical(F32, numbers.astype(np.float32))


def test_whole_numbers_of_floats():
    x, _ = pairs(F32, 20_000, seed=7)
    values = x.view(np.float32)
    x = x[np.isfinite(values) & (np.abs(values) < 2.0**62)]
    wide, bits = x.view(np.float32).astype(np.float64), x.tolist()
    assert list(map(F32.whole, bits)) == np.rint(wide).astype(np.int64).tolist()
    assert list(map(F32.floor, bits)) == np.floor(wide).astype(np.int64).tolist()
    assert list(map(F32.truncate, bits)) == np.trunc(wide).astype(np.int64).tolist()
    assert sorted(bits, key=F32.order) == sorted(bits, key=lambda one: np.uint32(one).view(np.float32))
    assert [half_even(m, -2) for m in range(-8, 9)] == [round(m / 4) for m in range(-8, 9)]


def test_powers_of_two_scale():
    x = [bits for bits in awkward_bits(F64) if F64.finite(bits)]
    for power in (-1060, -30, 0, 30, 900):
        with np.errstate(all="ignore"):
            wanted = np.ldexp(np.array(x, np.uint64).view(np.float64), power)
        assert [F64.scale(one, power) for one in x] == canonical(F64, wanted)


def nearest(exact: Fraction) -> str:
    """Bits of the double nearest to a fraction."""
    return f"{F64.div(F64.nearest(exact.numerator), F64.nearest(exact.denominator)):016x}"


def pi() -> Fraction:
    """Machin: π = 16·atan(1/5) − 4·atan(1/239), to 60 digits."""

    def arc(x: int) -> Fraction:
        return sum((Fraction((-1) ** k, (2 * k + 1) * x ** (2 * k + 1)) for k in range(50)), Fraction(0))

    return 16 * arc(5) - 4 * arc(239)


def test_the_coefficients_are_what_the_page_says():
    f = math.factorial
    assert tuple(nearest(Fraction(1, f(k))) for k in range(14)) == spec.EXP64
    assert tuple(nearest(Fraction(2, 2 * k + 1)) for k in range(11)) == spec.LOG64
    assert tuple(nearest(Fraction((-1) ** k, f(2 * k + 1))) for k in range(9)) == spec.SIN64
    assert tuple(nearest(Fraction((-1) ** k, f(2 * k))) for k in range(9)) == spec.COS64
    assert tuple(nearest(Fraction((-1) ** k, 2 * k + 1)) for k in range(15)) == spec.ATAN64
    scale = 1 << 200
    two_over_root_pi = Fraction(2 * scale, math.isqrt(int(pi() * scale * scale)))
    exact = [two_over_root_pi * Fraction((-1) ** k, f(k) * (2 * k + 1)) for k in range(12)]
    assert tuple(struct.pack(">d", float(one)).hex() for one in exact) == spec.ERF64
    parts = [Fraction(struct.unpack(">d", bytes.fromhex(part))[0]) for part in spec.HALF_PI]
    assert abs(sum(parts, Fraction(0)) - pi() / 2) < Fraction(1, 1 << 115)
