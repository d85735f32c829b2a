"""A model whose linear weights stand only where a backend computes with them: nothing is held twice.

A number on its grid is a float32 again, and the grid of such floats is the same grid; so that roots, tiles, the scalar
reference and other backends find in them what they found in the file's own floats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from replay.layout import Array
from replay.model import Model
from replay.program import Program


class Holder(Protocol):
    """Whoever has the weights on their grid."""

    def gridded(self, name: str) -> tuple[Array, Array]:
        """(q int32 [N, K], e int32 [N]) of a linear weight: row n is q·2^e."""


@dataclass(frozen=True)
class HeldModel(Model):
    """A model that was checked when it was whole."""

    def __post_init__(self) -> None:
        """Reading every weight again would take as long as loading it."""


class HeldWeights(Mapping[str, Array]):
    """``raw`` as they are; a linear weight as floats on its grid, made anew each time somebody asks."""

    def __init__(self, program: Program, raw: Mapping[str, Array], holder: Holder) -> None:
        self._program, self._raw, self._holder = program, raw, holder

    def __getitem__(self, name: str) -> Array:
        if name in self._raw:
            return self._raw[name]
        return floats(*self._holder.gridded(name), self._program.grid_bits[name])

    def __iter__(self) -> Iterator[str]:
        return (weight.name for weight in self._program.weights)

    def __len__(self) -> int:
        return len(self._program.weights)


def held(model: Model, raw: Mapping[str, Array], holder: Holder) -> Model:
    """The same model: ``raw`` are its other weights, its linear ones are ``holder``'s."""
    return HeldModel(model.program, HeldWeights(model.program, raw, holder))


def alone(array: Array) -> Array:
    """The array in memory of its own that can be written: a view would keep alive the whole file that it lies in."""
    base = array.base
    whole = base is None or (isinstance(base, np.ndarray) and base.base is None and base.nbytes == array.nbytes)
    return array if whole and array.flags.c_contiguous and array.flags.writeable else array.copy()


def floats(q: Array, e: Array, bits: int) -> Array:
    """float32 [N, K] whose grid of ``bits`` is (q, e), as ``gridding.grid_rows`` gives it: q·2^e, and the float just below
    where |q| = 2^bits, which is what rounded up to a power of two and would else have a grid twice as coarse."""
    x = q.astype(np.float32)
    x *= ((e + 127) << 23).view(np.float32)[:, None]
    over = np.abs(q) == 1 << bits
    x[over] = np.nextafter(x[over], np.float32(0))
    return x
