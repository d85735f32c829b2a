"""The index equals a clean one after any history of blocks, batches and reorgs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from challenger.domain import Cursor, DemandClosed, DemandOutcome, JobClosed, JobStatus, ModelDisabled, WindowExtended
from challenger.errors import CursorMoved, LedgerExhausted, StoreError
from challenger.store import Store, heads, open_store

from .chains import Forking, at, block, chain, committed, demand_opened, dispute_opened, dump, follow, h


async def _reorgs_equal_a_clean_index(fresh: Callable[[], str], seed: int, moves: list[int]) -> None:
    rng = random.Random(seed)
    source = Forking(rng)
    source.grow(6)
    async with open_store(fresh()) as live, open_store(fresh()) as clean:
        await follow(live, source, rng)
        for move in moves:
            if move > 0:
                source.grow(move)
            else:
                source.reorganise(-move)
            await follow(live, source, rng)
        await follow(clean, source, random.Random(0))
        assert await dump(live) == await dump(clean)
        assert (await heads.verify(live)).broken is None


_MOVES = st.lists(st.integers(-9, 6).filter(bool), max_size=8)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), moves=_MOVES)
async def test_any_history_of_reorgs_equals_a_clean_index(
    fresh_sqlite: Callable[[], str], seed: int, moves: list[int]
) -> None:
    await _reorgs_equal_a_clean_index(fresh_sqlite, seed, moves)


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32), moves=_MOVES)
async def test_any_history_of_reorgs_equals_a_clean_index_on_postgresql(
    fresh_postgres: Callable[[], str], seed: int, moves: list[int]
) -> None:
    await _reorgs_equal_a_clean_index(fresh_postgres, seed, moves)


async def test_the_cursor_moves_by_compare_and_set(store: Store) -> None:
    index = store.index()
    assert await index.cursor() is None
    blocks = chain(10, 15)
    first = await index.apply(blocks[:3], [], None)
    assert first == Cursor(12, blocks[2].hash, 1) == await index.cursor()
    with pytest.raises(CursorMoved):
        await index.apply(blocks[:3], [], None)
    second = await index.apply(blocks[3:5], [committed(blocks[3])], first)
    with pytest.raises(CursorMoved):
        await index.apply(blocks[3:5], [committed(blocks[3])], first)
    with pytest.raises(CursorMoved):
        await index.rewind(11, first)
    back = await index.rewind(12, second)
    # where it was before, yet not the same: a stale reader must notice
    assert (back.block, back.hash) == (first.block, first.hash)
    with pytest.raises(CursorMoved):
        await index.apply(blocks[3:4], [], first)
    assert await index.block_hash(13) is None
    assert await index.block_hash(12) == blocks[2].hash


async def test_two_followers_race_and_one_wins(url: str) -> None:
    blocks = chain(1, 4)
    async with open_store(url) as one, open_store(url) as two:
        cursor = await one.index().apply(blocks[:2], [], None)
        tries = [who.index().apply(blocks[2:], [committed(blocks[3])], cursor) for who in (one, two)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Cursor", "CursorMoved"]
        async with one.read() as view:
            assert len(await view.chain.commitments()) == 1


async def test_a_reorg_below_the_ledger_is_refused(store: Store) -> None:
    index = store.index()
    cursor = await index.apply(chain(10, 12), [], None)
    with pytest.raises(LedgerExhausted):
        await index.rewind(9, cursor)
    assert await index.cursor() == cursor


async def test_gaps_are_fine_and_a_rewind_goes_to_the_highest_block_left(store: Store) -> None:
    index = store.index()
    sparse = [block(number) for number in (10, 20, 30)]
    cursor = await index.apply(sparse, [], None)
    cursor = await index.rewind(29, cursor)
    assert cursor.block == 20


async def test_what_does_not_chain_is_not_kept(store: Store) -> None:
    index = store.index()
    good = chain(10, 12)
    cursor = await index.apply(good, [], None)
    other = chain(10, 14, fork="other")
    for blocks, events in (
        ([], []),
        (other[3:], []),
        (good[1:], []),
        (chain(13, 14, good[-1])[::-1], []),
        (chain(13, 14, good[-1]), [committed(other[3])]),
    ):
        with pytest.raises(StoreError):
            await index.apply(blocks, events, cursor)
    assert await index.cursor() == cursor


async def test_events_of_a_range_are_folded_in_chain_order(store: Store) -> None:
    one, two = chain(1, 2)
    event = committed(one)
    job = event.commitment
    later = [
        dispute_opened(two, job, log_index=0),
        WindowExtended(at(two, 1), job, event.closes + 100),
        demand_opened(two, job, log_index=2),
        DemandClosed(at(two, 3), 1, job, DemandOutcome.ANSWERED, b"the answer", 7, 8),
        JobClosed(at(two, 4), job, JobStatus.FRAUD),
    ]
    cursor = await store.index().apply([one], [event], None)
    await store.index().apply([two], later[::-1], cursor)
    async with store.read() as view:
        row = await view.chain.commitment(job)
        assert row is not None
        assert (row.closes, row.status, row.closed_block) == (event.closes + 100, "fraud", 2)
        assert await view.chain.data(row) == event.output_data
        (demand,) = await view.chain.demands(commitment=job)
        assert (demand.outcome, demand.paid, demand.burnt) == ("answered", 7, 8)
        assert await view.chain.answer(demand) == b"the answer"
        (dispute,) = await view.chain.disputes(commitment=job)
        assert dispute.bond == 10**18
        assert await view.chain.history("commitment", job) == [event, later[1], later[4]]
        assert await view.chain.history("demand", 1) == [later[2], later[3]]
        subject = "0x" + job.hex()
        kinds = [entry.kind for entry in await view.journal.about(subject)]
    assert kinds == [
        "observed",
        "chain-dispute-opened",
        "chain-window-extended",
        "chain-demand-opened",
        "chain-demand-closed",
        "chain-job-closed",
    ]


async def test_facts_about_what_was_never_seen_are_kept_and_project_nothing(store: Store) -> None:
    (one,) = chain(1, 1)
    await store.index().apply(
        [one], [ModelDisabled(at(one), h("unknown")), JobClosed(at(one, 1), h("x"), JobStatus.FINAL)], None
    )
    async with store.read() as view:
        assert await view.chain.models() == []
        assert await view.chain.commitments() == []
        assert len(await view.chain.history("model", h("unknown"))) == 1


async def test_listings_page_through_everything_once(store: Store) -> None:
    blocks = chain(1, 5)
    events = [committed(b, (b.number, i), i, provider="0x" + "ab" * 20) for b in blocks for i in range(3)]
    await store.index().apply(blocks, events, None)
    seen: list[bytes] = []
    async with store.read() as view:
        before = None
        while page := await view.chain.commitments(provider="0x" + "ab" * 20, before=before, limit=4):
            seen += [row.commitment for row in page]
            before = (page[-1].block, page[-1].log_index)
        assert await view.chain.last_close(2, 4) == blocks[2].time + 3600
    assert seen == [event.commitment for event in reversed(events)]
