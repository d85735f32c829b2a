"""Tables for rotary position embeddings: the float32 nearest to cos(p·ω) and sin(p·ω), found with integers only.

They are weights of the artefact, so every machine must make the same bits: no libm, no NumPy function, not even a float.
A real number is an integer in units of 2^−bits; each step below says how far off it can be. A value that lies too close
to the middle of two floats to be decided is computed again with more bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from replay.errors import UnsupportedModel
from replay.layout import Array

#: Bits behind the point, tried in this order; the second is hardly ever needed.
PRECISIONS = (192, 384, 768)
#: More bits while frequencies are made. What a config gives is bounded, so that its steps lose fewer than these.
GUARD = 160
HEAD_DIM_MAX = 512
#: theta and factor are 1 to LARGEST, the edges of the bands SMALLEST to LARGEST, their tokens at most TOKENS_MAX.
SMALLEST, LARGEST, TOKENS_MAX = 2.0**-20, 2.0**50, 1 << 24


@dataclass(frozen=True, slots=True)
class Rotation:
    """Frequencies of a model: ω_i = theta^(−2i/head_dim), divided by ``factor``. With ``bands`` = (low, high, tokens)
    the division is Llama 3's: with r = tokens·ω/2π, the turns that the context trained on holds, ω stays if r > high,
    becomes ω/factor if r < low, and ω·((1 − s)/factor + s), s = (r − low)/(high − low), between."""

    theta: Fraction
    factor: Fraction = Fraction(1)
    bands: tuple[Fraction, Fraction, int] | None = None


@lru_cache(maxsize=2)
def _tables(
    rotation: Rotation, head_dim: int, positions: int, precisions: tuple[int, ...] = PRECISIONS
) -> tuple[Array, Array]:
    for bits in precisions:
        columns = [_column(omega, positions, bits) for omega in frequencies(rotation, head_dim, bits)]
        if all(columns):
            # [head_dim / 2, 2, positions] → two of [positions, head_dim / 2]
            cos, sin = np.array(columns, np.uint32).view(np.float32).transpose(1, 2, 0)
            return np.ascontiguousarray(cos), np.ascontiguousarray(sin)
    raise UnsupportedModel("an angle of the rotary embedding cannot be rounded", bits=precisions[-1])


def tables(rotation: Rotation, head_dim: int, positions: int) -> tuple[Array, Array]:
    """(cos, sin), float32 [positions, head_dim / 2], each value the correctly rounded one; the last tables are kept.

    Raises ``UnsupportedModel``.
    """
    cos, sin = _tables(rotation, head_dim, positions)
    return cos.copy(), sin.copy()


def frequencies(rotation: Rotation, head_dim: int, bits: int) -> list[int]:
    """ω_i for i < head_dim / 2, in units of 2^−bits, each less than 2 units off.

    Before the division a power of the ratio is at most 2i < 2⁹ finer units off; tokens, and an edge's distance of at least
    2⁻⁷² from the other, magnify that to less than 2¹¹⁰ of the 2¹⁶⁰ finer units in a unit.
    """
    fine = bits + GUARD
    half, one = head_dim // 2, 1 << fine
    ratio = _root(rotation.theta, half, fine)
    low, high, tokens = rotation.bands or (Fraction(0), Fraction(0), 0)
    turn = 2 * pi(fine)
    found, omega = [], one
    for _ in range(half):
        slow = _times(omega, 1 / rotation.factor)
        if rotation.bands is None:
            found.append(slow >> GUARD)
        else:
            turns = (tokens * omega << fine) // turn
            share = min(max(_times(turns - _times(one, low), 1 / (high - low)), 0), one)
            found.append(((one - share) * slow + share * omega) >> (fine + GUARD))
        omega = omega * ratio >> fine
    return found


def _times(value: int, by: Fraction) -> int:
    return value * by.numerator // by.denominator


def _root(theta: Fraction, degree: int, bits: int) -> int:
    """⌊theta^(−1/degree) · 2^bits⌋ for theta ≥ 1, bit by bit: the largest y with y^degree · theta ≤ 2^(bits·degree)."""
    most = (theta.denominator << bits * degree) // theta.numerator
    found = 0
    for place in range(bits, -1, -1):
        tried = found | 1 << place
        if tried**degree <= most:
            found = tried
    return found


def pi(bits: int) -> int:
    """π in units of 2^−bits, less than 2¹⁰ off: Machin's 16·atan(1/5) − 4·atan(1/239)."""

    def atan_of_inverse(n: int) -> int:
        power, total, k = (1 << bits) // n, 0, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power //= n * n
            k += 2
        return total

    return 16 * atan_of_inverse(5) - 4 * atan_of_inverse(239)


def _cos_sin(angle: int, bits: int) -> tuple[int, int]:
    """Of an angle in [0, 1], by their series; less than 2⁸ units off, the angle's own 2 units included."""
    parts, term, k = [0, 0, 0, 0], 1 << bits, 0
    while term:
        parts[k % 4] += term
        k += 1
        term = term * angle // (k << bits)
    return parts[0] - parts[2], parts[1] - parts[3]


def _column(omega: int, positions: int, bits: int) -> tuple[list[int], list[int]] | None:
    """cos(p·ω) and sin(p·ω) for p < positions as bits of float32, or None when one cannot be told.

    Each position turns the one before by ω: (c, s) → (c·c₁ − s·s₁, s·c₁ + c·s₁). A turn adds less than 2¹⁰ units of
    error: twice the 2⁸ of (c₁, s₁), and the two products' own rounding.
    """
    first_c, first_s = _cos_sin(omega, bits)
    error = positions << 10
    c, s = first_c, first_s
    cos, sin = [0x3F800000], [0]  # at position 0 the angle is 0: exactly 1 and 0
    for _ in range(1, positions):
        a, b = _nearest(c, error, bits), _nearest(s, error, bits)
        if a is None or b is None:
            return None
        cos.append(a)
        sin.append(b)
        c, s = (c * first_c - s * first_s) >> bits, (s * first_c + c * first_s) >> bits
    return cos, sin


def _nearest(value: int, error: int, bits: int) -> int | None:
    """Bits of the float32 nearest to every number within ``error`` of ``value``, or None where they have no one."""
    size = abs(value)
    shift = size.bit_length() - 24  # the last of 24 significant bits has the weight 2^shift
    if shift < 1 or shift - bits < -149:  # nothing to round, or a subnormal
        return None
    upper = size + (1 << shift - 1)
    rest = upper & (1 << shift) - 1
    if rest <= error or rest + error >= 1 << shift:
        return None
    # a significand that rounds up to 2²⁴ carries into the exponent
    return (0x80000000 if value < 0 else 0) + ((shift - bits + 149) << 23) + (upper >> shift)
