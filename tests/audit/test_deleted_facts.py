"""What the chain said and the journal told, deleted from the record: found out, whatever else was made to fit."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from challenger.app import App
from challenger.audit.finding import Finding
from challenger.audit.onchain import audit_chain
from challenger.audit.rows import audit_rows
from challenger.domain import ModelDisabled, State
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.store import Store, codec, open_store, schema
from challenger.store.migrate import upgrade
from tests.integration.test_watcher import Scene, scene
from tests.store.chains import T0, at, block, chain, committed, dispute_opened

LOST = "the journal tells of it, and the event is not there"


async def looked(s: Scene, app: App) -> tuple[list[Finding], list[Finding]]:
    """What the two verifies find: by the record alone, and on the chain besides."""
    async with app.store.read() as view:
        return await audit_rows(view), (
            await audit_chain(view, s.devnet.rpc, app.adapter, s.settings.chain.start_block)
        )[0]


def lines(found: list[Finding]) -> list[str]:
    return [f"{one.table}: {one.about}: {one.what}" for one in found]


async def test_a_dispute_deleted_with_all_that_came_of_it_is_found_whatever_the_cursor_says(tmp_path: Any) -> None:
    events, disputes, commitments = schema.events, schema.disputes, schema.commitments
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s, s.watcher(correlated_providers=100) as app:
        await s.world.play()
        await s.until_quiet(app)
        assert (await s.states(app))[State.WITHDRAWN] == len(s.jobs(Truth.WRONG)) > 0
        assert await looked(s, app) == ([], [])
        async with app.store.begin(0) as unit:  # type: ignore[arg-type]
            kinds = ("DisputeOpened", "DisputeClosed", "JobClosed", "WindowExtended")
            rows = (await unit.connection.execute(select(events).where(events.c.kind.in_(kinds)))).all()
            for kind in kinds:
                await unit.connection.execute(delete(events).where(events.c.kind == kind))
            await unit.connection.execute(delete(disputes))
            clean = {"status": "committed", "closed_block": None}
            await unit.connection.execute(update(commitments).values(**clean))
        alone, asked = await looked(s, app)
        places = {(row.block, row.log_index) for row in rows}
        assert set(lines(alone)) == {f"events: block {number}, log {log}: {LOST}" for number, log in places}
        assert {one.about for one in asked} == {one.about for one in alone}
        low = min(row.block for row in rows) - 1
        async with app.store.begin(0) as unit:  # type: ignore[arg-type]
            await unit.connection.execute(update(schema.cursors).values(block=low))
        alone, asked = await looked(s, app)
        last = max(row.block for row in rows)
        told = f"it stands at block {low}, and the journal tells of block {last}"
        assert told in [one.what for one in alone if one.table == "cursors"]
        assert len(alone) == len(rows) + 1


async def test_an_event_made_up_where_the_audit_did_not_look_is_told(tmp_path: Any) -> None:
    async with scene(tmp_path, seed=3, tasks=4, round_size=4, cheating=0) as s, s.watcher() as app:
        await s.world.play()
        await s.until_quiet(app)
        start, cursor = s.settings.chain.start_block, await app.store.index().cursor()
        assert start > 0
        assert cursor is not None
        async with app.store.begin(0) as unit:  # type: ignore[arg-type]
            model = (await unit.chain.models())[0].model
            for number in (start - 1, cursor.block + 1):
                (row,) = codec.encode([ModelDisabled(at(block(number)), model)])
                names = codec.EventRow._fields
                await unit.connection.execute(insert(schema.events).values(**dict(zip(names, row, strict=True))))
            await unit.connection.execute(
                update(schema.models).values(disabled=True).where(schema.models.c.model == model)
            )
        alone, asked = await looked(s, app)
        outside = f"ModelDisabled lies outside the blocks that the record has read, {start} to {cursor.block}"
        assert [one.what for one in asked] == [outside, outside]
        assert lines(alone) == [
            f"events: block {cursor.block + 1}, log 0: it lies above the cursor, which stands at block {cursor.block}"
        ]


@pytest.fixture
async def store(tmp_path: Any) -> Any:
    url = f"sqlite:///{tmp_path / 'record.sqlite'}"
    await upgrade(url)
    async with open_store(url) as opened:
        yield opened


async def test_what_a_reorganisation_undid_is_not_missed_and_what_came_after_it_is(store: Store) -> None:
    index, blocks = store.index(), chain(1, 10)
    event = committed(blocks[4])
    cursor = await index.apply(blocks, [event, dispute_opened(blocks[8], event.commitment)], None)
    cursor = await index.rewind(7, cursor)
    async with store.read() as view:
        assert await audit_rows(view) == []
    other = chain(8, 9, blocks[6], fork="b")
    cursor = await index.apply(other, [dispute_opened(other[0], event.commitment, 2)], cursor)
    cursor = await index.rewind(8, cursor)  # again, and above the second dispute
    async with store.read() as view:
        assert await audit_rows(view) == []
    async with store.begin(T0) as unit:
        await unit.connection.execute(delete(schema.disputes))
        await unit.connection.execute(delete(schema.events).where(schema.events.c.kind == "DisputeOpened"))
    async with store.read() as view:
        assert lines(await audit_rows(view)) == [f"events: block 8, log 0: {LOST}"]


async def test_an_event_that_takes_the_place_of_one_that_the_journal_told_is_found(store: Store) -> None:
    index, blocks = store.index(), chain(1, 10)
    event = committed(blocks[4])
    await index.apply(blocks, [event, dispute_opened(blocks[8], event.commitment)], None)
    (row,) = codec.encode([ModelDisabled(at(blocks[8]), event.model)])
    async with store.begin(T0) as unit:
        await unit.connection.execute(delete(schema.disputes))
        where = schema.events.c.kind == "DisputeOpened"
        other = {"kind": row[2], "subject": row[3], "payload": row[6]}
        await unit.connection.execute(update(schema.events).where(where).values(**other))
    async with store.read() as view:
        assert f"events: block 9, log 0: {LOST}" in lines(await audit_rows(view))


async def test_a_record_without_a_cursor_has_read_nothing(store: Store) -> None:
    blocks = chain(1, 10)
    await store.index().apply(blocks, [committed(blocks[4])], None)
    async with store.begin(T0) as unit:
        await unit.connection.execute(delete(schema.cursors))
    async with store.read() as view:
        assert [one.table for one in await audit_rows(view)] == ["cursors", "events"]
