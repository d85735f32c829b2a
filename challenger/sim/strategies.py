"""How providers come to their answers: honestly, and the six ways to cheat. One small class for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from challenger.sim.scenario import Kind
from challenger.sim.workshop import Variant, Workbench
from replay.layout import Array, bundle_root, decode_bundle, encode_bundle, merkle_path, merkle_root
from replay.sandbox import Receipt


@dataclass(frozen=True, slots=True)
class Order:
    """A task as its provider sees it. ``data``: the input bundle; ``seed``: of the task; ``borrowed``: another task's input
    and seed, for the copying cheat."""

    model: str
    data: bytes
    seed: bytes = b""
    borrowed: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider commits to. ``leaves`` are the state root's; ``served``: whether the output can be had."""

    output: bytes
    leaves: tuple[bytes, ...]
    served: bool = True

    @property
    def output_root(self) -> bytes:
        return self.leaves[-1]

    @property
    def state_root(self) -> bytes:
        return merkle_root(self.leaves)

    @property
    def first_path(self) -> tuple[bytes, ...]:
        return merkle_path(self.leaves, 0)

    @property
    def last_path(self) -> tuple[bytes, ...]:
        return merkle_path(self.leaves, len(self.leaves) - 1)

    def same_roots(self, other: Answer) -> bool:
        return (self.output_root, self.state_root) == (other.output_root, other.state_root)


class Strategy(Protocol):
    async def answer(self, order: Order, workshop: Workbench) -> Answer: ...


class Honest:
    """Runs the registered model on the task's input and commits to what came out."""

    async def answer(self, order: Order, workshop: Workbench) -> Answer:
        return _plain(await workshop.run(order.model, order.data, seed=order.seed))


class Substituted:
    """Runs another model in the registered one's place: cheaper (int8 weights) or out of date."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant

    async def answer(self, order: Order, workshop: Workbench) -> Answer:
        return _plain(await workshop.run(order.model, order.data, self._variant, order.seed))


class Nudged:
    """Runs the right model, then flips the lowest bit of one element of the output: the smallest lie there is."""

    async def answer(self, order: Order, workshop: Workbench) -> Answer:
        honest = await workshop.run(order.model, order.data, seed=order.seed)
        output = nudge(honest.output)
        return Answer(output, (*honest.leaves[:-1], bundle_root(output)))


class Truncated:
    """Feeds the model half of the input. The state root begins with the task's own input root, as the contract asks."""

    async def answer(self, order: Order, workshop: Workbench) -> Answer:
        half = await workshop.run(order.model, truncate(order.data), seed=order.seed)
        return Answer(half.output, (bundle_root(order.data), *half.leaves[1:]))


class Copied:
    """Runs nothing: hands in what is already known of another task."""

    async def answer(self, order: Order, workshop: Workbench) -> Answer:
        assert order.borrowed is not None
        data, seed = order.borrowed
        other = await workshop.run(order.model, data, seed=seed)
        return Answer(other.output, (bundle_root(order.data), *other.leaves[1:]))


class Withheld:
    """Computes honestly and then does not let the output be seen."""

    async def answer(self, order: Order, workshop: Workbench) -> Answer:
        return replace(_plain(await workshop.run(order.model, order.data, seed=order.seed)), served=False)


STRATEGIES: dict[Kind, Strategy] = {
    Kind.HONEST: Honest(),
    Kind.INT8: Substituted(Variant.INT8),
    Kind.OLDER: Substituted(Variant.OLDER),
    Kind.NUDGE: Nudged(),
    Kind.TRUNCATE: Truncated(),
    Kind.COPY: Copied(),
    Kind.WITHHOLD: Withheld(),
}


def nudge(bundle: bytes) -> bytes:
    """``bundle`` with the lowest bit flipped of the largest element (by magnitude) of its first float32 tensor."""
    tensors = decode_bundle(bundle)
    measured = [name for name, array in tensors.items() if array.dtype == np.float32]
    name = (measured or list(tensors))[0]
    array = tensors[name]
    bits = array.reshape(-1).view(np.int32).copy()
    bits[np.argmax(np.abs(array.reshape(-1).astype(np.float64)))] ^= 1
    return encode_bundle(tensors | {name: bits.view(array.dtype).reshape(array.shape)})


def truncate(bundle: bytes) -> bytes:
    """Half of an input: tokens (int32) are cut off at the end, measurements (float32) read zero from the middle on."""
    return encode_bundle({name: _half(array) for name, array in decode_bundle(bundle).items()})


def _half(array: Array) -> Array:
    if array.dtype == np.int32:
        return array[..., : -(-array.shape[-1] // 2)]
    if array.dtype != np.float32:  # how a text is to be drawn
        return array
    flat = array.reshape(-1).copy()
    flat[flat.size // 2 :] = 0
    return flat.reshape(array.shape)


def _plain(receipt: Receipt) -> Answer:
    return Answer(receipt.output, receipt.leaves)
