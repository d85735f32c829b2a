"""Pages and streams: whole, in order, in both directions, whatever is filtered and whatever comes meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.cli import main
from challenger.domain import (
    Action,
    Call,
    DisputeClosed,
    DisputeOutcome,
    Intent,
    JobClosed,
    JobStatus,
    ModelRegistered,
    State,
    TaskOpened,
    TaskTaken,
    Verdict,
    VerdictKind,
)
from challenger.store import Outbox, Store, open_store
from challenger.store import listed as tables
from challenger.store.listed import COMMITMENTS, LISTED, CommitmentFilter, commitment_of
from challenger.store.listing import BadCursor, Filter, PageCursor
from challenger.store.rows import EpochRow

from .chains import (
    ME,
    T0,
    THEM,
    WINDOW,
    at,
    audit_verdict,
    chain,
    committed,
    demand_opened,
    dispute_opened,
    finding,
    h,
)

PROVIDERS = ["0x" + f"{n:02x}" * 20 for n in (3, 5, 9)]
MODELS = [h("model", n) for n in range(2)]


async def fill(store: Store) -> None:
    """Forty commitments of three providers, two a block; some judged, one disputed, one withheld."""
    blocks = chain(1, 20)
    said: Any = (h("f"), h("a"), h("p"), 1, "exact", 4, 4, "", b"in", h("out"))
    events: list[Any] = [ModelRegistered(at(blocks[0], 40 + n), MODELS[n], ME, *said) for n in (0, 1)]
    for block in blocks:
        for log in (0, 1):
            n = 2 * block.number + log
            changes = {"provider": PROVIDERS[n % 3], "model": MODELS[n % 2]}
            opened = TaskOpened(
                at(block, 10 + log), h("task", n), MODELS[n % 2], ME, h("in"), b"in", "", 2, h("en"), 5, T0
            )
            events += [opened, TaskTaken(at(block, 20 + log), h("task", n), PROVIDERS[n % 3], h("seed"))]
            events.append(committed(block, n, log, **changes))
    events.append(dispute_opened(blocks[-1], h("commitment", 2), log_index=50, challenger=ME))
    events.append(dispute_opened(blocks[-1], h("commitment", 3), 2, log_index=51))
    events.append(demand_opened(blocks[-1], h("commitment", 4), log_index=52))
    events.append(JobClosed(at(blocks[-1], 53), h("commitment", 3), JobStatus.FRAUD))
    events.append(DisputeClosed(at(blocks[-1], 54), 2, h("commitment", 3), DisputeOutcome.CHALLENGER, 2 * 10**18, 7))
    await store.index().apply(blocks, events, None)
    async with store.begin(T0 + 900) as unit:
        await unit.epochs.open(EpochRow(1, 0, 10, 2, b"s" * 32, h("policy"), "{}", h("epoch", 1)))
        await unit.epochs.open(EpochRow(2, 10, 20, 2, b"t" * 32, h("policy"), "{}", h("epoch", 2)))
        await unit.epochs.revealed(1, None)
        for n in (2, 3, 5):
            kind = VerdictKind.VALID if n == 5 else VerdictKind.FRAUD
            verdict = Verdict(kind, "output" * (n < 5), "torch", h("o"), h("s"), {"cpu": "x"}, 0.5)
            first = await unit.verdicts.add(h("commitment", n), verdict, fresh=False)
            await unit.work.move(h("commitment", n), State.OBSERVED, State.SAMPLED, selected=True)
            await unit.work.move(h("commitment", n), State.SAMPLED, State.REPLAYED, verdict=first)
        second = await unit.verdicts.add(h("commitment", 2), verdict, fresh=True)
        await unit.work.note(h("commitment", 2), State.REPLAYED, confirmation=second)
        await unit.approvals.pause("person", "filing", "why")
        await unit.approvals.decide("0x12", "challenge/1", approved=True, person="me")
        await unit.journal.write(unit.now, "alert", "x", {"alert": "shed", "severity": "warning", "fields": {"n": 1}})
        await unit.selftests.plant(MODELS[0], h("commitment", 5), "flip", h("o"), h("s"))
        await unit.audits.add(audit_verdict(h("commitment", 6)))
        for name in ("one", "two", "three"):
            await unit.findings.add(1, "some", finding(name))
    outbox = await Outbox.claim(store, ME, "test", T0)
    await outbox.propose(Intent("p", "0x" + h("commitment", 2).hex(), Action.CHALLENGE, Call(THEM, b"", 9), T0), ME, T0)


@pytest.fixture
async def full(store: Store) -> Store:
    await fill(store)
    return store


async def walk(store: Store, what: Any, wanted: Any, limit: int, **how: Any) -> list[Any]:
    """All rows, page by page; then back again, which must be the same pages."""
    async with store.read() as view:
        pages, cursor = [], None
        while True:
            page = await view.listing.page(what, wanted, at=cursor, limit=limit, **how)
            pages.append(page.rows)
            if page.next is None:
                break
            cursor = PageCursor.decode(page.next.encode())
            last = page
        backwards = [pages[-1]]
        while page.prev is not None:
            page = await view.listing.page(what, wanted, at=PageCursor.decode(page.prev.encode()), limit=limit, **how)
            backwards.append(page.rows)
        if len(pages) > 1:
            assert last.next is not None
        whole = [row for rows in pages for row in rows]
        assert [row for rows in reversed(backwards) for row in rows] == whole
        assert all(len(rows) == limit for rows in pages[:-1])
    return whole


async def streamed(store: Store, what: Any, wanted: Any = None) -> list[Any]:
    async with store.read() as view:
        return [row async for row in view.listing.stream(what, wanted)]


@pytest.mark.parametrize("name", sorted(LISTED))
async def test_pages_and_streams_are_the_same_rows(full: Store, name: str) -> None:
    what = LISTED[name]
    rows = await streamed(full, what)
    assert rows
    for limit in (1, 3, 200):
        assert await walk(full, what, None, limit, oldest_first=True) == rows
        assert await walk(full, what, None, limit) == rows[::-1]


@pytest.mark.parametrize("name", sorted(LISTED))
def test_every_filter_is_answered_for(name: str) -> None:
    what = LISTED[name]
    asked = {one.name for one in fields(what.filter)}
    timed = {"since", "until"} & asked
    assert asked - timed == set(what.where)
    assert bool(timed) == (what.time is not None)


def expected(row: Any, wanted: CommitmentFilter) -> bool:
    chain_says, work = row.commitment, row.work
    values = {
        "provider": chain_says.provider,
        "model": chain_says.model,
        "state": work.state,
        "status": chain_says.status,
        "verdict": row.verdict,
        "confirmation": row.confirmation,
        "selected": work.selected,
        "epoch": work.epoch,
    }
    held = all(getattr(wanted, name) in (None, value) for name, value in values.items())
    held &= wanted.from_block is None or chain_says.block >= wanted.from_block
    held &= wanted.to_block is None or chain_says.block <= wanted.to_block
    held &= wanted.since is None or chain_says.committed_at >= wanted.since
    return held and (wanted.until is None or chain_says.committed_at < wanted.until)


async def test_any_filter_of_commitments_is_as_if_all_rows_were_looked_at(full: Store) -> None:
    rng = random.Random(5)
    choices: dict[str, list[Any]] = {
        "provider": PROVIDERS,
        "model": MODELS,
        "state": [State.OBSERVED, State.REPLAYED, State.LOST],
        "status": list(JobStatus),
        "verdict": list(VerdictKind),
        "confirmation": [VerdictKind.VALID, VerdictKind.FRAUD],
        "selected": [True],
        "epoch": [1],
        "from_block": [1, 7, 20],
        "to_block": [1, 15, 30],
        "since": [T0, T0 + 12 * 6],
        "until": [T0 + 12 * 4, T0 + 12 * 18],
    }
    everything = await streamed(full, COMMITMENTS)
    found = 0
    for name in list(choices) + [""] * 40:
        names = [name] if name else rng.sample(sorted(choices), rng.randrange(2, 4))
        wanted = CommitmentFilter(**{one: rng.choice(choices[one]) for one in names})
        should = [row for row in everything if expected(row, wanted)]
        assert await walk(full, COMMITMENTS, wanted, 4, oldest_first=True) == should
        assert await walk(full, COMMITMENTS, wanted, 7) == should[::-1]
        found += len(should)
    assert found > 100


OTHERS: list[tuple[Any, Any, Callable[[Any], bool]]] = [
    (tables.TASKS, tables.TaskFilter(provider=PROVIDERS[0], open=False), lambda r: r.provider == PROVIDERS[0]),
    (tables.TASKS, tables.TaskFilter(model=MODELS[1], requester=ME), lambda r: r.model == MODELS[1]),
    (tables.VERDICTS, tables.VerdictFilter(kind=VerdictKind.FRAUD), lambda r: r.kind == "FRAUD"),
    (tables.VERDICTS, tables.VerdictFilter(fresh=True, backend="torch"), lambda r: r.fresh),
    (tables.DISPUTES, tables.DisputeFilter(outcome=DisputeOutcome.OPEN), lambda r: r.outcome == "open"),
    (tables.DISPUTES, tables.DisputeFilter(challenger=ME), lambda r: r.challenger == ME),
    (tables.JOURNAL, tables.JournalFilter(kind="observed"), lambda r: r.kind == "observed"),
    (tables.JOURNAL, tables.JournalFilter(kind="sampled", since=T0), lambda r: r.kind == "sampled"),
    (tables.JOURNAL, tables.JournalFilter(after=30), lambda r: r.seq > 30),
    (tables.EPOCHS, tables.EpochFilter(block=10), lambda r: r.number == 2),
    (tables.EPOCHS, tables.EpochFilter(revealed=True), lambda r: r.secret is not None),
]


@pytest.mark.parametrize(("what", "wanted", "holds"), OTHERS)
async def test_filters_of_other_tables(full: Store, what: Any, wanted: Any, holds: Callable[[Any], bool]) -> None:
    everything = await streamed(full, what)
    should = [row for row in everything if holds(row)]
    assert should
    assert len(should) < len(everything)
    assert await streamed(full, what, wanted) == should
    assert await walk(full, what, wanted, 2, oldest_first=True) == should


async def test_about_one_commitment(full: Store) -> None:
    (sent,) = await streamed(full, tables.TRANSACTIONS, tables.TransactionFilter(commitment=h("commitment", 2)))
    assert sent.intent.action is Action.CHALLENGE
    assert await streamed(full, tables.TRANSACTIONS, tables.TransactionFilter(commitment=h("commitment", 9))) == []
    (alert,) = await streamed(full, tables.ALERTS, tables.AlertFilter(name="shed", severity="warning"))
    assert (alert.about, alert.fields) == ("x", {"n": 1})
    assert await streamed(full, tables.ALERTS, tables.AlertFilter(name="she_")) == []
    providers = await streamed(full, tables.PROVIDERS)
    assert [(row.provider, row.first_block, row.last_block) for row in providers] == [
        (PROVIDERS[0], 1, 19),
        (PROVIDERS[1], 2, 20),
        (PROVIDERS[2], 1, 20),
    ]
    assert sum(row.answers for row in providers) == 40
    async with full.read() as view:
        task = await view.chain.task(h("task", 17))
        assert task is not None
        assert await commitment_of(view.connection, task) == h("commitment", 17)


async def test_no_secret_before_its_reveal(full: Store) -> None:
    first, second = await streamed(full, tables.EPOCHS)
    assert (first.secret, second.secret) == (b"s" * 32, None)


async def test_rows_that_come_meanwhile_move_none(full: Store) -> None:
    async with full.read() as view:
        first = await view.listing.page(COMMITMENTS, limit=10)
    tip = chain(1, 20)[-1]
    (more,) = chain(21, 21, tip)
    cursor = await full.index().cursor()
    await full.index().apply([more], [committed(more, "new")], cursor)
    async with full.read() as view:
        second = await view.listing.page(COMMITMENTS, at=first.next, limit=30)
        assert [row.commitment.block for row in (*first.rows, *second.rows)] == sorted([*range(1, 21)] * 2)[::-1]
        before = await view.listing.page(COMMITMENTS, at=PageCursor("commitments-", (20, 1), back=True))
        assert [row.commitment.block for row in before.rows] == [21]
        assert before.prev is None


async def test_a_cursor_serves_its_own_list_and_order_alone(full: Store) -> None:
    async with full.read() as view:
        cursor = (await view.listing.page(COMMITMENTS, limit=3)).next
        assert cursor is not None
        with pytest.raises(BadCursor, match="another list or order"):
            await view.listing.page(tables.TASKS, at=cursor)
        with pytest.raises(BadCursor, match="another list or order"):
            await view.listing.page(COMMITMENTS, at=cursor, oldest_first=True)
        with pytest.raises(BadCursor, match="another list or order"):
            await view.listing.page(COMMITMENTS, CommitmentFilter(since=T0), at=cursor)
        with pytest.raises(BadCursor, match="another list or order"):
            await view.listing.page(COMMITMENTS, at=PageCursor("commitments-", ("a", 3)))
        # the end that has gone
        page = await view.listing.page(COMMITMENTS, at=PageCursor("commitments-", (0, 0)))
        assert page.rows == []
        assert page.next is None
        assert page.prev is not None


keys = st.lists(st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=20).filter(lambda t: "\0" not in t), min_size=1)


@given(st.text(max_size=9), keys.filter(lambda k: len(k) < 4), st.booleans())
def test_cursors_come_back(order: str, values: list[int | str], back: bool) -> None:
    cursor = PageCursor(order, tuple(values), back)
    text = cursor.encode()
    assert text.replace("-", "").replace("_", "").isalnum()
    if len(text) <= 400:
        assert PageCursor.decode(text) == cursor


@given(st.text(max_size=60) | st.text(alphabet="abcXYZ019-_=", max_size=60) | st.binary(max_size=40).map(bytes.hex))
def test_rubbish_is_no_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        PageCursor.decode(text)


def test_a_filter_without_fields_asks_for_everything() -> None:
    assert fields(Filter) == ()


async def test_the_overview_counts_what_is_open(full: Store) -> None:
    async with full.read() as view:
        told = await view.overview.now()
    assert told.head is not None
    assert told.head.number == 20
    assert told.states == {State.OBSERVED: 37, State.REPLAYED: 3}
    assert told.open_windows == 40
    assert told.nearest is not None
    assert (told.nearest.commitment, told.nearest.slack) == (h("commitment", 2), 3600 - 12 * 19)
    assert (told.open_disputes, told.open_demands, told.our_open) == (1, 1, 1)
    assert (told.bonds, told.pending, told.paid, told.burnt, told.ours_paid) == (10**18, 9, 2 * 10**18, 7, 0)
    assert [pause.reason for pause in told.pauses] == ["person"]
    assert ME in told.accounts


async def test_the_nearest_deadline_is_one_that_has_not_passed(full: Store, url: str, monkeypatch, capsys) -> None:
    index = full.index()
    later = replace(chain(1, 21)[-1], time=T0 + 12 + WINDOW)  # those of block 1 are closed
    await index.apply([later], [], await index.cursor())
    async with full.read() as view:
        told = await view.overview.now()
    assert told.nearest is not None
    assert (told.nearest.commitment, told.nearest.slack) == (h("commitment", 5), 12)
    monkeypatch.setenv("CHALLENGER_STORE_URL", url)
    assert await asyncio.to_thread(main, ["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nearest_deadline_seconds"] == told.nearest.slack


async def test_the_overview_of_nothing(url: str) -> None:
    async with open_store(url) as store, store.read() as view:
        told = await view.overview.now()
        for what in LISTED.values():
            page = await view.listing.page(what)
            assert (page.rows, page.next, page.prev) == ([], None, None)
    assert (told.head, told.nearest, told.states, told.bonds) == (None, None, {}, 0)
