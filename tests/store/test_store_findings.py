"""What audits of other protocols leave behind: one row a finding, one entry of the journal, and nothing else."""

from __future__ import annotations

import json

import pytest

from challenger.domain import Action, Call, Intent
from challenger.errors import AuditRefused
from challenger.protocols.findings import Ground
from challenger.store import Outbox, Store

from .chains import ME, T0, at, chain, finding, h


async def test_the_same_finding_twice_is_one_row(store: Store) -> None:
    one = finding("one")
    async with store.begin(T0) as unit:
        row, new = await unit.findings.add(1, "some", one)
        assert new
        again = await unit.findings.add(1, "some", finding("one", said="In other words."))
    assert again == (row, False)
    async with store.begin(T0 + 5) as unit:
        assert await unit.findings.add(1, "some", one) == (row, False)
    async with store.read() as view:
        assert await view.findings.all() == [row]
        (entry,) = await view.journal.about("audit/0x" + h("one").hex())
        assert await view.work.counts() == {}
    told = json.loads(entry.payload)
    assert (entry.kind, told["id"], told["facts"], told["ground"]) == ("finding", row.id, {"seen": "3"}, "proof")
    assert (row.time, row.party, row.said, json.loads(row.facts)) == (T0, one.party, one.said, one.facts)


async def test_what_differs_is_another_one(store: Store) -> None:
    (block,) = chain(1, 1)
    one = finding("one")
    others = [finding("one", kind="even"), finding("two"), finding("one", at=at(block, 9))]
    async with store.begin(T0) as unit:
        made = [await unit.findings.add(1, "some", each) for each in (one, *others)]
        made.append(await unit.findings.add(2, "some", one))
        made.append(await unit.findings.add(1, "other", one))
    assert [new for _, new in made] == [True] * 6
    async with store.read() as view:
        assert await view.findings.all() == [row for row, _ in made]
        assert await view.findings.all("other") == [made[-1][0]]
        assert await view.findings.all(limit=2) == [row for row, _ in made[-2:]]


async def test_nothing_can_be_sent_over_a_finding(store: Store) -> None:
    """Its name in the journal is one that the outbox refuses."""
    async with store.begin(T0) as unit:
        await unit.findings.add(1, "some", finding("one", ground=Ground.ABSENCE))
        (entry,) = await unit.journal.after(0)
    outbox = await Outbox.claim(store, ME, "test", T0)
    with pytest.raises(AuditRefused):
        await outbox.propose(Intent("some", entry.subject, Action.CHALLENGE, Call(ME, b"", 0), T0), ME, T0)
