"""What is planted is false for certain, is caught only when all of it is right, and accuses nobody."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from challenger.domain import (
    Action,
    Call,
    CommitmentId,
    Hash32,
    Intent,
    ModelId,
    PlantId,
    Verdict,
    VerdictKind,
    is_planted,
)
from challenger.errors import PlantedRefused
from challenger.pipeline.engine import ModelFacts
from challenger.pipeline.idle import Idle
from challenger.pipeline.observe import Question
from challenger.pipeline.planted import Change, Planted, changes, falsified, outcome_of
from challenger.protocols.base import Accusation
from challenger.store.selftests import Outcome
from replay.layout import bundle_root, encode_bundle

ZERO = Hash32(bytes(32))
FACTS = ModelFacts(ModelId(bytes(32)), "", ZERO, ZERO, ZERO, 1, "exact", b"", ZERO)


def question(number: float, **more: Any) -> Question:
    output = encode_bundle({"y": np.array([number], np.float32)})
    root, state = Hash32(bundle_root(output)), Hash32(bytes([int(number)]) * 32)
    return replace(Question(FACTS, b"", ZERO, b"in", "", 2, root, state, output, "", len(output), False), **more)


HONEST, OTHER = question(1), question(2)
URI = question(1, output=b"", output_uri="https://x/y")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("honest", [HONEST, URI])
@pytest.mark.parametrize("change", Change)
def test_every_change_is_a_fraud_on_the_same_task(change: Change, honest: Question, seed: int) -> None:
    asked = falsified(honest, change, OTHER, random.Random(seed))
    assert (asked.output_root, asked.state_root) != (honest.output_root, honest.state_root)
    assert (asked.input, asked.input_root, asked.facts, asked.seed) == (honest.input, ZERO, FACTS, b"")
    if change is Change.STATE:
        assert asked.output_root == honest.output_root
        assert (int.from_bytes(asked.state_root) ^ int.from_bytes(honest.state_root)).bit_count() == 1
    elif asked.output:
        assert bundle_root(asked.output) == asked.output_root != honest.output_root
        assert not asked.output_uri


def test_other_answers_are_planted_only_where_there_are_any() -> None:
    assert changes([], []) == [Change.OUTPUT, Change.STATE]
    assert changes([OTHER], [OTHER]) == list(Change)


def said(
    backend: str, kind: VerdictKind = VerdictKind.FRAUD, detail: str = "output", output: Hash32 | None = None
) -> Verdict:
    return Verdict(kind, detail, backend, output or HONEST.output_root, HONEST.state_root, {}, 0.0)


GOOD = said("torch"), said("numpy")
K = VerdictKind


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        (*GOOD, Outcome.CAUGHT),
        (said("torch", K.VALID, ""), None, Outcome.MISSED),
        (said("torch", detail="state"), GOOD[1], Outcome.MISSED),
        (said("torch", output=OTHER.output_root), said("numpy", output=OTHER.output_root), Outcome.MISSED),
        (GOOD[0], said("numpy", K.VALID, ""), Outcome.MISSED),
        (GOOD[0], said("torch-int8"), Outcome.MISSED),
        (said("torch", K.INCONCLUSIVE, "crashed"), None, Outcome.UNDECIDED),
        (said("torch", K.UNAVAILABLE, "weights"), None, Outcome.UNDECIDED),
        (GOOD[0], said("numpy", K.INCONCLUSIVE, "timeout"), Outcome.UNDECIDED),
        (GOOD[0], None, Outcome.UNDECIDED),
    ],
)
def test_only_a_fraud_confirmed_at_what_differs_is_caught(
    first: Verdict, second: Verdict | None, outcome: Outcome
) -> None:
    planted = Planted(PlantId(1), Change.OTHER_TASK, HONEST, OTHER)
    ended = outcome_of(planted, first, second)
    assert ended.outcome is outcome
    assert bool(ended.detail) is (outcome is not Outcome.CAUGHT)


@pytest.mark.parametrize("what", [PlantId(1), Planted(PlantId(1), Change.STATE, HONEST, OTHER), "planted/1"])
def test_no_accusation_can_be_made_of_it(what: Any) -> None:
    with pytest.raises(PlantedRefused):
        Accusation(what, ZERO, ZERO, ZERO)
    assert Accusation(CommitmentId(b"c"), ZERO, ZERO, ZERO).commitment == b"c"


def test_a_wish_about_it_is_known_by_its_name() -> None:
    wish = Intent("p", PlantId(7).subject, Action.CHALLENGE, Call("0x", b"", 0), 0)
    assert is_planted(wish)
    assert not is_planted(replace(wish, subject="0x" + bytes(32).hex()))


async def test_time_is_lent_only_while_nobody_needs_it() -> None:
    idle = Idle()

    async def work() -> int:
        return 3

    assert await idle.lend(work()) is None
    idle.rest()
    assert await idle.lend(work()) == 3
    await idle.take()
    assert await idle.lend(work()) is None
