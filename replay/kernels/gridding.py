"""Weights on their grid, as the artefact root hashes them: integers, independent of any backend."""

from __future__ import annotations

import numpy as np

from replay.kernels import spec
from replay.layout import Array


def grid_rows(weight: Array, bits: int) -> tuple[Array, Array]:
    """(q int32 [N, K], e int32 [N]) of a float32 weight [N, K] with |w| < 2¹⁰⁰: row n is q·2^e within half a unit.

    Rounds half to even. Works on the fp32 bits with integer shifts only, so that no floating-point mode matters.
    """
    raw = np.ascontiguousarray(weight).view(np.int32)
    magnitude = raw & 0x7FFFFFFF
    top = np.maximum(magnitude.max(axis=1) >> 23, spec.EXPONENT_MIN)
    exponent = magnitude >> 23
    mantissa = np.where(exponent > 0, (magnitude & 0x7FFFFF) | 0x800000, magnitude & 0x7FFFFF)
    shift = np.minimum((top + (24 - bits))[:, None] - np.maximum(exponent, 1), 30)
    half = (np.int32(1) << (shift - 1)) - 1
    q = (mantissa + half + ((mantissa >> shift) & 1)) >> shift
    return np.where(raw < 0, -q, q).astype(np.int32), (top - (126 + bits)).astype(np.int32)
