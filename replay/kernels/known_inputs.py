"""What known-answer programs are made of: a case, and its numbers from a SHA-256 counter stream, so that no random number
generator stands between two machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from replay.importers.build import Builder
from replay.kernels import spec
from replay.layout import Array


@dataclass(frozen=True, slots=True)
class Case:
    """``x``: the input of that name; ``build``: adds operators and returns the output's value; ``more``: further inputs.
    ``pieces``: the tokens T of ``x`` are read so many at a time, by one decoder that keeps what it has read."""

    name: str
    x: Array
    build: Callable[[Builder], str]
    more: Mapping[str, Array] = field(default_factory=dict)
    grid: str = spec.GRIDS[0]
    pieces: tuple[int, ...] = ()

    @property
    def inputs(self) -> dict[str, Array]:
        return {"x": self.x, **self.more}


def words(label: str, *shape: int) -> Array:
    """uint32 numbers of this shape from the SHA-256 counter stream of ``label``."""
    count = int(np.prod(shape))
    blocks = [sha256(f"known/1/{label}/{block}".encode()).digest() for block in range(-(-count // 8))]
    return np.frombuffer(b"".join(blocks), "<u4")[:count].reshape(shape)


def floats(label: str, *shape: int, low: int, high: int) -> Array:
    """float32 of both signs, biased exponents uniform in [low, high], mantissas uniform."""
    raw = words(label, *shape)
    exponent = low + (words(f"{label}/exponent", *shape) >> np.uint32(8)) % np.uint32(high - low + 1)
    bits = (raw & np.uint32(0x807FFFFF)) | (exponent.astype(np.uint32) << np.uint32(23))
    return bits.astype(np.uint32).view(np.float32)


def special() -> Array:
    """Every awkward finite float32: zeros of both signs, subnormals, powers of two, limits, halves."""
    bits = [0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0x7F7FFFFF, 0x71800000, 0x717FFFFF]
    bits += [exponent << 23 | mantissa for exponent in range(100, 140) for mantissa in (0, 1, 0x400000, 0x7FFFFF)]
    both = np.array([*bits, *(value | 0x80000000 for value in bits)], np.uint32)
    return both.view(np.float32).reshape(-1, 2)
