"""Rows on their grid: integers, with an exponent per row and an element that attests it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

from replay.kernels import spec
from replay.kernels.scalar.softfloat import F32, half_even

_BIAS = 126


class GridRow(NamedTuple):
    """A row on its grid. ``exponent``: the biased exponent e that the grid uses (27 … 226); ``witness``: the first place of
    the largest |x|, which attains e unless e is the floor of 27; ``integers``: q per element."""

    exponent: int
    witness: int
    integers: list[int]


def grid_exponent(row: Sequence[int]) -> tuple[int, int] | None:
    """(biased exponent of the grid, first place of the largest |x|) of a row; None if the row has no grid."""
    sizes = [x & F32.magnitude for x in row]
    top = max(sizes)
    exponent = top >> F32.fraction
    if exponent > spec.EXPONENT_MAX:
        return None
    return max(exponent, spec.EXPONENT_MIN), sizes.index(top)


def grid_row(row: Sequence[int], bits: int) -> GridRow | None:
    """The row on its grid of ``bits``: q = x / 2^(exponent − 126 − bits), half to even. None if it has none."""
    found = grid_exponent(row)
    if found is None:
        return None
    exponent, witness = found
    unit = unit_power(exponent, bits)
    integers = [half_even(m, e - unit) for m, e in map(F32.split, row)]
    return GridRow(exponent, witness, integers)


def unit_power(exponent: int, bits: int) -> int:
    """The unit of a grid is two to this power."""
    return exponent - _BIAS - bits


def dot(x: Sequence[int], y: Sequence[int]) -> int:
    """The exact dot product of two rows of integers."""
    return sum(map(operator.mul, x, y))
