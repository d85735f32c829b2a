"""Answers that are almost right: what a watcher that compares numbers, texts or files would take for the same, or would
take for another although it is the same. The protocol knows roots only: a commitment is wrong iff a root differs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from challenger.sim.strategies import Answer, Honest, Order
from challenger.sim.workshop import Workbench
from replay.layout import Array, bundle_root, decode_bundle, encode_bundle

Spoil = Callable[[Array], Array]


class Bait:
    """Computes honestly, then hands in another output, by what ``spoil`` makes of the tensor. The state root fits it."""

    def __init__(self, spoil: Spoil, name: str | None = None) -> None:
        self._spoil = spoil
        self._name = name

    async def answer(self, order: Order, workshop: Workbench) -> Answer:
        honest = await Honest().answer(order, workshop)
        ((name, tensor),) = decode_bundle(honest.output).items()
        output = encode_bundle({self._name or name: self._spoil(tensor.copy())})
        return Answer(output, (*honest.leaves[:-1], bundle_root(output)))


class OtherState:
    """The right output, and a state root over an inner tensor that never was: to be right about the end is not enough."""

    async def answer(self, order: Order, workshop: Workbench) -> Answer:
        honest = await Honest().answer(order, workshop)
        first, inner, last = honest.leaves
        return Answer(honest.output, (first, bytes([inner[0] ^ 1]) + inner[1:], last))


def last_bit(tensor: Array) -> Array:
    bits = tensor.view(np.uint32)
    bits.flat[0] ^= 1
    return tensor


def minus_zero(tensor: Array) -> Array:
    """−0 for the first 0 there is; equal as numbers."""
    zeros = np.flatnonzero(tensor == 0)
    tensor.flat[zeros[0]] = np.float32(-0.0)
    return tensor


def nan(payload: int) -> Spoil:
    """A quiet NaN in the first place, with this payload (of 22 bits)."""

    def spoil(tensor: Array) -> Array:
        tensor.view(np.uint32).flat[0] = 0x7FC00000 | payload
        return tensor

    return spoil


def as_integers(tensor: Array) -> Array:
    return tensor.astype(np.int32)


def reshaped(tensor: Array) -> Array:
    return tensor.reshape(-1)


def unspoilt(tensor: Array) -> Array:
    return tensor
