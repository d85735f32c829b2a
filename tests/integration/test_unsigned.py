"""A bond that is wished for and not signed yet: what speaks against it by then keeps it back, and a signature that was begun."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager

import pytest

from challenger.chain.external import SignerUnavailable
from challenger.domain import Action, State, TxState
from challenger.service import approve as lift
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.store.keep import EVERYTHING
from tests.integration.test_watcher import scene


class Signer:
    """Our key, behind a door: shut for bonds while ``away``, and before a bond is signed ``first`` happens."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.address = inner.address
        self.away = True
        self.first = None
        self.bonds = 0

    async def sign_transaction(self, fields):
        if fields["value"]:
            if self.away:
                raise SignerUnavailable("it does not answer")
            self.bonds += 1
            if self.first is not None:
                await self.first()
        return await self.inner.sign_transaction(fields)


@asynccontextmanager
async def wished(tmp_path, kind):
    """A watcher whose one case has its bond wished for, and no signature."""
    few = {"tasks": 5, "round_size": 5}
    async with scene(tmp_path, seed=3, cheats=(kind,), **few) as s, s.watcher(correlated_providers=100) as app:
        signer = app._sender._signer = Signer(app._sender._signer)
        await s.world.play()
        for _ in range(40):
            await s.turn(app)
            if [state for state, _ in await bonds(app)] == [TxState.INTENT]:
                break
        assert await bonds(app) == [(TxState.INTENT, State.FILING)]
        yield s, app, signer


async def bonds(app):
    """(transaction, case) of everything that takes a bond."""
    async with app.store.read() as view:
        rows = await view.transactions.in_states(list(TxState))
        found = []
        for row in rows:
            if row.intent.action in (Action.CHALLENGE, Action.DEMAND):
                item = await view.work.item(bytes.fromhex(row.intent.subject[2:66]))
                found.append((row.state, item.work.state))
    return found


async def stop(app) -> None:
    """What `challenger pause` writes."""
    async with app.store.begin(app.clock.latest) as unit:
        await unit.approvals.pause("person", EVERYTHING, "ada stops it")


async def opened_by_us(s) -> Counter:
    """What was opened, by job."""
    return Counter(e.args["job"] for e in await s.events() if e.name in ("Challenged", "Demanded"))


@pytest.mark.parametrize(
    ("kind", "back"), [(Kind.NUDGE, State.CONFIRMED), (Kind.WITHHOLD, State.UNAVAILABLE)], ids=["challenge", "demand"]
)
async def test_a_pause_keeps_back_a_bond_that_is_not_signed_yet(tmp_path, kind, back):
    async with wished(tmp_path, kind) as (s, app, signer):
        await stop(app)
        signer.away = False
        for _ in range(4):
            await s.turn(app)
            assert await bonds(app) == [(TxState.ABANDONED, back)]
        assert signer.bonds == 0
        assert not await opened_by_us(s)
        assert await lift(app.store, app.clock.latest, EVERYTHING, "ada", "it was nothing")
        await s.until_quiet(app)
        assert await opened_by_us(s) == Counter(dict.fromkeys(s.jobs(Truth.WRONG) | s.jobs(Truth.WITHHELD), 1))


@pytest.mark.parametrize("kind", [Kind.NUDGE, Kind.WITHHOLD], ids=["challenge", "demand"])
async def test_a_pause_that_comes_while_it_is_being_signed_has_come_first(tmp_path, kind):
    """What the signer gives back then is not kept, and not sent."""
    async with wished(tmp_path, kind) as (s, app, signer):
        signer.away, signer.first = False, lambda: stop(app)
        for _ in range(4):
            await s.turn(app)
        assert signer.bonds == 1
        ((state, _),) = await bonds(app)
        assert state is TxState.ABANDONED
        async with app.store.read() as view:
            rows = await view.transactions.in_states([TxState.ABANDONED])
        assert [(row.attempts, row.error) for row in rows] == [((), "paused: ada stops it")]
        assert not await opened_by_us(s)
        signer.first = None
        assert await lift(app.store, app.clock.latest, EVERYTHING, "ada", "it was nothing")
        await s.until_quiet(app)
        assert await opened_by_us(s) == Counter(dict.fromkeys(s.jobs(Truth.WRONG) | s.jobs(Truth.WITHHELD), 1))
