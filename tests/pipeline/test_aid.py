"""Where others dispute, or only others may: a vote beside them, a word to them, and what is kept of either."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from challenger.domain import (
    Action,
    DisputeClosed,
    JobClosed,
    JobStatus,
    Mode,
    State,
    TxState,
    Wei,
)
from tests.pipeline.caps import (
    BOND,
    CHALLENGER,
    PROVIDERS,
    TIGHT,
    Caps,
    Signed,
    Staked,
    empty_database,
)
from tests.store.chains import dispute_opened, h


@pytest.fixture
def staked() -> Iterator[Staked]:
    """Others dispute already, so that what is left is a vote."""
    empty_database()
    made = Staked()
    made.start(tight="exposure")
    made.toy.refused, made.toy.aids = "somebody disputes it already", Action.VOTE
    yield made
    made.teardown()


def _aids(machine: Caps) -> list[Any]:
    rows = machine._run(machine._rows())
    return [row for row in rows if row.intent.action in (Action.VOTE, Action.SUGGEST)]


def _out(machine: Caps) -> tuple[int, int, int]:
    out = machine._run(machine.bonds.out(PROVIDERS[0], machine._now()))
    return out.everywhere, out.against, out.opened


def test_a_vote_is_cast_once_and_its_stake_counts_until_the_dispute_is_over(staked: Staked) -> None:
    staked.found(PROVIDERS[0], fraud=True, count=1)
    for _ in range(4):
        staked.look()
        staked.time()
    (row,) = _aids(staked)
    assert _out(staked) == (BOND, BOND, BOND)
    (commitment,) = staked.owner
    theirs = dispute_opened(staked.blocks[-1], commitment, 77, challenger=PROVIDERS[2], bond=BOND)
    staked._run(staked._grow(theirs))
    made = Signed(h("vote"), 0, staked._now())

    async def cast() -> None:
        async with staked.store.begin(staked._now()) as unit:
            await unit.transactions.signed(row.id, made)
            await unit.transactions.mined(row.id, made.hash, staked.blocks[-1].number, staked.blocks[-1].hash, 1)
            await unit.transactions.closed(row.id, TxState.FINAL, "")

    staked._run(cast())
    assert _out(staked) == (BOND, BOND, BOND)
    staked._run(staked._grow(DisputeClosed(theirs.at, 77, commitment, CHALLENGER, 0, 0)))
    assert _out(staked) == (0, 0, BOND), "the stake is back; that it was put in today stays"


def test_what_the_chain_has_decided_is_no_miss_however_late_it_is_looked_at(staked: Staked) -> None:
    """The job was decided against the provider, and its window closed, between two looks: others filed, nobody was late."""
    staked.found(PROVIDERS[0], fraud=True, count=1)
    staked.look()
    (commitment,) = staked.owner
    theirs = dispute_opened(staked.blocks[-1], commitment, 77, challenger=PROVIDERS[2], bond=BOND)
    staked._run(staked._grow(JobClosed(theirs.at, commitment, JobStatus.FRAUD)))
    staked.toy.closes = staked._now()
    staked.look()
    staked.pursue()

    async def state() -> str:
        async with staked.store.read() as view:
            item = await view.work.item(commitment)
        assert item is not None
        return item.work.state

    assert staked._run(state()) == State.FILED_BY_OTHER


def test_votes_fit_the_caps(staked: Staked) -> None:
    staked.found(PROVIDERS[0], fraud=True, count=3)
    staked.look()
    assert len(_aids(staked)) == TIGHT // BOND
    waiting = staked._run(_details(staked))
    assert sum("no vote: exposure" in why for why in waiting) == 1


@pytest.mark.parametrize(("how", "sent"), [({}, 1), ({"mode": Mode.CONFIRM}, 0), ({"correlated_providers": 1}, 0)])
def test_a_word_to_those_who_may_dispute_costs_no_bond(staked: Staked, how: dict[str, Any], sent: int) -> None:
    staked.toy.aids = Action.SUGGEST
    obstacles = staked.filer._obstacles
    obstacles._limits = staked.filer._limits = replace(staked.filer._limits, min_value=Wei(10**6), **how)
    staked.found(PROVIDERS[0], fraud=True, count=1)
    staked.look()
    assert [row.intent.action for row in _aids(staked)] == [Action.SUGGEST] * sent
    assert _out(staked)[0] == 0


def test_a_vote_that_is_not_signed_is_asked_about_again(staked: Staked) -> None:
    """Of a vote that still waits for its signature its own stake is nothing that speaks against it; other code is."""
    staked.found(PROVIDERS[0], fraud=True, count=TIGHT // BOND)
    for _ in range(3):
        staked.look()
        staked.time()
        assert [row.state for row in _aids(staked)] == [TxState.INTENT] * (TIGHT // BOND)
    staked.toy.as_pinned = False
    staked.look()
    assert {row.state for row in _aids(staked)} == {TxState.ABANDONED}
    staked.toy.as_pinned = True
    staked.time()
    staked.look()
    assert {row.state for row in _aids(staked)} == {TxState.INTENT}


def test_a_vote_that_is_not_signed_gives_way_to_a_dispute_of_our_own(staked: Staked) -> None:
    staked.found(PROVIDERS[0], fraud=True, count=1)
    staked.look()
    staked.toy.refused = ""
    staked.time()
    staked.look()
    assert [row.state for row in _aids(staked)] == [TxState.ABANDONED]
    assert _out(staked) == (BOND, BOND, BOND), "one stake"


async def _details(machine: Caps) -> list[str]:
    async with machine.store.read() as view:
        return [item.work.detail for item in await view.work.items([State.CONFIRMED], limit=100)]
