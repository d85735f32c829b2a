"""Providers' answers, counted: over time, and how long they took."""

from __future__ import annotations

from dataclasses import replace

from challenger.domain import ONE, Address, TaskOpened, TaskTaken, UnixTime, Verdict, VerdictKind, Wei
from challenger.store import Store

from .chains import at, chain, committed, h

VALID = Verdict(VerdictKind.VALID, "", "torch", h(1), h(2), {}, 0.5)


async def test_tallies_by_period_and_durations(store: Store) -> None:
    first, second, third = chain(1, 3)
    made = committed(third, 1)
    stray = committed(third, 2, log_index=1, provider=made.provider, task=h("a task that the index has not got"))
    opened = TaskOpened(
        at(first), made.task, made.model, made.provider, h("in"), b"", "", 1, h("entropy"), Wei(1), UnixTime(2**40)
    )
    taken = TaskTaken(at(second), made.task, made.provider, h("seed"))
    await store.index().apply([first, second, third], [opened, taken, made, stray], None)
    for later, kind, fresh in ((40, "UNAVAILABLE", False), (70, "VALID", False), (90, "VALID", True)):
        async with store.begin(UnixTime(third.time + later)) as unit:
            await unit.verdicts.add(made.commitment, replace(VALID, kind=VerdictKind(kind)), fresh=fresh)
    async with store.read() as view:
        tallies = await view.records.tallies(ONE, UnixTime(0), period=86_400)
        assert {tally.start for tally in tallies} == {made.committed_at - made.committed_at % 86_400}
        assert sum(tally.answers for tally in tallies) == 2
        assert {tally.start for tally in await view.records.tallies(ONE, UnixTime(0), made.provider)} == {0}
        whose = (made.provider, made.model)
        assert await view.records.committed_after() == [(*whose, made.committed_at - second.time, 1)]
        assert await view.records.committed_after(Address("0x" + "99" * 20)) == []
        assert await view.records.judged_after(made.provider) == [(*whose, third.time + 70 - made.committed_at, 1)]
