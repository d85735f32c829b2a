"""Hand-offs as the record has them, on both databases."""

from __future__ import annotations

from typing import Any

from challenger.audit.handoffs import ledger_of
from challenger.audit.hops import Fault, Role, Step
from challenger.domain import (
    CommitmentId,
    DemandClosed,
    DemandOpened,
    DemandOutcome,
    DisputeClosed,
    DisputeOutcome,
    JobClosed,
    JobStatus,
    ModelDisabled,
    ModelRegistered,
    Part,
    State,
    TaskClosed,
    TaskId,
    TaskOpened,
    TaskTaken,
    Verdict,
    VerdictKind,
)
from challenger.store import Store

from .chains import ME, T0, THEM, at, audit_verdict, chain, committed, demand_opened, dispute_opened, h

K = VerdictKind
ALWAYS = (0, 2**62)


def registered(where: Any) -> Any:
    digests = (h("file"), h("artefact"), h("program"))
    return ModelRegistered(at(where), h("model"), ME, *digests, 1, "exact", 3, 9, "https://m", b"", h("known"))


def opened(where: Any, name: object, uri: str = "") -> Any:
    fee, deadline = 5, where.time + 600
    return TaskOpened(
        at(where), h("task", name), h("model"), THEM, h("in", name), b"", uri, 9, h("e", name), fee, deadline
    )


def taken(where: Any, name: object) -> Any:
    return TaskTaken(at(where), h("task", name), "0x" + h("provider", name).hex()[:40], h("seed", name))


async def all_of(store: Store, since: int = 0, until: int = 2**62, page: int = 500) -> list[Any]:
    async with store.read() as view:
        return [story async for story in view.handoffs.between(since, until, page)]


async def test_a_story_has_all_that_was_said_of_it(store: Store) -> None:
    blocks = chain(1, 12)
    job = h("commitment", "a")
    events = [
        registered(blocks[0]),
        opened(blocks[1], "a", "https://i"),
        taken(blocks[3], "a"),
        committed(blocks[4], "a", output_uri="https://o"),
        demand_opened(blocks[5], job, 3),
        DemandClosed(at(blocks[6]), 3, job, DemandOutcome.ANSWERED, b"data", 1, 0),
        dispute_opened(blocks[7], job, 4),
        DisputeClosed(at(blocks[8]), 4, job, DisputeOutcome.EXPIRED, 0, 0),
        JobClosed(at(blocks[9]), job, JobStatus.VOID),
        ModelDisabled(at(blocks[10]), h("model")),
    ]
    await store.index().apply(blocks, events, None)
    async with store.begin(T0) as unit:
        await unit.settings.pin("deployment", "7/" + ME)
        said = Verdict(K.VALID, "", "torch", h("output", "a"), h("state", "a"), {}, 1.0)
        first = await unit.verdicts.add(job, said, fresh=False)
        await unit.work.note(job, State.OBSERVED, verdict=first, selected=True)
        here = await unit.audits.add(audit_verdict(job, block=5, block_hash=blocks[4].hash))
        await unit.audits.add(audit_verdict(job, K.FRAUD, block=5, block_hash=h("a fork")))
    async with store.read() as view:
        story = await view.handoffs.story(CommitmentId(job))
        same = await view.handoffs.task_story(TaskId(h("task", "a")))
        assert await view.handoffs.story(CommitmentId(h("nothing"))) is None
        assert await view.handoffs.task_story(TaskId(h("nothing"))) is None
    assert story is not None
    assert story == same
    assert [story] == await all_of(store)
    assert [event.kind for event in story.events] == [type(event).__name__ for event in events]
    assert [event.time for event in story.events] == [event.at.block * 12 + T0 for event in events]
    assert (story.task.seed, story.model.registrar, story.work.selected) == (h("seed", "a"), ME, True)  # type: ignore[union-attr]
    assert (story.verdict.id, story.confirmation, story.audits) == (first, None, (here,))  # type: ignore[union-attr]
    assert (story.beacon, story.deployment) == (blocks[2].hash, "7/" + ME)
    assert [one.dispute for one in story.disputes] == [4]
    assert [one.demand for one in story.demands] == [3]
    ledger = ledger_of(story)
    (late,) = [hop for hop in ledger.hops if hop.fault]
    assert (late.step, late.fault, late.holder.role) == (Step.RULING, Fault.LATE, Role.ADJUDICATOR)
    # the seed on this chain follows from nothing: that is said, and nobody accused of it
    assert [hop.said for hop in ledger.hops if hop.step is Step.ASSIGNMENT] == [
        "the seed is not the one that follows from the recorded beacon: an endpoint or the record is wrong"
    ]


async def test_pages_times_and_lapsed_tasks(store: Store) -> None:
    blocks = chain(1, 20)
    names = range(4, 14)
    events = [committed(blocks[n], n) for n in names]
    events += [registered(blocks[0]), opened(blocks[1], "late"), taken(blocks[3], "late")]
    events += [opened(blocks[2], "open"), TaskClosed(at(blocks[15]), h("task", "late"), "lapsed")]
    await store.index().apply(blocks, events, None)
    expected = [h("commitment", n) for n in names]
    for page in (1, 3, 500):
        assert [story.identity for story in await all_of(store, page=page)] == [*expected, h("task", "late")]
    some = await all_of(store, blocks[6].time, blocks[9].time)
    assert [story.identity for story in some] == expected[2:5]
    (lapsed,) = await all_of(store, T0 + 600)
    first = ledger_of(lapsed).first
    assert first is not None
    assert (first.step, first.fault, first.responsible.role) == (Step.COMMITMENT, Fault.LATE, Role.PROVIDER)  # type: ignore[union-attr]
    async with store.read() as view:
        waiting = await view.handoffs.task_story(TaskId(h("task", "open")))
        assert await view.handoffs.beginning(h("task", "late").hex()[:12]) == [h("task", "late")]
        assert await view.handoffs.beginning(expected[0].hex()) == [expected[0]]
        assert await view.handoffs.beginning("") != []
    assert waiting is not None
    assert ledger_of(waiting).first is None


async def test_twins_and_condemned_models(store: Store) -> None:
    blocks = chain(1, 10)
    jobs = {name: h("commitment", name) for name in "abc"}
    events = [registered(blocks[0])]
    for number, name in enumerate("abc"):
        events += [opened(blocks[number + 1], name)]
        events += [committed(blocks[number + 4], name, output_root=h("the same"))]
    events += [
        DemandOpened(at(blocks[7]), 1, jobs["a"], ME, Part.WEIGHTS, 0, 1, T0 + 100),
        DemandClosed(at(blocks[8]), 1, jobs["a"], DemandOutcome.LOST, b"", 0, 0),
        JobClosed(at(blocks[9]), jobs["b"], JobStatus.FRAUD),
    ]
    await store.index().apply(blocks, events, None)
    stories = {story.identity: story for story in await all_of(store)}
    a, b, c = (stories[job] for job in jobs.values())
    assert (a.twin, c.twin) == (None, None), "looked for where a fraud is proved"
    assert b.twin is not None
    assert b.twin.commitment == jobs["a"]
    assert [story.condemned.demand for story in (a, b, c) if story.condemned] == [1, 1, 1]
    for story in (a, c):
        first = ledger_of(story).first
        assert first is not None
        assert (first.step, first.fault) == (Step.MODEL, Fault.WITHHELD)


async def test_what_a_reorganisation_took_back(store: Store) -> None:
    blocks = chain(1, 8)
    gone, again, anew = (h("commitment", name) for name in ("gone", "again", "anew"))
    index = store.index()
    events = [committed(blocks[1], "again"), committed(blocks[1], "anew", 1), committed(blocks[5], "gone")]
    events += [JobClosed(at(blocks[6]), again, JobStatus.FINAL), JobClosed(at(blocks[6], 1), anew, JobStatus.FINAL)]
    cursor = await index.apply(blocks, events, None)
    cursor = await index.rewind(blocks[3].number, cursor)
    fork = chain(5, 9, blocks[3], "fork")
    await index.apply(fork, [JobClosed(at(fork[3]), anew, JobStatus.FINAL)], cursor)
    async with store.read() as view:
        found = {one: await view.handoffs.story(CommitmentId(one)) for one in (gone, again, anew)}
        assert await view.handoffs.beginning(gone.hex()) == [gone]
    firsts = {one: ledger_of(story).first for one, story in found.items() if story}
    assert firsts[anew] is None
    for one, step in ((gone, Step.COMMITMENT), (again, Step.SETTLEMENT)):
        first = firsts[one]
        assert first is not None
        assert (first.step, first.fault, first.responsible.role) == (step, Fault.REVOKED, Role.CHAIN)  # type: ignore[union-attr]
    assert found[gone].undone[0].block_hash == blocks[5].hash  # type: ignore[union-attr]
    assert "had taken back the settlement of block 7" in ledger_of(found[anew]).hops[-1].said  # type: ignore[arg-type]
    assert {story.identity: story for story in await all_of(store)} == {again: found[again], anew: found[anew]}
