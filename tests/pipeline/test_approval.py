"""A person's word in mode confirm: it holds until what it let go ahead is signed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from challenger.domain import Action, Mode, State, TxState
from challenger.pipeline.approval import decide, terms_of
from tests.pipeline.caps import PROVIDERS, Caps, empty_database


@pytest.fixture
def machine() -> Iterator[Caps]:
    """In mode confirm, with one confirmed fraud."""
    empty_database()
    made = Caps()
    made.start(tight="exposure")
    obstacles = made.filer._obstacles
    obstacles._limits = made.filer._limits = replace(made.filer._limits, mode=Mode.CONFIRM)
    made.found(PROVIDERS[0], fraud=True, count=1)
    yield made
    made.teardown()


async def _item(machine: Caps) -> Any:
    (commitment,) = machine.owner
    async with machine.store.read() as view:
        return await view.work.item(commitment)


def say(machine: Caps, *, approved: bool) -> None:
    async def write() -> None:
        item = await _item(machine)
        async with machine.store.begin(machine._now()) as unit:
            terms = await terms_of(unit, machine.toy, item)
            await decide(unit, item, terms, approved=approved, person="ada", note="")

    machine._run(write())


def challenges(machine: Caps) -> list[TxState]:
    return [row.state for row in machine._run(machine._rows()) if row.intent.action is Action.CHALLENGE]


def test_a_word_taken_back_before_the_signature_keeps_the_bond_back(machine: Caps) -> None:
    machine.look()
    assert machine._waiting() == []
    say(machine, approved=True)
    machine.look()
    (seal,) = machine._waiting()
    machine._run(machine._mine(seal, whole=True))
    machine.look()
    assert challenges(machine) == [TxState.INTENT]
    say(machine, approved=False)
    machine.look()
    assert challenges(machine) == [TxState.ABANDONED]
    work = machine._run(_item(machine)).work
    assert (work.state, work.detail) == (State.CONFIRMED, "approval: refused by ada")
    say(machine, approved=True)
    for _ in range(2):
        machine.time()
        machine.look()
    assert challenges(machine) == [TxState.INTENT]
