"""One suite for both databases: what each repository promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from challenger.domain import (
    Action,
    Call,
    DemandOutcome,
    DisputeClosed,
    DisputeOutcome,
    Intent,
    JobClosed,
    JobStatus,
    State,
    TxState,
    Verdict,
    VerdictKind,
)
from challenger.errors import IllegalMove, StaleRow, StoreError
from challenger.store import Outbox, Store, subject_of
from challenger.store.rows import EpochRow
from challenger.store.schema import latencies

from .chains import ME, T0, THEM, at, chain, committed, demand_opened, dispute_opened, h

S = State


async def observe(store: Store, count: int = 3, **changes: Any) -> list[Any]:
    """Commitments in blocks 1..count, the later ones closing earlier."""
    blocks = chain(1, count)
    events = [committed(b, b.number, closes=T0 + 10_000 - b.number, **changes) for b in blocks]
    await store.index().apply(blocks, events, None)
    return events


# --- work -------------------------------------------------------------------------------------------------------------


async def test_a_move_needs_an_arrow_and_the_state_it_starts_from(store: Store) -> None:
    (event,) = await observe(store, 1)
    async with store.begin(T0) as unit:
        await unit.work.move(event.commitment, S.OBSERVED, S.SAMPLED, p_millionths=5, inputs={"fee": 2**200})
    for old, new, error in (
        (S.OBSERVED, S.SAMPLED, StaleRow),
        (S.SAMPLED, S.FILED, IllegalMove),
        (S.SAMPLED, S.ORPHANED, IllegalMove),
        (S.ORPHANED, S.OBSERVED, IllegalMove),
    ):
        with pytest.raises(error):
            async with store.begin(T0) as unit:
                await unit.work.move(event.commitment, old, new)
    async with store.read() as view:
        row = await view.work.get(event.commitment)
        assert row is not None
        assert (row.state, row.version, row.inputs) == (
            "sampled",
            2,
            '{"fee":1606938044258990275541962092341162602522202993782792835301376}',
        )
        last = (await view.journal.about(subject_of(event.commitment)))[-1]
    assert (last.kind, last.payload) == ("sampled", f'{{"from":"observed","inputs":{row.inputs},"p_millionths":5}}')


async def test_a_note_changes_columns_but_not_the_state(store: Store) -> None:
    (event,) = await observe(store, 1)
    async with store.begin(T0 + 5) as unit:
        await unit.work.note(event.commitment, S.OBSERVED, attempts=2, next_try=T0 + 60, detail="away")
        with pytest.raises(TypeError):
            await unit.work.note(event.commitment, S.OBSERVED, colour="red")
    async with store.read() as view:
        row = await view.work.get(event.commitment)
        assert row is not None
        assert (row.state, row.attempts, row.next_try, row.detail, row.updated) == (
            "observed",
            2,
            T0 + 60,
            "away",
            T0 + 5,
        )
        assert await view.work.items([S.OBSERVED], ready=T0 + 59) == []
        assert len(await view.work.items([S.OBSERVED], ready=T0 + 60)) == 1


async def test_work_comes_in_the_order_in_which_windows_close(store: Store) -> None:
    events = await observe(store, 4)
    async with store.begin(T0) as unit:
        await unit.work.move(events[3].commitment, S.OBSERVED, S.SAMPLED)
    async with store.read() as view:
        items = await view.work.items([S.OBSERVED])
        assert [item.commitment.commitment for item in items] == [
            e.commitment for e in (events[2], events[1], events[0])
        ]
        both = await view.work.items([S.OBSERVED, S.SAMPLED], closes_after=T0 + 10_000 - 3, limit=1)
        assert [item.work.commitment for item in both] == [events[1].commitment]
        assert await view.work.counts() == {S.OBSERVED: 3, S.SAMPLED: 1}
        newest = await view.work.listing(limit=2)
        assert [item.commitment.block for item in newest] == [4, 3]
        assert [i.commitment.block for i in await view.work.listing(before=(3, 0))] == [2, 1]
        assert [i.commitment.block for i in await view.work.listing(state=S.SAMPLED)] == [4]
        assert [i.commitment.block for i in await view.work.listing(provider=events[1].provider)] == [2]
        assert [i.commitment.block for i in await view.work.between(2, 4)] == [2, 3]


async def test_jobs_that_the_chain_closed_are_found_until_their_work_is_at_its_end(store: Store) -> None:
    events = await observe(store, 2)
    index = store.index()
    cursor = await index.cursor()
    assert cursor is not None
    blocks = chain(1, 3)
    await index.apply(blocks[2:], [JobClosed(at(blocks[2]), events[0].commitment, JobStatus.FINAL)], cursor)
    async with store.begin(T0) as unit:
        (item,) = await unit.work.closed_on_chain()
        assert item.commitment.status == "final"
        await unit.work.move(item.work.commitment, S.OBSERVED, S.FINALISED, on=item.commitment.closed_block)
        assert await unit.work.closed_on_chain() == []


# --- verdicts ---------------------------------------------------------------------------------------------------------


def verdict(kind: VerdictKind) -> Verdict:
    return Verdict(kind, "output", "torch", h("o"), None, {"torch": "2.13", "cpu": "x"}, 0.25)


async def test_verdicts_stay_and_accuse(store: Store) -> None:
    events = await observe(store, 3)
    async with store.begin(T0 + 100) as unit:
        for event, kind in zip(events, (VerdictKind.FRAUD, VerdictKind.FRAUD, VerdictKind.VALID), strict=True):
            first = await unit.verdicts.add(event.commitment, verdict(kind), fresh=False)
            second = await unit.verdicts.add(event.commitment, replace(verdict(kind), backend="numpy"), fresh=True)
            await unit.work.move(event.commitment, S.OBSERVED, S.SAMPLED, selected=True)
            await unit.work.move(event.commitment, S.SAMPLED, S.REPLAYED, verdict=first)
            if kind is VerdictKind.FRAUD:
                await unit.work.move(event.commitment, S.REPLAYED, S.CONFIRMED, confirmation=second)
        assert await unit.verdicts.accused(h("model"), T0 + 100) == {events[0].provider, events[1].provider}
        assert await unit.verdicts.accused(h("model"), T0 + 101) == frozenset()
        assert await unit.verdicts.accused(h("another"), T0) == frozenset()
        asked = {events[0].provider, events[2].provider, "0x" + "99" * 20}
        assert await unit.work.provider_records(asked) == {
            events[0].provider: (1, 1),
            events[2].provider: (1, 0),
            "0x" + "99" * 20: (0, 0),
        }
        one, two = await unit.verdicts.of(events[0].commitment)
    assert (one.kind, one.backend, one.fresh, one.microseconds, one.state_root) == (
        "FRAUD",
        "torch",
        False,
        250_000,
        None,
    )
    assert (two.backend, two.fresh, two.environment) == ("numpy", True, '{"cpu":"x","torch":"2.13"}')


# --- epochs -----------------------------------------------------------------------------------------------------------


async def test_epochs_are_found_by_block_and_their_secret_stays_out_of_the_journal(store: Store) -> None:
    secret = h("secret")
    async with store.begin(T0) as unit:
        await unit.epochs.open(EpochRow(1, 10, 20, 3, secret, h("digest"), "{}", h("commitment")))
        await unit.epochs.open(EpochRow(2, 20, 30, 3, secret, h("digest"), "{}", h("commitment 2")))
    async with store.begin(T0 + 1) as unit:
        await unit.epochs.anchored(1, h("tx"), None)
        await unit.epochs.anchored(1, h("tx"), 9)
        await unit.epochs.revealed(1, h("reveal"))
        with pytest.raises(StaleRow):
            await unit.epochs.revealed(3, None)
    with pytest.raises(StoreError):
        async with store.begin(T0) as unit:
            await unit.epochs.open(EpochRow(1, 0, 5, 3, secret, h("digest"), "{}", h("commitment")))
    async with store.read() as view:
        assert await view.epochs.of_block(9) is None
        found = await view.epochs.of_block(19)
        assert found is not None
        assert (found.number, found.anchor_block, found.revealed_at, found.secret) == (1, 9, T0 + 1, secret)
        assert [row.number for row in await view.epochs.all()] == [1, 2]
        assert await view.epochs.latest() == await view.epochs.of_block(20)
        assert not any(secret.hex() in entry.payload for entry in await view.journal.after(0))


# --- transactions -----------------------------------------------------------------------------------------------------


class Signed:
    def __init__(self, nonce: int, name: str) -> None:
        self.nonce, self.gas, self.max_fee, self.tip = nonce, 50_000, 2**100, 3
        self.hash, self.raw, self.signed_at = h(name), name.encode(), T0 + 7


def wish(subject: str = "s", action: Action = Action.CHALLENGE, value: int = 10**30) -> Intent:
    return Intent("reference", subject, action, Call(THEM, b"call", value), T0 + 500)


async def test_a_wish_is_kept_once_under_its_key(store: Store) -> None:
    outbox = await Outbox.claim(store, ME, "test", T0)
    row = await outbox.propose(wish(), ME, T0)
    assert (row.state, row.nonce, row.hash, row.attempts) == (TxState.INTENT, None, None, ())
    assert row.intent == wish()
    again = await outbox.propose(replace(wish(), deadline=T0 + 9), ME, T0 + 1)
    assert again == row
    assert await outbox.unfinished(ME) == [row]
    assert await outbox.unfinished(THEM) == []


async def test_a_transaction_goes_from_intent_to_final_and_back_by_a_reorg(store: Store) -> None:
    outbox = await Outbox.claim(store, ME, "test", T0)
    row = await outbox.propose(wish(), ME, T0)
    assert await outbox.next_nonce(ME) is None
    first = await outbox.signed(row.id, Signed(4, "one"))
    assert await outbox.next_nonce(ME) == 5
    await outbox.sent(row.id, first.number, T0 + 8)
    bump = await outbox.signed(row.id, Signed(4, "two"))
    (row,) = await outbox.unfinished(ME)
    assert (row.state, row.nonce, [a.sent_at for a in row.attempts]) == (TxState.SENT, 4, [T0 + 8, None])
    assert row.attempts[1] == bump
    await outbox.sent(row.id, 1, T0 + 9)
    await outbox.mined(row.id, h("one"), 77, h("block"), 40_000, T0 + 500, mined_at=T0 + 20)
    (row,) = await outbox.unfinished(ME)
    assert (row.state, row.hash, row.block, row.block_hash, row.gas_used) == (
        TxState.MINED,
        h("one"),
        77,
        h("block"),
        40_000,
    )
    await outbox.unmined(row.id, T0 + 21)
    (row,) = await outbox.unfinished(ME)
    assert (row.state, row.hash, row.block) == (TxState.SENT, h("one"), None)
    async with store.read() as view:
        assert await view.latencies.p99("inclusion") == 12, "from the first version handed to a node to the block"
    await outbox.mined(row.id, h("two"), 78, h("block b"), 40_000, T0 + 522, mined_at=T0 + 22)
    await outbox.closed(row.id, TxState.FINAL, "", T0 + 30)
    assert await outbox.unfinished(ME) == []
    async with store.read() as view:
        done = await view.transactions.by_hash(h("one"))
        assert done is not None
        assert (done.state, done.hash, len(done.attempts)) == (TxState.FINAL, h("two"), 2)
        assert await view.transactions.counts() == {TxState.FINAL: 1}
        kinds = [entry.kind for entry in await view.journal.about("s")]
    assert kinds == [
        "tx-intent",
        "tx-signed",
        "tx-sent",
        "tx-sent",
        "tx-sent",
        "tx-mined",
        "tx-sent",
        "tx-mined",
        "tx-final",
    ]
    with pytest.raises(StaleRow):
        await outbox.closed(row.id, TxState.ABANDONED, "late", T0 + 31)
    with pytest.raises(IllegalMove):
        await outbox.closed(row.id, TxState.SENT, "not an end", T0 + 31)
    assert (await outbox.propose(wish(), ME, T0 + 40, again=True)).state is TxState.FINAL


async def test_what_came_to_nothing_starts_anew_under_its_key_when_asked(store: Store) -> None:
    outbox = await Outbox.claim(store, ME, "test", T0)
    row = await outbox.propose(wish(), ME, T0)
    await outbox.signed(row.id, Signed(0, "one"))
    await outbox.requeued(row.id, "the nonce went to another", T0 + 1)
    (row,) = await outbox.unfinished(ME)
    assert (row.state, row.nonce, len(row.attempts)) == (TxState.INTENT, None, 1)
    # the first form was mined after all: the row takes its nonce
    await outbox.mined(row.id, h("one"), 5, h("b"), 1, T0 + 2, mined_at=T0 + 2)
    (row,) = await outbox.unfinished(ME)
    assert (row.state, row.nonce) == (TxState.MINED, 0)
    await outbox.closed(row.id, TxState.REVERTED, "too late", T0 + 3)
    assert (await outbox.propose(wish(), ME, T0 + 4)).error == "too late"
    anew = await outbox.propose(replace(wish(), deadline=T0 + 999), ME, T0 + 5, again=True)
    assert (anew.state, anew.nonce, anew.hash, anew.error, anew.intent.deadline) == (
        TxState.INTENT,
        None,
        None,
        "",
        T0 + 999,
    )
    assert [attempt.hash for attempt in anew.attempts] == [h("one")]
    with pytest.raises(StaleRow):
        await outbox.mined(row.id, h("never signed"), 5, h("b"), 1, T0 + 2, mined_at=T0 + 2)
    with pytest.raises(StaleRow):
        await outbox.sent(row.id, 9, T0)


async def send(outbox: Outbox, row: int, nonce: int, name: str, now: int) -> None:
    made = await outbox.signed(row, Signed(nonce, name))
    await outbox.sent(row, made.number, now)


async def inclusion(store: Store) -> tuple[int, float]:
    async with store.read() as view:
        return (await view.latencies.all())["inclusion"]


# what the sender gives a nonce up with keeps its nonce, however often it is tried
@pytest.mark.parametrize("nonce", [0, 1])
@pytest.mark.parametrize("end", [TxState.REVERTED, TxState.REPLACED, TxState.ABANDONED])
async def test_how_long_inclusion_takes_counts_from_the_try_that_was_mined(
    store: Store, end: TxState, nonce: int
) -> None:
    outbox = await Outbox.claim(store, ME, "test", T0)
    row = await outbox.propose(wish(), ME, T0)
    await send(outbox, row.id, 0, "a former try", T0)
    await outbox.closed(row.id, end, "came to nothing", T0 + 50)
    await outbox.propose(wish(), ME, T0 + 1_800, again=True)
    await send(outbox, row.id, nonce, "one", T0 + 1_800)
    await send(outbox, row.id, nonce, "its replacement", T0 + 1_807)
    await outbox.mined(row.id, h("its replacement"), 5, h("b"), 1, T0 + 1_812, mined_at=T0 + 1_812)
    assert await inclusion(store) == (1, 12.0)


async def test_how_long_inclusion_takes_where_a_former_try_is_mined_after_all(store: Store) -> None:
    outbox = await Outbox.claim(store, ME, "test", T0)
    row = await outbox.propose(wish(), ME, T0)
    await send(outbox, row.id, 0, "a former try", T0)
    await outbox.requeued(row.id, "the nonce went to another", T0 + 20)
    await send(outbox, row.id, 1, "one", T0 + 21)
    await outbox.mined(row.id, h("a former try"), 5, h("b"), 1, T0 + 36, mined_at=T0 + 36)
    assert await inclusion(store) == (1, 36.0)


async def test_how_long_inclusion_takes_is_not_known_of_what_was_not_seen_to_be_sent(store: Store) -> None:
    outbox = await Outbox.claim(store, ME, "test", T0)
    row = await outbox.propose(wish(), ME, T0)
    await send(outbox, row.id, 0, "a former try", T0)
    await outbox.requeued(row.id, "the nonce went to another", T0 + 20)
    await outbox.signed(row.id, Signed(1, "one"))  # and died before it could say that it was sent
    await outbox.mined(row.id, h("one"), 5, h("b"), 1, T0 + 36, mined_at=T0 + 36)
    async with store.read() as view:
        assert await view.latencies.all() == {}


async def test_the_last_owner_of_an_account_fences_off_the_ones_before(store: Store) -> None:
    old = await Outbox.claim(store, ME, "first", T0)
    row = await old.propose(wish(), ME, T0)
    other = await Outbox.claim(store, THEM, "someone else's account", T0)
    new = await Outbox.claim(store, ME, "second", T0)
    with pytest.raises(StaleRow, match="second"):
        await old.signed(row.id, Signed(0, "one"))
    await new.signed(row.id, Signed(0, "two"))
    assert (await other.propose(wish("t"), THEM, T0)).account == THEM


async def test_a_reorganisation_gives_up_every_unsigned_wish_that_a_bond_goes_with(store: Store) -> None:
    outbox = await Outbox.claim(store, ME, "test", T0)
    bonded = (Action.CHALLENGE, Action.DEMAND, Action.VOTE)
    for action in (*bonded, Action.SETTLE, Action.SUGGEST):
        await outbox.propose(wish("0x" + "11" * 32, action), ME, T0)
    async with store.begin(T0) as unit:
        await unit.transactions.give_up_unsigned("a fork")
        rows = [await unit.transactions.find("reference", "0x" + "11" * 32, action) for action in Action]
    ended = {row.intent.action for row in rows if row is not None and row.state is TxState.ABANDONED}
    assert ended == set(bonded)


async def test_outstanding_bonds_are_counted_once(store: Store) -> None:
    (event,) = await observe(store, 1)
    job = event.commitment
    outbox = await Outbox.claim(store, ME, "test", T0)
    row = await outbox.propose(wish(subject_of(job), value=10**18), ME, T0)
    await outbox.propose(wish(subject_of(job), Action.SEAL, value=5), ME, T0)
    dead = await outbox.propose(wish(subject_of(job, "output", 0), Action.DEMAND, value=7), ME, T0)

    async def outstanding() -> int:
        async with store.read() as view:
            return await view.transactions.outstanding(ME)

    assert await outstanding() == 10**18 + 7
    await outbox.closed(dead.id, TxState.ABANDONED, "no longer needed", T0)
    await outbox.signed(row.id, Signed(0, "one"))
    await outbox.mined(row.id, h("one"), 2, h("b"), 1, T0, mined_at=T0)
    assert await outstanding() == 10**18
    index = store.index()
    blocks = chain(1, 4)
    opened = dispute_opened(blocks[1], job, challenger=ME, bond=10**18)
    opened = replace(opened, at=replace(opened.at, tx_hash=h("one")))
    cursor = await index.apply(blocks[1:2], [opened, dispute_opened(blocks[1], job, 2, 1)], await index.cursor())
    assert await outstanding() == 10**18
    cursor = await index.apply(blocks[2:3], [demand_opened(blocks[2], job, demander=ME, bond=3)], cursor)
    assert await outstanding() == 10**18 + 3
    await index.apply(blocks[3:], [DisputeClosed(at(blocks[3]), 1, job, DisputeOutcome.CHALLENGER, 5, 6)], cursor)
    assert await outstanding() == 3
    async with store.read() as view:
        assert {r.intent.action for r in await view.transactions.about(job)} == {
            Action.CHALLENGE,
            Action.SEAL,
            Action.DEMAND,
        }
        assert await view.transactions.about(h("another")) == []
        assert (await view.chain.money()) == (5, 6)
        assert len(await view.chain.demands(outcome=DemandOutcome.OPEN)) == 1


# --- the small ones ---------------------------------------------------------------------------------------------------


async def test_a_pause_holds_until_a_person_resumes_it(store: Store) -> None:
    async with store.begin(T0) as unit:
        first = await unit.approvals.pause("correlated", "model", "two providers within an hour")
        assert await unit.approvals.pause("correlated", "model", "a third") == first
        await unit.approvals.pause("code", "contract", "changed")
    async with store.begin(T0 + 60) as unit:
        await unit.approvals.resume(first.id, "Ada", "checked by hand")
        assert [row.reason for row in await unit.approvals.active()] == ["code"]
        with pytest.raises(StaleRow):
            await unit.approvals.resume(first.id, "Ada")
        assert len(await unit.approvals.since("correlated", "model", T0)) == 1
        assert await unit.approvals.since("correlated", "model", T0 + 1) == []
        resumed = (await unit.approvals.all())[0]
    assert (resumed.resumed_by, resumed.resumed_at, resumed.note) == ("Ada", T0 + 60, "checked by hand")


async def test_a_persons_word_on_an_action_is_kept(store: Store) -> None:
    async with store.begin(T0) as unit:
        assert await unit.approvals.decision("job", "challenge") is None
        await unit.approvals.decide("job", "challenge", approved=False, person="Ada")
        await unit.approvals.decide("job", "challenge", approved=True, person="Bob", note="after all")
        word = await unit.approvals.decision("job", "challenge")
    assert word is not None
    assert (word.approved, word.person, word.note) == (True, "Bob", "after all")


async def test_a_database_belongs_to_one_chain(store: Store) -> None:
    async with store.begin(T0) as unit:
        await unit.settings.pin("chain", "31337")
        await unit.settings.pin("chain", "31337")
        with pytest.raises(StoreError, match="another chain"):
            await unit.settings.pin("chain", "1")
        await unit.settings.put("signer", "a")
        await unit.settings.put("signer", "b")
        assert await unit.settings.get("signer") == "b"


async def test_latencies_give_the_nearest_rank_and_forget_the_old(store: Store) -> None:
    async with store.begin(T0) as unit:
        assert await unit.latencies.p99("replay") is None
        await unit.latencies.add("replay", 50)
        for number in range(1, 100):
            await unit.latencies.add("replay", number / 1000)
        await unit.latencies.add("include", 3)
        assert await unit.latencies.p99("replay") == 0.099
        assert await unit.latencies.p99("include") == 3
        many = [{"action": "replay", "microseconds": 500_000, "time": T0} for _ in range(999)]
        await unit.connection.execute(insert(latencies), many)
        await unit.latencies.add("replay", 0.4)
        kept = select(func.count()).select_from(latencies).where(latencies.c.action == "replay")
        assert (await unit.connection.execute(kept)).scalar_one() == 1000
        assert await unit.latencies.p99("replay") == 0.5


async def test_a_view_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError):
        async with store.read() as view:
            await view.settings.put("a", "b")
    async with store.begin(T0) as unit:  # and the connection writes again afterwards
        await unit.settings.put("a", "c")
