"""Constants and bit budgets of the canonical numerics, spec version 0. Numbers only; ``docs/numerics.md`` has the
formulas. A constant is written as the hex of its IEEE bits, so that no decimal conversion stands between two
implementations: ``f32`` constants have 8 digits, ``f64`` constants 16.
"""

from __future__ import annotations

import math
import struct

SPEC_VERSION = 0
GRID = "hi"

#: A row whose largest |x| has a biased exponent above this (|x| ≥ 2¹⁰⁰, Inf, NaN) has no grid: NONFINITE.
EXPONENT_MAX = 226
#: Smaller rows are gridded as if their largest |x| had this biased exponent (2⁻¹⁰⁰).
EXPONENT_MIN = 27
#: fp32 adding is exact to this many bits on the grid.
GRID_BITS_MAX = 22
#: fp64 holds integers exactly up to 2⁵³; int64 sums of the norms stay below 2⁶².
DOT_BITS, SUM_BITS = 53, 62

#: Attention: weights are integers up to 2²², values are gridded at 18 bits.
WEIGHT_BITS, VALUE_BITS = 22, 18
#: 2^(53 − 22 − 18) tokens sum exactly in one block.
TOKENS_MAX = 1 << (DOT_BITS - WEIGHT_BITS - VALUE_BITS)
#: Powers of two are computed for |exponent| ≤ 60.
CLAMP = 60.0

LOG2E = "3fb8aa3b"
TWO_LOG2E = "4038aa3b"
#: 2^f for |f| ≤ ½: c₁ … c₅ (c₀ = 1)
EXP2 = ("3f317215", "3e75fce1", "3d635b6d", "3c1e7459", "3aadecbd")
#: gelu_tanh = x / (1 + 2^((k₁x² + k₀)x))
GELU_TANH = ("c0135761", "bdd2d3e8")
#: Abramowitz–Stegun 7.1.26: p, a₁ … a₅, and √½
ERF_P = "3ea7ba05"
ERF_A = ("3e827906", "be91a98e", "3fb5f0e3", "bfba00e3", "3f87dc22")
SQRT_HALF = "3f3504f3"
#: First guess of 1/√v in fp64: view(RSQRT − (bits(v) >> 1)), then four Newton steps.
RSQRT = 0x5FE6EB50C7B537A9
RSQRT_STEPS = 4
#: l2_normalise divides by √max(Σx², floor)
L2_FLOOR = "179abe15"


def log2_ceil(count: int) -> int:
    """⌈log₂ count⌉ for count ≥ 1."""
    return (count - 1).bit_length()


def dot_bits(length: int) -> tuple[int, int]:
    """(bits of the activation, bits of the weight) for an exact fp64 dot product of ``length`` terms, grid hi."""
    free = DOT_BITS - log2_ceil(length)
    a = min(GRID_BITS_MAX, free // 2)
    return a, min(GRID_BITS_MAX, free - a)


def sum_bits(length: int) -> int:
    """Bits at which a row of ``length`` is gridded for exact Σq and Σq² (norms)."""
    return min(GRID_BITS_MAX, (SUM_BITS - 2 * log2_ceil(length)) // 2)


#: Longest row of a dot product (both sides keep at least 14 bits), of a norm, of a softmax.
DOT_LENGTH_MAX = 1 << 24
NORM_LENGTH_MAX = 1 << 16
SOFTMAX_LENGTH_MAX = 1 << (DOT_BITS - WEIGHT_BITS)
POOL_TOKENS_MAX = 1 << (DOT_BITS - GRID_BITS_MAX)


def f32_hex(value: float) -> str:
    """Bits of the float32 nearest to ``value``."""
    return struct.pack(">f", value).hex()


def f64_hex(value: float) -> str:
    """Bits of the float64 ``value``."""
    return struct.pack(">d", value).hex()


def attention_scale(head_dim: int) -> str:
    """The constant head_dim^−½ · log₂e as one fp64 constant (the product of the two correctly rounded doubles)."""
    return f64_hex(math.sqrt(1.0 / head_dim) * math.log2(math.e))
