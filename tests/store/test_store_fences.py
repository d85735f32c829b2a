"""Tokens and leases, on both databases and under their clocks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update

from challenger.domain import Action, Call, Intent, TxState
from challenger.errors import HeldElsewhere, LeaseExpired, RecordOlder, StoreError, TakenOver
from challenger.lease import DeathLock, Lease, leased
from challenger.store import Outbox, Store, open_store
from challenger.store.schema import fences, journal

from .chains import ME, T0, h

LONG = 1_000_000


class Signed:
    nonce, gas, max_fee, tip, hash, raw, signed_at = 3, 21_000, 2**90, 1, h("signed"), b"raw", T0


async def run_out(store: Store) -> None:
    """As after a long sleep of the holder."""
    async with store.begin(T0, guarded=False) as unit:
        await unit.connection.execute(update(fences).values(expires=1))


async def test_a_lease_is_free_to_nobody_before_it_runs_out(store: Store) -> None:
    async with store.begin(T0) as unit:
        assert await unit.fences.acquire("a", "first", LONG) == 1
        assert await unit.fences.acquire("a", "second", LONG) is None
        assert await unit.fences.acquire("b", "second", LONG) == 1
        row = await unit.fences.of("a")
        assert row is not None
        assert (row.holder, row.token) == ("first", 1)
        assert 0 < row.left <= LONG
    await run_out(store)
    async with store.begin(T0) as unit:
        assert await unit.fences.acquire("a", "second", LONG) == 2
        with pytest.raises(TakenOver, match="second"):
            await unit.fences.hold("a", 1)
        with pytest.raises(TakenOver):
            await unit.fences.renew("a", 1, LONG)
        await unit.fences.release("a", 1)
        await unit.fences.hold("a", 2)
        await unit.fences.release("a", 2)
        assert await unit.fences.acquire("a", "third", LONG) == 3


async def test_a_lease_that_ran_out_writes_nothing_until_it_is_renewed(store: Store) -> None:
    intent = Intent("p", "s", Action.SEAL, Call(ME, b"", 0), T0)
    outbox = await Outbox.claim(store, ME, "one", T0)
    row = await outbox.propose(intent, ME, T0)
    await run_out(store)
    for write in (
        lambda: outbox.propose(intent, ME, T0),
        lambda: outbox.signed(row.id, Signed()),
        lambda: outbox.unfinished(ME),
        lambda: outbox.closed(row.id, TxState.ABANDONED, "", T0),
    ):
        with pytest.raises(LeaseExpired):
            await write()
    async with store.begin(T0) as unit:
        await unit.fences.renew(ME, 1, LONG)
    assert (await outbox.signed(row.id, Signed())).nonce == 3


async def test_what_was_signed_before_a_takeover_is_the_successors_to_send(url: str) -> None:
    """Signed, paused before it was sent, taken over: the bytes are in the record, so the nonce has one payload."""
    async with open_store(url) as one, open_store(url) as two:
        old = await Outbox.claim(one, ME, "old", T0)
        row = await old.propose(Intent("p", "s", Action.SEAL, Call(ME, b"", 0), T0), ME, T0)
        await old.signed(row.id, Signed())
        await run_out(two)
        new = Lease(two, ME, "new", 15)
        assert await new.take() == ""
        with pytest.raises(TakenOver):
            await old.sent(row.id, 0, T0)
        outbox = Outbox(two, ME, new.token)
        (there,) = await outbox.unfinished(ME)
        assert [(a.raw, a.sent_at) for a in there.attempts] == [(b"raw", None)]
        assert await outbox.next_nonce(ME) == 4
        await new.release()


async def test_all_of_a_watchers_writes_are_under_its_lease(url: str) -> None:
    async with open_store(url) as one, open_store(url) as two:
        first, second = Lease(one, ME, "first", 15), Lease(two, ME, "second", 15)
        assert await first.take() == ""
        assert await second.take() == "first"
        with pytest.raises(HeldElsewhere, match="first"):
            await second.take_or_refuse()
        async with one.begin(T0) as unit:
            await unit.settings.put("k", "1")
        await run_out(two)
        with pytest.raises(LeaseExpired):
            async with one.begin(T0):
                pass
        if two.file is None:
            assert await second.take() == ""
        else:  # the lock says that the first one lives, and so only its time decides
            assert await second.take() == ""
        with pytest.raises(TakenOver):
            async with one.begin(T0):
                pass
        async with two.begin(T0) as unit:
            assert await unit.settings.get("k") == "1"
        with pytest.raises(TakenOver):
            await first.keep()
        await first.release()
        await second.release()


async def test_a_holder_that_is_paused_within_a_write_keeps_nobody_out_for_longer_than_a_lease(
    fresh_postgres: object,
) -> None:
    url = fresh_postgres()  # type: ignore[operator]
    async with open_store(url) as one, open_store(url) as two:
        first, second = Lease(one, ME, "first", 4), Lease(two, ME, "second", 4)
        assert await first.take() == ""
        with pytest.raises(StoreError):
            async with one.begin(T0) as unit:
                await unit.settings.put("k", "1")
                async with asyncio.timeout(30):  # a bound: nothing else here ends the pause of the first one
                    assert await second.wait(asyncio.Event())
        async with two.begin(T0) as unit:
            assert await unit.settings.get("k") is None
        with pytest.raises(TakenOver, match="second"):
            async with one.begin(T0):
                pass
        await second.release()


async def test_a_server_that_goes_on_from_an_older_copy_makes_its_watcher_start_anew(fresh_postgres: object) -> None:
    """As after a failover to a replica that lagged: the token is the same, and what was written last is gone."""
    url = fresh_postgres()  # type: ignore[operator]
    async with open_store(url) as store:
        lease = Lease(store, ME, "first", 3_600)
        assert await lease.take() == ""
        for value in ("1", "2", "3"):
            async with store.begin(T0) as unit:
                await unit.settings.put("k", value)
                await unit.journal.write(T0, "setting", "k", {"value": value})
        async with store.begin(T0, guarded=False) as unit:  # by nobody's knowledge but the server's
            last = (await unit.journal.tip()).seq
            await unit.connection.execute(delete(journal).where(journal.c.seq == last))
        with pytest.raises(RecordOlder, match=f"entry={last}"):
            async with store.begin(T0):
                pass
        async with open_store(url) as another, another.begin(T0) as unit:  # and others have written since
            await unit.journal.write(T0, "setting", "k", {"value": "4"})
        with pytest.raises(RecordOlder):
            async with store.begin(T0):
                pass


async def test_an_orderly_end_frees_the_lease_and_an_owner_that_died_the_lock(fresh_sqlite: object) -> None:
    url = fresh_sqlite()  # type: ignore[operator]
    async with open_store(url) as one, open_store(url) as two:
        first, second = Lease(one, ME, "first", 3_600), Lease(two, ME, "second", 3_600)
        assert await first.take() == ""
        assert await second.take() == "first"
        first.drop()  # what the kernel does for a process that was killed
        assert await second.take() == ""
        with pytest.raises(TakenOver):
            async with one.begin(T0):
                pass
        await second.release()
        assert await first.take() == ""
        await first.release()


async def test_who_cannot_write_its_lease_down_does_not_stand_in_the_next_ones_way(fresh_sqlite: object) -> None:
    """Found by a simulated world: a start on a full disk kept the lock, and no later one came up."""
    url = fresh_sqlite()  # type: ignore[operator]
    async with open_store(url) as one:
        killed = Lease(one, ME, "killed", 3_600)
        await killed.take()
        killed.drop()  # what the kernel does for a process that was killed
        async with one.begin(T0) as unit:
            await unit.connection.execute(
                text("CREATE TRIGGER full BEFORE UPDATE ON fences BEGIN SELECT RAISE(ABORT, 'full'); END")
            )
        with pytest.raises(StoreError, match="full"):
            async with leased(one, ME, 15, None):
                pass
        async with one.begin(T0) as unit:
            await unit.connection.execute(text("DROP TRIGGER full"))
        async with leased(one, ME, 15, None) as (lease, _):
            assert lease.token == 2


def test_the_lock_is_one_processes_at_a_time(tmp_path: Path) -> None:
    one, two = DeathLock(tmp_path / "l"), DeathLock(tmp_path / "l")
    assert one.take()
    assert one.take()
    assert not two.take()
    one.drop()
    assert two.take()
    two.drop()
    assert not DeathLock(tmp_path / "no" / "such").take()
