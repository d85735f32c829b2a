"""However long the wait between two tries is set, what fails shortly before a close is tried again while it can still land."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest

from challenger.domain import Action, ChainEvent, State, UnixTime, Wei
from challenger.pipeline.backlog import Backlog
from challenger.pipeline.closing import Closing
from challenger.pipeline.investigate import Investigator
from challenger.pipeline.learned import Course, Learned
from challenger.pipeline.obstacles import Patience
from challenger.pipeline.outcome import Pace
from challenger.pipeline.schedule import soon
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import NEAREST_DEADLINE, Prometheus
from tests.pipeline.caps import PROVIDERS, Caps, empty_database

#: Seconds before a close after which nothing is filed, as the settings have it by default.
MARGIN = 60


@contextmanager
def closing_in(seconds: int, retry: int, *, fraud: bool = True) -> Iterator[Caps]:
    """A machine with one case, a confirmed fraud or data withheld, whose window closes so soon."""
    empty_database()
    machine = Caps()
    machine.patience, machine.margin = Patience(MARGIN, retry, 3_600), MARGIN
    machine.start(tight="exposure")
    try:
        machine.closes = machine.toy.closes = machine.blocks[-1].time + 12 + seconds
        machine.found(PROVIDERS[0], fraud=fraud, count=1)
        assert machine.closes - machine._now() == seconds
        yield machine
    finally:
        machine.teardown()


def _out_of_reach(machine: Caps) -> None:
    """One look at which the endpoint does not answer."""
    machine.toy.unreadable = set(machine.owner)
    machine.look()
    machine.toy.unreadable = set()


@pytest.mark.parametrize("retry", [60, 86_400])
@pytest.mark.parametrize("left", [115, 600, 7_200])
def test_one_answer_that_did_not_come_costs_no_case_its_window(retry: int, left: int) -> None:
    with closing_in(left, retry) as machine:
        _out_of_reach(machine)
        assert machine._waiting() == []
        looks = _until(machine, lambda: bool(machine._waiting()))
        assert looks * 12 <= max(24, left // 4), "and most of the window is left"


@pytest.mark.parametrize("retry", [60, 86_400])
def test_what_is_refused_at_the_second_step_is_looked_at_again_in_time(retry: int) -> None:
    """Sealed; then somebody's word keeps the challenge back for a moment."""
    with closing_in(240, retry) as machine:
        machine.look()
        (seal,) = machine._waiting()
        machine._run(machine._mine(seal, whole=True))
        machine.toy.refused = "not now"
        machine.look()
        machine.toy.refused = ""
        _until(machine, lambda: any(row.intent.action is Action.CHALLENGE for row in machine._waiting()))


def _until(machine: Caps, done: Callable[[], bool]) -> int:
    """Block after block; the number of blocks that it took."""
    blocks = 0
    while not done():
        machine.time()
        machine.look()
        blocks += 1
        assert machine._now() < machine.closes, "it was not filed in time"
    return blocks


def test_many_looks_are_left_whatever_the_wait_is_set_to() -> None:
    for left in (40, 100, 5_000):
        now, looks = UnixTime(0), 0
        while now < left:
            now, looks = soon(now, UnixTime(left), 86_400), looks + 1
        assert looks >= 8
    assert soon(UnixTime(5), UnixTime(5), 86_400) == 65, "a window that is past may open again"
    assert soon(UnixTime(5), UnixTime(100_000), 60) == 65


def test_the_nearest_deadline_is_told_until_there_is_none() -> None:
    metrics = Prometheus()

    async def look(machine: Caps) -> float | None:
        learned = Learned(machine.store, Course(2, 1, 2), ("torch", "numpy"))
        told, closing = Instruments(metrics), Closing(machine.store, machine.toy)
        backlog = Backlog(
            machine.store, learned, told, reward=Wei(1), workers=1, files=True, margin=MARGIN, closing=closing
        )
        await backlog.plan(machine._now(), ())
        return metrics.value(NEAREST_DEADLINE)

    async def done(machine: Caps) -> None:
        (commitment,) = machine.owner
        async with machine.store.begin(machine._now()) as unit:
            await unit.work.move(commitment, State.UNAVAILABLE, State.EXPIRED)

    with closing_in(600, 60, fraud=False) as machine:
        assert metrics.value(NEAREST_DEADLINE) is None
        assert machine._run(look(machine)) == 600
        machine._run(done(machine))
        assert machine._run(look(machine)) is None


class Behind:
    async def disagreement(self, case: Sequence[ChainEvent]) -> str:
        return "one of two shows it"


@pytest.mark.parametrize("retry", [60, 86_400])
def test_a_fraud_in_hand_that_endpoints_do_not_show_yet_is_looked_at_again_in_time(retry: int) -> None:
    """Replayed; and one endpoint is a block behind."""

    async def seconds_until_the_next_look(machine: Caps) -> int:
        store, now, (commitment,) = machine.store, machine._now(), machine.owner
        async with store.begin(now) as unit:
            await unit.work.move(commitment, State.UNAVAILABLE, State.SAMPLED)
            await unit.work.move(commitment, State.SAMPLED, State.REPLAYED)

        async def clock() -> UnixTime:
            return now

        learned, engine = Learned(store, Course(2, 1, 2), ("torch", "numpy")), cast("Any", None)
        closing, told = Closing(store, machine.toy), Instruments()
        backlog = Backlog(store, learned, told, reward=Wei(1), workers=1, files=True, margin=MARGIN, closing=closing)
        pace = Pace("torch", "numpy", attempts=5, retry=retry, workers=1, margin=MARGIN, demands=True)
        await Investigator(store, engine, Behind(), clock, pace, learned, backlog, closing, told).step()
        async with store.read() as view:
            item = await view.work.item(commitment)
        assert item is not None
        return item.work.next_try - now

    with closing_in(115, retry, fraud=False) as machine:
        assert 0 < machine._run(seconds_until_the_next_look(machine)) <= (115 - MARGIN) // 2
