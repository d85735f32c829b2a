"""The record read as history, on both databases."""

from __future__ import annotations

from collections import Counter

from challenger.domain import Address, Millionths, State, Verdict, VerdictKind
from challenger.store import Store

from .chains import T0, audit_verdict, chain, committed, h

K = VerdictKind


def verdict(kind: VerdictKind, detail: str = "") -> Verdict:
    return Verdict(kind, detail, "torch", h("output"), h("state"), {}, 1.0)


async def test_what_replays_said_last(store: Store) -> None:
    blocks = chain(1, 8)
    events = [committed(block, block.number) for block in blocks]
    await store.index().apply(blocks, events, None)
    valid, fraud, doubted, away, heard, silent, both, audited = [event.commitment for event in events]
    async with store.begin(T0) as unit:

        async def judged(commitment, first, second=None):
            one = await unit.verdicts.add(commitment, first, fresh=False)
            two = None if second is None else await unit.verdicts.add(commitment, second, fresh=True)
            await unit.work.note(commitment, State.OBSERVED, verdict=one, confirmation=two)

        await judged(valid, verdict(K.VALID))
        await judged(fraud, verdict(K.FRAUD, "output"), verdict(K.FRAUD, "state"))
        await judged(doubted, verdict(K.FRAUD, "output"))
        await judged(away, verdict(K.UNAVAILABLE, "output: not-found"))
        await judged(heard, verdict(K.UNAVAILABLE, "output: not-found"))
        await judged(both, verdict(K.VALID))
        await unit.audits.add(audit_verdict(heard))
        await unit.audits.add(audit_verdict(both, K.FRAUD))
        await unit.audits.add(audit_verdict(audited, K.INCONCLUSIVE))
        await unit.audits.add(audit_verdict(audited, K.FRAUD))
        await unit.audits.add(audit_verdict(audited, K.UNAVAILABLE))
    async with store.read() as view:
        said = await view.hindsight.said()
        everything = await view.hindsight.commitments(blocks[0].number, blocks[-1].number)
        some = await view.hindsight.commitments(blocks[1].number, blocks[2].number)
        span = await view.hindsight.range()
    assert {one: (told.kind, told.detail) for one, told in said.items()} == {
        valid: (K.VALID, ""),
        fraud: (K.FRAUD, "state"),
        away: (K.UNAVAILABLE, "output: not-found"),
        heard: (K.VALID, ""),
        both: (K.VALID, ""),
        audited: (K.FRAUD, ""),
    }
    assert {doubted, silent}.isdisjoint(said)
    assert [row.commitment for row in everything] == [event.commitment for event in events]
    assert [row.commitment for row in some] == [fraud, doubted]
    assert span == (blocks[0].number, blocks[-1].number)


async def test_an_empty_record_has_no_history(store: Store) -> None:
    async with store.read() as view:
        past = view.hindsight
        assert await past.range() == (0, 0)
        assert await past.commitments(0, 100) == []
        assert (await past.fees(), await past.disputes(), await past.demands(), await past.said()) == ({}, [], [], {})
        assert (await past.block_times(), await past.accounts()) == ([], frozenset())


async def test_answers_are_counted_by_what_came_of_them(store: Store) -> None:
    blocks = chain(1, 6)
    events = [committed(block, block.number) for block in blocks]
    await store.index().apply(blocks, events, None)
    low, high, bar = bytes(32), b"\xff" * 32, (1 << 255).to_bytes(32, "big")
    async with store.begin(T0) as unit:
        for event, drawn, selected in zip(
            events, (low, high, bar, low, None, None), (1, 1, 0, 1, None, None), strict=True
        ):
            changes = {} if drawn is None else {"drawn": drawn, "selected": bool(selected)}
            if event is events[0]:
                changes["verdict"] = await unit.verdicts.add(event.commitment, verdict(K.VALID), fresh=False)
            await unit.work.note(event.commitment, State.OBSERVED, **changes)
    late = max(event.closes for event in events)
    async with store.read() as view:
        found = await view.records.tallies(Millionths(500_000), late)
        early = await view.records.tallies(Millionths(500_000), T0)
        everything = await view.records.tallies(Millionths(1_000_000), late)
        nobody = await view.records.tallies(Millionths(0), late, Address("0x" + "99" * 20))
    counted: Counter[tuple[object, ...]] = Counter()
    for one in found:
        counted[one.drawn, one.base, one.verdict] += one.answers
    assert counted == {
        (True, True, K.VALID): 1,
        (True, False, None): 1,
        (False, False, None): 1,
        (True, True, None): 1,
        (None, False, None): 2,
    }
    assert all(one.closed for one in found)
    assert not any(one.closed for one in early)
    assert sum(one.answers for one in everything if one.base) == 4
    assert nobody == []
