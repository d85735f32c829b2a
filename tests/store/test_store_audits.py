"""What audits leave behind: rows beside rows, entries of the journal, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from challenger.domain import AuditId, Verdict, VerdictKind
from challenger.store import Store
from challenger.store.subjects import hex_range

from .chains import T0, audit_verdict, chain, committed, h

K = VerdictKind


async def test_audits_are_kept_one_after_the_other(store: Store) -> None:
    about, fraud = AuditId(h("one")), audit_verdict(h("one"), K.FRAUD, detail="output", output_root=h("other"))
    async with store.begin(T0) as unit:
        first = await unit.audits.add(audit_verdict(h("one")))
        second = await unit.audits.add(fraud)
        await unit.audits.add(audit_verdict(h("two")))
    async with store.read() as view:
        assert await view.audits.of(about) == [first, second]
        told = await view.journal.about(about.subject)
        assert await view.work.counts() == {}
    assert [entry.kind for entry in told] == ["audit-verdict"] * 2
    payload = json.loads(told[1].payload)
    assert (payload["id"], payload["detail"], payload["microseconds"]) == (second.id, "output", 250_000)
    assert "environment" not in payload
    assert json.loads(second.environment) == {"torch": {"cpu": "some"}}
    assert (first.differs, second.differs) == ([], ["output"])
    assert first.result != second.result


async def test_two_machines_with_one_result_write_one_entry(store: Store) -> None:
    """Where it ran is not part of what the journal hashes, nor of what two audits have to agree on."""
    here, there = (audit_verdict(h("one"), environment={"torch": {"cpu": name}}) for name in ("here", "there"))
    async with store.begin(T0) as unit:
        rows = [await unit.audits.add(one) for one in (here, there)]
        one, two = await unit.journal.about(here.audit.subject)
    assert one.payload.replace(f'"id":{rows[0].id}', "") == two.payload.replace(f'"id":{rows[1].id}', "")
    assert rows[0].result == rows[1].result


async def test_why_there_was_no_result_is_no_difference(store: Store) -> None:
    one = audit_verdict(h("one"), K.INCONCLUSIVE, detail="timeout: 3 s", output_root=None, state_root=None)
    async with store.begin(T0) as unit:
        rows = [await unit.audits.add(replace(one, detail=why)) for why in ("timeout: 3 s", "memory: 8 GiB")]
    assert rows[0].result == rows[1].result
    assert rows[0].differs == []


async def test_what_nobody_has_judged(store: Store) -> None:
    blocks = chain(1, 5)
    events = [committed(b, b.number) for b in blocks]
    await store.index().apply(blocks, events, None)
    names = [event.commitment for event in events]
    async with store.begin(T0) as unit:
        await unit.verdicts.add(names[0], Verdict(K.VALID, "", "torch", h("o"), h("s"), {}, 0.0), fresh=False)
        await unit.verdicts.add(names[1], Verdict(K.INCONCLUSIVE, "x", "torch", None, None, {}, 0.0), fresh=False)
        await unit.audits.add(audit_verdict(names[2], K.FRAUD))
        await unit.audits.add(audit_verdict(names[3], K.UNAVAILABLE))
    async with store.read() as view:
        assert await view.audits.unjudged(10) == [names[1], names[3], names[4]]
        assert await view.audits.unjudged(2) == [names[1], names[3]]
        assert await view.audits.between(2, 4, 10) == names[1:4]
        assert await view.audits.between(2, 4, 2) == names[1:3]


async def test_by_the_beginning_of_an_id(store: Store) -> None:
    blocks = chain(1, 3)
    events = [committed(b, b.number) for b in blocks]
    await store.index().apply(blocks, events, None)
    async with store.begin(T0) as unit:
        await unit.audits.add(audit_verdict(bytes.fromhex("ab" + "00" * 31)))
        await unit.audits.add(audit_verdict(bytes.fromhex("ab" + "ff" * 31)))
        for digits in ("a", "ab", "abf", "ab" + "ff" * 31):
            found = {audit.about.hex() for audit in await unit.audits.beginning(digits)}
            assert found == {one for one in ("ab" + "00" * 31, "ab" + "ff" * 31) if one.startswith(digits)}
        for event in events:
            for length in (9, 64):
                digits = event.commitment.hex()[:length]
                assert await unit.chain.commitments_beginning(digits) == [event.commitment]
        assert await unit.chain.commitments_beginning("00" * 32) == []


@pytest.mark.parametrize("digits", ["", "a", "0f", "f" * 64])
def test_the_range_of_a_beginning(digits: str) -> None:
    low, high = hex_range(digits)
    assert len(low) == len(high) == 32
    assert low.hex().startswith(digits)
    assert high.hex().startswith(digits)
