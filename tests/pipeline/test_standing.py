"""Alerts last as long as what they tell of: they end with it, are news when it comes back, and are said again after an hour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from challenger.domain import JobClosed, JobStatus, Mode, Wei
from challenger.pipeline.approval import decide, terms_of
from challenger.pipeline.backlog import Backlog
from challenger.pipeline.closing import Closing
from challenger.service import approve
from challenger.store import subject_of
from challenger.store.keep import EVERYTHING
from challenger.telemetry.notice import Notice
from tests.pipeline.caps import PROVIDERS, Caps, empty_database
from tests.store.chains import at


class Kept:
    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def take(self, notice: Notice) -> None:
        self.notices.append(notice)


@pytest.fixture
def machine() -> Iterator[Caps]:
    """Two providers of one model accused pause it."""
    empty_database()
    made = Caps()
    made.start(tight="exposure")
    limit(made, correlated_providers=2)
    made.kept = Kept()
    made.telemetry.alerts.send_to(made.kept)
    yield made
    made.teardown()


def limit(machine: Caps, **how: Any) -> None:
    obstacles = machine.filer._obstacles
    obstacles._limits = machine.filer._limits = replace(machine.filer._limits, **how)


def look(machine: Caps) -> None:
    machine.time()
    machine.look()


def told(machine: Caps, name: str) -> list[str]:
    machine._run(machine.telemetry.alerts.deliver())
    return [notice.about for notice in machine.kept.notices if notice.name == name]


def standing(machine: Caps, name: str) -> list[str]:
    return [about for there, about in machine.telemetry.alerts.active() if there == name]


def two_more(machine: Caps) -> None:
    for _ in range(2):
        machine.found("0x" + f"{0xC0 + machine.names:02x}" * 20, fraud=True, count=1)


def resume(machine: Caps) -> None:
    assert machine._run(approve(machine.store, machine._now(), "", "ada", "looked at both"))


def test_each_pause_is_told_while_it_lasts_and_after_an_hour_again(machine: Caps) -> None:
    two_more(machine)
    look(machine)
    (model,) = standing(machine, "paused")
    for _ in range(3):
        look(machine)
    assert told(machine, "paused") == [model]
    machine.seconds += 3_601
    look(machine)
    assert told(machine, "paused") == [model] * 2
    resume(machine)
    look(machine)
    assert standing(machine, "paused") == []
    machine.seconds += 60
    two_more(machine)
    look(machine)
    assert told(machine, "paused") == [model] * 3, "within the hour, and news all the same"
    resume(machine)
    look(machine)
    assert machine.telemetry.alerts.active() == []


def test_a_pause_that_was_there_before_the_watcher_is_told(machine: Caps) -> None:
    async def lost() -> None:
        async with machine.store.begin(machine._now()) as unit:
            await unit.approvals.pause("lost", subject_of(b"\x01" * 32), "a dispute was lost")
            await unit.approvals.pause("person", EVERYTHING, "ada stops it")

    machine._run(lost())
    look(machine)
    assert standing(machine, "paused") == [subject_of(b"\x01" * 32)], "whoever stopped it knows"


def _say(machine: Caps, *, approved: bool) -> None:
    async def write() -> None:
        (commitment,) = machine.owner
        async with machine.store.begin(machine._now()) as unit:
            item = await unit.work.item(commitment)
            assert item is not None
            terms = await terms_of(unit, machine.toy, item)
            await decide(unit, item, terms, approved=approved, person="ada", note="")

    machine._run(write())


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("fraud", [True, False], ids=["challenge", "demand"])
def test_a_word_ends_what_waits_for_it(machine: Caps, *, approved: bool, fraud: bool) -> None:
    limit(machine, mode=Mode.CONFIRM)
    machine.found(PROVIDERS[0], fraud=fraud, count=1)
    look(machine)
    (commitment,) = machine.owner
    assert standing(machine, "approval") == [subject_of(commitment)]
    _say(machine, approved=approved)
    look(machine)
    assert standing(machine, "approval") == []


def test_what_is_told_of_a_case_ends_with_the_case(machine: Caps) -> None:
    limit(machine, mode=Mode.CONFIRM)
    machine.found(PROVIDERS[0], fraud=True, count=1)
    look(machine)
    (commitment,) = machine.owner
    machine.telemetry.alerts.alert("disagreement", about=subject_of(commitment), why="two endpoints show two inputs")
    machine.telemetry.alerts.alert("endpoint", about="one of them")
    backlog = Backlog(
        machine.store,
        machine.learned,
        machine.telemetry,
        reward=Wei(1),
        workers=1,
        files=True,
        margin=0,
        closing=Closing(machine.store, machine.toy),
    )
    machine._run(backlog.plan(machine._now(), ()))
    assert standing(machine, "approval") == standing(machine, "disagreement") == [subject_of(commitment)]
    machine._run(machine._grow(JobClosed(at(machine.blocks[-1]), commitment, JobStatus.FRAUD)))
    machine.pursue()
    machine._run(backlog.plan(machine._now(), ()))
    assert machine.telemetry.alerts.active() == [("endpoint", "one of them")]
