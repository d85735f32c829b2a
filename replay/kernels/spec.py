"""Constants and bit budgets of the canonical numerics, spec version 1. Numbers only; ``docs/numerics.md`` has the
formulas. A constant is written as the hex of its IEEE bits, so that no decimal conversion stands between two
implementations: ``f32`` constants have 8 digits, ``f64`` constants 16.
"""

from __future__ import annotations

import math
import struct

SPEC_VERSION = 1
#: Bit budgets of a linear operator: close to fp32, or cheap.
GRIDS = ("hi", "lo")

#: A row whose largest |x| has a biased exponent above this (|x| ≥ 2¹⁰⁰, Inf, NaN) has no grid: NONFINITE.
EXPONENT_MAX = 226
#: Smaller rows are gridded as if their largest |x| had this biased exponent (2⁻¹⁰⁰).
EXPONENT_MIN = 27
#: fp32 adding is exact to this many bits on the grid.
GRID_BITS_MAX = 22
#: fp64 holds integers exactly up to 2⁵³; int64 sums of the norms stay below 2⁶².
DOT_BITS, SUM_BITS = 53, 62
#: Grid lo: two base-256 digits of an activation, two base-128 digits of a weight.
LO_BITS = (14, 13)

#: Attention: weights are integers up to 2²², values are gridded at 18 bits.
WEIGHT_BITS, VALUE_BITS = 22, 18
#: 2^(53 − 22 − 18) tokens sum exactly in one block.
TOKENS_MAX = 1 << (DOT_BITS - WEIGHT_BITS - VALUE_BITS)
#: Powers of two are computed for |exponent| ≤ 60.
CLAMP = 60.0
#: Trees: a node's mode is 0 ≤, 1 <, 2 ≥, 3 >, 4 =, 5 ≠ (feature against threshold), or this for a leaf.
TREE_LEAF = 6
#: Sampling a token: weights are integers up to 2³².
SAMPLE_BITS = 32
#: log₂e · 10⁶, to be divided by a temperature in millionths
SAMPLE_SCALE = "413603870a77b2f9"

LOG2E = "3fb8aa3b"
TWO_LOG2E = "4038aa3b"
LOG2E64 = "3ff71547652b82fe"
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

# ---- fp64 functions: each is a Horner chain in fp64, then one rounding to fp32 ----------------------------------------

#: ln 2 in two parts (the first has 32 bits, so that n·LN2[0] is exact), and 1/ln 2.
LN2 = ("3fe62e42fee00000", "3dea39ef35793c76")
INV_LN2 = "3ff71547652b82fe"
#: exp64 is defined for |x| ≤ this: beyond, fp32 is 0 or Inf anyway.
EXP_CLAMP = 150.0
#: 1/k!, k = 0 … 13
EXP64 = (
    "3ff0000000000000", "3ff0000000000000", "3fe0000000000000", "3fc5555555555555", "3fa5555555555555",
    "3f81111111111111", "3f56c16c16c16c17", "3f2a01a01a01a01a", "3efa01a01a01a01a", "3ec71de3a556c734",
    "3e927e4fb7789f5c", "3e5ae64567f544e4", "3e21eed8eff8d898", "3de6124613a86d09",
)  # fmt: skip
#: 2/(2k + 1), k = 0 … 10
LOG64 = (
    "4000000000000000", "3fe5555555555555", "3fd999999999999a", "3fd2492492492492", "3fcc71c71c71c71c",
    "3fc745d1745d1746", "3fc3b13b13b13b14", "3fc1111111111111", "3fbe1e1e1e1e1e1e", "3fbaf286bca1af28",
    "3fb8618618618618",
)  # fmt: skip
SQRT2 = "3ff6a09e667f3bcd"
#: π/2 in three parts (33 bits each in the first two), and 2/π; |x| above SIN_MAX has no result.
HALF_PI = ("3ff921fb54400000", "3dd0b4611a600000", "3ba3198a2e037073")
TWO_OVER_PI = "3fe45f306dc9c883"
SIN_MAX = float(1 << 18)
#: (−1)^k/(2k + 1)! and (−1)^k/(2k)!, k = 0 … 8
SIN64 = (
    "3ff0000000000000", "bfc5555555555555", "3f81111111111111", "bf2a01a01a01a01a", "3ec71de3a556c734",
    "be5ae64567f544e4", "3de6124613a86d09", "bd6ae7f3e733b81f", "3ce952c77030ad4a",
)  # fmt: skip
COS64 = (
    "3ff0000000000000", "bfe0000000000000", "3fa5555555555555", "bf56c16c16c16c17", "3efa01a01a01a01a",
    "be927e4fb7789f5c", "3e21eed8eff8d898", "bda93974a8c07c9d", "3d2ae7f3e733b81f",
)  # fmt: skip
#: (−1)^k/(2k + 1), k = 0 … 14; tan 15°, √3, π/6, π/2
ATAN64 = (
    "3ff0000000000000", "bfd5555555555555", "3fc999999999999a", "bfc2492492492492", "3fbc71c71c71c71c",
    "bfb745d1745d1746", "3fb3b13b13b13b14", "bfb1111111111111", "3fae1e1e1e1e1e1e", "bfaaf286bca1af28",
    "3fa8618618618618", "bfa642c8590b2164", "3fa47ae147ae147b", "bfa2f684bda12f68", "3fa1a7b9611a7b96",
)  # fmt: skip
TAN_15, SQRT3, PI_6, PI_2 = "3fd126145e9ecd56", "3ffbb67ae8584caa", "3fe0c152382d7366", "3ff921fb54442d18"
#: erf for |x| < ½: 2/√π·(−1)^k/(k!(2k + 1)), k = 0 … 11; beyond: Abramowitz–Stegun 7.1.26 in fp64: p, a₁ … a₅
ERF64 = (
    "3ff20dd750429b6d", "bfd812746b0379e7", "3fbce2f21a042be2", "bf9b82ce31288b51", "3f7565bcd0e6a53f",
    "bf4c02db40040b86", "3f1f9a326f9b89b7", "beef4d25c3e0c2eb", "3ebb9e6c9dc651a3", "be85f742ec43e71a",
    "3e4fcc5720624c1c", "be151d7181c5d36d",
)  # fmt: skip
ERF64_P = "3fd4f740a93d7b8c"
ERF64_A = ("3fd04f20c6ec5a7e", "bfd23531cc3c1469", "3ff6be1c55bae157", "bff7401c57014c39", "3ff0fb844255a12d")
#: 22·ln 2, the logarithm of the unit of softmax weights
LN_WEIGHT_UNIT = "402e7f9c1e980fa9"


def log2_ceil(count: int) -> int:
    """⌈log₂ count⌉ for count ≥ 1."""
    return (count - 1).bit_length()


def dot_bits(length: int, grid: str = "hi") -> tuple[int, int]:
    """(bits of the activation, bits of the weight) for an exact dot product of ``length`` terms."""
    if grid == "lo":
        return LO_BITS
    free = DOT_BITS - log2_ceil(length)
    a = min(GRID_BITS_MAX, free // 2)
    return a, min(GRID_BITS_MAX, free - a)


def sum_bits(length: int) -> int:
    """Bits at which a row of ``length`` is gridded for exact Σq and Σq² (norms)."""
    return min(GRID_BITS_MAX, (SUM_BITS - 2 * log2_ceil(length)) // 2)


def total_bits(length: int) -> int:
    """Bits at which a row of ``length`` is gridded for an exact fp64 Σq (reductions)."""
    return DOT_BITS - log2_ceil(length)


#: Longest row of a dot product (both sides keep at least 14 bits), of a norm, of a softmax, of a sum.
DOT_LENGTH_MAX = 1 << 24
#: 2³¹ ≥ K·128·128: int8 digit products of grid lo sum exactly in int32.
LO_LENGTH_MAX = (1 << 17) - 1
NORM_LENGTH_MAX = 1 << 16
SOFTMAX_LENGTH_MAX = 1 << (DOT_BITS - WEIGHT_BITS)
POOL_TOKENS_MAX = 1 << (DOT_BITS - GRID_BITS_MAX)
TOTAL_LENGTH_MAX = 1 << 24


def dot_length_max(grid: str) -> int:
    return LO_LENGTH_MAX if grid == "lo" else DOT_LENGTH_MAX


def f32_hex(value: float) -> str:
    """Bits of the float32 nearest to ``value``."""
    return struct.pack(">f", value).hex()


def f64_hex(value: float) -> str:
    """Bits of the float64 ``value``."""
    return struct.pack(">d", value).hex()


def attention_scale(head_dim: int) -> str:
    """head_dim^−½ · log₂e as one fp64 constant, rounded at each step: fp64(fp64(√fp64(1 ÷ head_dim)) · log₂e)."""
    return f64_hex(math.sqrt(1.0 / head_dim) * struct.unpack(">d", bytes.fromhex(LOG2E64))[0])
