"""Where two output bundles part: the first element whose bits differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.layout import Array, decode_bundle, tile_elements


@dataclass(frozen=True, slots=True)
class Difference:
    """``element`` counts flat within tensor ``name``, ``tile`` is its tile; ``mine`` and ``theirs`` are the bits there (hex,
    big-endian), empty where a side has no such element. ``note`` where it is not a matter of one element."""

    name: str
    element: int
    tile: int
    mine: str
    theirs: str
    note: str = ""


def first_difference(mine: bytes, theirs: bytes) -> Difference | None:
    """Of two canonical bundles; None when they are the same. Raises ``LayoutError`` for what is no bundle."""
    if mine == theirs:
        return None
    ours, others = decode_bundle(mine), decode_bundle(theirs)
    for name, array in ours.items():
        other = others.get(name)
        if other is None:
            return Difference(name, 0, 0, _bits(array, 0), "", "no tensor of this name")
        found = _between(name, array, other)
        if found is not None:
            return found
    return Difference(next(iter(others)), 0, 0, "", "", "the same tensors, and others or in another order")


def _between(name: str, mine: Array, theirs: Array) -> Difference | None:
    if mine.dtype != theirs.dtype or mine.ndim != theirs.ndim or mine.shape[1:] != theirs.shape[1:]:
        return Difference(name, 0, 0, _bits(mine, 0), _bits(theirs, 0), "another dtype or shape")
    one, other = _words(mine), _words(theirs)
    size = min(len(one), len(other))
    differing = np.flatnonzero(one[:size] != other[:size])
    if not len(differing) and len(one) == len(other):
        return None
    element = int(differing[0]) if len(differing) else size
    note = "" if len(one) == len(other) else f"{len(mine)} rows and {len(theirs)}"
    row, column = divmod(element, mine.shape[-1])
    width = tile_elements(mine.dtype)
    tile = row * -(-mine.shape[-1] // width) + column // width
    return Difference(name, element, tile, _bits(mine, element), _bits(theirs, element), note)


def _words(array: Array) -> Array:
    """The elements as unsigned integers: bits are compared, so that −0 is not +0."""
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


def _bits(array: Array, element: int) -> str:
    flat = array.reshape(-1)
    return flat[element].tobytes()[::-1].hex() if element < flat.size else ""
