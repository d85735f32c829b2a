"""Choosing the next token: integers only, so that one differing token is proof. Pure.

The program's logits become integer weights (operator ``sample_weights``); what follows is exact: keep the ``top_k``
heaviest, then the fewest of these that hold ``top_p`` of their weight, then draw with a number that a hash of seed and
step fixes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from replay.errors import InputRejected
from replay.kernels import spec
from replay.layout import Array

MILLION = 1_000_000
#: The tensor of an input bundle that asks for a generation.
NAME = "sampling"
TOKENS = "tokens"
_LOG2E_MILLION = struct.unpack(">d", bytes.fromhex(spec.SAMPLE_SCALE))[0]


@dataclass(frozen=True, slots=True)
class Sampling:
    """``max_tokens`` ≥ 1; ``temperature`` and ``top_p`` in millionths (temperature 0: greedy; top_p 1,000,000: all);
    ``top_k`` 0: all; ``end``: a token that ends the text (it is the last one), −1 for none."""

    max_tokens: int
    temperature: int = 0
    top_k: int = 0
    top_p: int = MILLION
    end: int = -1

    def __post_init__(self) -> None:
        _need(1 <= self.max_tokens <= 1 << 20, f"max_tokens is {self.max_tokens}, not 1 to {1 << 20}")
        _need(0 <= self.temperature <= 1000 * MILLION, "temperature is 0 to 1,000,000,000 millionths")
        _need(0 <= self.top_k < 2**31, "top_k is at least 0")
        _need(1 <= self.top_p <= MILLION, "top_p is 1 to 1,000,000 millionths")
        _need(-1 <= self.end < 2**31, "end is a token or -1")

    def tensor(self) -> Array:
        """int64 [5], as it stands in the input bundle."""
        return np.array([self.max_tokens, self.temperature, self.top_k, self.top_p, self.end], np.int64)

    @property
    def scale(self) -> str:
        """The constant log₂e ÷ temperature (1 where greedy), as hex fp64: one division of two doubles."""
        return spec.f64_hex(_LOG2E_MILLION / float(self.temperature or MILLION))


def read_sampling(tensor: Array) -> Sampling:
    """Raises ``InputRejected``."""
    if tensor.dtype != np.int64 or tensor.shape != (5,):
        raise InputRejected(f"{NAME} is {tensor.dtype}{list(tensor.shape)}, not int64[5]")
    return Sampling(*(int(value) for value in tensor))


def draw(seed: bytes, step: int) -> int:
    """The 64-bit number of a step: the first 8 bytes of SHA-256("draw/1" ‖ seed ‖ step u64 BE)."""
    return int.from_bytes(sha256(b"draw/1" + seed + struct.pack(">Q", step)).digest()[:8], "big")


def choose(weights: Array, sampling: Sampling, seed: bytes, step: int) -> int:
    """The token. ``weights``: int64 [V] ≥ 0, the heaviest 2³²; among equals the lowest token comes first.

    With temperature 0 the heaviest token, whatever the seed. All sums stay below 2⁶³ (V < 2³¹).
    """
    if sampling.temperature == 0:
        return int(np.argmax(weights))
    order = np.argsort(-weights, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    if sampling.top_p < MILLION:
        held = np.cumsum(weights[order])
        enough = -(-int(held[-1]) * sampling.top_p // MILLION)
        order = order[: int(np.searchsorted(held, enough)) + 1]
    kept = np.sort(order)
    ends = np.cumsum(weights[kept])
    at = draw(seed, step) * int(ends[-1]) >> 64
    return int(kept[np.searchsorted(ends, at, side="right")])


def _need(condition: bool, why: str) -> None:
    if not condition:
        raise InputRejected(why)
