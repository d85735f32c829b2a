"""Forced errors: a known fraud made from an honest answer, and whether it was caught. Pure.

A ``Planted`` holds a question and no commitment. Nothing that accuses can be made of it: an ``Accusation`` and the name of
a transaction want a commitment's id, and mypy refuses a ``PlantId`` (see the end of this file). Should a type checker
be passed by, the accusation, the outbox and the sender refuse it each for itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from challenger.domain import Hash32, PlantId, Verdict, VerdictKind
from challenger.pipeline.judge import confirms
from challenger.pipeline.observe import Question
from challenger.protocols.base import Accusation
from challenger.store.selftests import Outcome
from challenger.store.subjects import subject_of
from replay.layout import LayoutError, bundle_root, decode_bundle, encode_bundle


class Change(StrEnum):
    """What was done to the honest answer: one bit of the output, or of the root over the inner states; or another honest
    answer in its place, of the same model to another task (a swapped input or seed) or of another model."""

    OUTPUT = "output"
    STATE = "state"
    OTHER_TASK = "other-task"
    OTHER_MODEL = "other-model"


@dataclass(frozen=True, slots=True)
class Planted:
    """``honest``: the question whose answer is VALID; ``asked``: the same with a false answer."""

    id: PlantId
    change: Change
    honest: Question
    asked: Question

    @property
    def differs(self) -> str:
        """What a verdict has to name."""
        return "output" if self.asked.output_root != self.honest.output_root else "state"


@dataclass(frozen=True, slots=True)
class Ended:
    outcome: Outcome
    detail: str


def changes(others: Sequence[Question], models: Sequence[Question]) -> list[Change]:
    """What can be done with what there is at hand."""
    more = [(Change.OTHER_TASK, others), (Change.OTHER_MODEL, models)]
    return [Change.OUTPUT, Change.STATE, *(change for change, there in more if there)]


def falsified(honest: Question, change: Change, other: Question | None, draw: random.Random) -> Question:
    """The question with an answer that is false for certain: at least one root differs from the honest one. What is shown
    of the output is on hand, not behind a URI."""
    if change is Change.STATE:
        return replace(honest, state_root=_flipped(honest.state_root, draw))
    if change is not Change.OUTPUT and other is not None and _differ(honest, other):
        return _answered(honest, other.output, other.output_root, other.state_root)
    output = _altered(honest.output, draw)
    root = Hash32(bundle_root(output)) if output else _flipped(honest.output_root, draw)
    if root == honest.output_root:
        output, root = b"", _flipped(root, draw)
    return _answered(honest, output, root, honest.state_root)


def outcome_of(planted: Planted, first: Verdict, second: Verdict | None) -> Ended:
    """Caught iff both replays say FRAUD, name what differs, and compute the honest roots on unrelated backends. A replay that
    came to no verdict is UNDECIDED: nothing is learnt of recall."""
    for verdict in (first, second):
        if verdict is None:
            return Ended(Outcome.UNDECIDED, "no confirmation")
        if verdict.kind in (VerdictKind.INCONCLUSIVE, VerdictKind.UNAVAILABLE):
            return Ended(Outcome.UNDECIDED, f"{verdict.backend} says {verdict.kind} {verdict.detail}".rstrip())
        if verdict.kind is VerdictKind.VALID:
            return Ended(Outcome.MISSED, f"{verdict.backend} says VALID")
        if verdict.detail != planted.differs:
            return Ended(Outcome.MISSED, f"{verdict.backend} names {verdict.detail}, {planted.differs} differs")
        if (verdict.output_root, verdict.state_root) != (planted.honest.output_root, planted.honest.state_root):
            return Ended(Outcome.MISSED, f"{verdict.backend} computes other roots than for the honest answer")
    assert second is not None
    against = confirms(first, second)
    return Ended(Outcome.MISSED, f"not confirmed: {against}") if against else Ended(Outcome.CAUGHT, "")


def _answered(honest: Question, output: bytes, output_root: Hash32, state_root: Hash32) -> Question:
    return replace(
        honest,
        output=output,
        output_root=output_root,
        state_root=state_root,
        output_uri="",
        output_length=len(output),
        posted=False,
    )


def _differ(one: Question, other: Question) -> bool:
    return (one.output_root, one.state_root) != (other.output_root, other.state_root)


def _flipped(root: Hash32, draw: random.Random) -> Hash32:
    return Hash32((int.from_bytes(root) ^ 1 << draw.randrange(256)).to_bytes(32))


def _altered(output: bytes, draw: random.Random) -> bytes:
    """The output's bundle with one bit of one tensor changed; empty when there is no bundle on hand."""
    try:
        tensors = decode_bundle(output)
    except LayoutError:
        return b""
    name = draw.choice(sorted(tensors))
    raw = bytearray(tensors[name].tobytes())
    raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    tensors[name] = np.frombuffer(bytes(raw), tensors[name].dtype).reshape(tensors[name].shape)
    return encode_bundle(tensors)


if TYPE_CHECKING:

    def _mypy_refuses(planted: Planted) -> None:
        """Should mypy stop refusing any of these, its complaint about an unused ignore fails the check."""
        roots = planted.asked.output_root, planted.asked.state_root
        Accusation(planted.id, *roots, Hash32(b""))  # type: ignore[arg-type]
        Accusation(planted, *roots, Hash32(b""))  # type: ignore[arg-type]
        subject_of(planted.id)  # type: ignore[arg-type]
