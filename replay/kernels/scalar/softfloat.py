"""IEEE 754 binary arithmetic as integer functions on bit patterns: fp32 and fp64, rounded to nearest, ties to even.

A finite number is ``m · 2^e`` with integers m and e. Sums and products of such pairs are exact integers, so that every
operation is: take apart, compute exactly, round once (``nearest``). Subnormal numbers and infinities count; every NaN is
the one quiet NaN ``nan``, because the canonical numerics never look at a NaN's payload.
"""

from __future__ import annotations


class Format:
    """A binary format of ``digits`` significant bits (the hidden one included) and ``exponent_bits``.

    ``lowest`` is the power of two of a subnormal number's last bit.
    """

    __slots__ = (
        "digits",
        "fraction",
        "fraction_mask",
        "hidden",
        "infinity",
        "lowest",
        "magnitude",
        "nan",
        "negative",
        "one",
    )

    def __init__(self, digits: int, exponent_bits: int) -> None:
        bias = (1 << (exponent_bits - 1)) - 1
        self.digits = digits
        self.fraction = digits - 1
        self.hidden = 1 << self.fraction
        self.fraction_mask = self.hidden - 1
        self.negative = 1 << (self.fraction + exponent_bits)
        self.magnitude = self.negative - 1
        self.infinity = ((1 << exponent_bits) - 1) << self.fraction
        self.nan = self.infinity | self.hidden >> 1
        self.lowest = 1 - bias - self.fraction
        self.one = bias << self.fraction

    # ---- bits and exact values ---------------------------------------------------------------------------------------

    def split(self, x: int) -> tuple[int, int]:
        """(m, e) with x = m·2^e, for a finite x. Both zeros give m = 0."""
        field = (x & self.magnitude) >> self.fraction
        m = x & self.fraction_mask
        if field:
            m |= self.hidden
            field -= 1
        return (-m if x & self.negative else m), field + self.lowest

    def nearest(self, m: int, e: int = 0) -> int:
        """The bits of m·2^e, rounded once; +0 for m = 0, an infinity beyond the largest number."""
        if m == 0:
            return 0
        sign = 0
        if m < 0:
            sign, m = self.negative, -m
        # drop so many bits that at most `digits` remain and none lies below the last subnormal bit
        drop = max(m.bit_length() - self.digits, self.lowest - e)
        if drop > 0:
            kept = m >> drop
            rest, half = m - (kept << drop), 1 << (drop - 1)
            m = kept + 1 if rest > half or (rest == half and kept & 1) else kept
        else:
            m <<= -drop
        # the hidden bit of m, and a carry out of it, add to the exponent field by themselves
        bits = ((e + drop - self.lowest) << self.fraction) + m
        return sign | min(bits, self.infinity)

    def finite(self, x: int) -> bool:
        return x & self.infinity != self.infinity

    def is_nan(self, x: int) -> bool:
        return x & self.magnitude > self.infinity

    def order(self, x: int) -> int:
        """An integer that compares as x does: both zeros are 0. Not for NaN."""
        return self.negative - x if x & self.negative else x

    # ---- arithmetic --------------------------------------------------------------------------------------------------

    def neg(self, x: int) -> int:
        return x ^ self.negative

    def add(self, x: int, y: int) -> int:
        if not (self.finite(x) and self.finite(y)):
            if self.is_nan(x) or self.is_nan(y) or (not self.finite(x) and not self.finite(y) and x != y):
                return self.nan
            return y if self.finite(x) else x
        m, e = self.split(x)
        n, f = self.split(y)
        # on the smaller exponent both are integers
        total, e = (m + (n << (f - e)), e) if e <= f else ((m << (e - f)) + n, f)
        if total == 0:
            return x & y & self.negative  # −0 only where both are; a sum that cancels is +0
        return self.nearest(total, e)

    def sub(self, x: int, y: int) -> int:
        return self.add(x, y ^ self.negative)

    def mul(self, x: int, y: int) -> int:
        sign = (x ^ y) & self.negative
        if not (self.finite(x) and self.finite(y)):
            undefined = self.is_nan(x) or self.is_nan(y) or x & self.magnitude == 0 or y & self.magnitude == 0
            return self.nan if undefined else sign | self.infinity
        m, e = self.split(x)
        n, f = self.split(y)
        return self.nearest(m * n, e + f) | sign

    def div(self, x: int, y: int) -> int:
        sign = (x ^ y) & self.negative
        if not (self.finite(x) and self.finite(y)):
            undefined = self.is_nan(x) or self.is_nan(y) or not (self.finite(x) or self.finite(y))
            return self.nan if undefined else sign | (0 if self.finite(x) else self.infinity)
        m, e = self.split(x & self.magnitude)
        n, f = self.split(y & self.magnitude)
        if n == 0:
            return self.nan if m == 0 else sign | self.infinity
        # two bits more than are kept, then one that says whether anything is left: enough to round as the true quotient
        shift = max(self.digits + 2 + n.bit_length() - m.bit_length(), 0)
        quotient, rest = divmod(m << shift, n)
        return self.nearest(quotient << 1 | (rest != 0), e - f - shift - 1) | sign

    # ---- whole numbers -----------------------------------------------------------------------------------------------

    def whole(self, x: int) -> int:
        """The integer nearest to a finite x, half to even."""
        return half_even(*self.split(x))

    def floor(self, x: int) -> int:
        """The largest integer ≤ x, x finite."""
        m, e = self.split(x)
        return m << e if e >= 0 else m >> -e

    def truncate(self, x: int) -> int:
        """The integer part of a finite x."""
        return self.floor(x) if not x & self.negative else -self.floor(x ^ self.negative)

    def scale(self, x: int, power: int) -> int:
        """x·2^power for a finite x, rounded where it becomes subnormal."""
        m, e = self.split(x)
        return self.nearest(m, e + power) | x & self.negative


def half_even(m: int, e: int) -> int:
    """m·2^e rounded half to even to an integer."""
    if e >= 0:
        return m << e
    kept = m >> -e
    rest, half = m - (kept << -e), 1 << (-e - 1)
    return kept + 1 if rest > half or (rest == half and kept & 1) else kept


F32, F64 = Format(24, 8), Format(53, 11)


def widen(x: int) -> int:
    """The fp64 bits of an fp32 value: exact."""
    sign = (x & F32.negative) << 32
    if not F32.finite(x):
        return F64.nan if F32.is_nan(x) else sign | F64.infinity
    return F64.nearest(*F32.split(x)) | sign


def narrow(x: int) -> int:
    """The fp32 value nearest to an fp64 value."""
    sign = (x & F64.negative) >> 32
    if not F64.finite(x):
        return F32.nan if F64.is_nan(x) else sign | F32.infinity
    return F32.nearest(*F64.split(x)) | sign
