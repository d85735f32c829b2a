"""What is wished for is sent soon, however many cases wait, and each of those has its look all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from challenger.domain import State, TxState, Verdict, VerdictKind
from challenger.pipeline.obstacles import Patience
from challenger.store import subject_of
from tests.pipeline.caps import PROVIDERS, Caps, Toy, empty_database
from tests.store.chains import committed, h

#: What goes to an endpoint.
ASKED = (
    "pinned",
    "window",
    "eligibility",
    "aid",
    "demand_eligibility",
    "prospect",
    "demand_prospect",
    "open_dispute",
    "open_demand",
    "advance",
    "balance",
    "gas_price",
    "refusal",
)
MANY, FEW = h("the model that is not well"), h("another model")
#: Requests that one look takes, or a little more.
ONE_LOOK = 15


@dataclass
class Counting(Toy):
    """Counts each request; those in ``refused_ones`` may not be disputed, upon those in ``broken_ones`` we have a bug."""

    requests: int = 0
    at_wish: dict[bytes, int] = field(default_factory=dict)
    looked_at: Counter[bytes] = field(default_factory=Counter)
    refused_ones: set[bytes] = field(default_factory=set)
    broken_ones: set[bytes] = field(default_factory=set)
    broken_disputes: set[int] = field(default_factory=set)
    advanced: Counter[int] = field(default_factory=Counter)

    def __getattribute__(self, name: str) -> Any:
        if name in ASKED:
            self.requests += 1
        return super().__getattribute__(name)

    async def advance(self, dispute: Any) -> None:
        self.advanced[dispute] += 1
        if dispute in self.broken_disputes:
            raise KeyError("a member that is not there")

    async def eligibility(self, accusation: Any, lead: int) -> str:
        self.looked_at[accusation.commitment] += 1
        return "not now" if accusation.commitment in self.refused_ones else ""

    async def open_dispute(self, accusation: Any) -> Any:
        if accusation.commitment in self.broken_ones:
            raise KeyError("a member that is not there")
        self.at_wish[accusation.commitment] = self.requests
        return await super().open_dispute(accusation)


class Crowd(Caps):
    """A watcher before very many cases."""

    patience = Patience(0, 60, 3_600)

    def toy_of(self, funds: int) -> Toy:
        return Counting(funds)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    empty_database()
    made = Crowd()
    made.start(tight="day")
    raise_caps(made)
    yield made
    made.teardown()


def raise_caps(machine: Caps) -> None:
    limits = replace(machine.filer._limits, exposure=10**9, per_provider=0, per_day=0)
    machine.filer._limits = machine.filer._obstacles._limits = limits
    machine.toy.funds = 10**9


def found(machine: Caps, model: bytes, count: int, closes: int) -> list[bytes]:
    """Confirmed frauds of one model, all in one block; the first closes first."""

    async def write() -> list[bytes]:
        where = machine.blocks[-1]
        events = []
        for index in range(count):
            machine.names += 1
            provider = PROVIDERS[index % len(PROVIDERS)]
            name = f"{model.hex()}-{machine.names}"
            events.append(
                committed(where, name, index, provider=provider, model=model, closes=where.time + closes + index)
            )
        await machine._grow(*events)
        verdict = Verdict(VerdictKind.FRAUD, "output", "torch", h(1), h(2), {}, 0.0)
        async with machine.store.begin(machine._now()) as unit:
            for event in events:
                one = await unit.verdicts.add(event.commitment, verdict, fresh=False)
                two = await unit.verdicts.add(event.commitment, replace(verdict, backend="numpy"), fresh=True)
                await unit.work.move(event.commitment, State.OBSERVED, State.SAMPLED)
                await unit.work.move(event.commitment, State.SAMPLED, State.REPLAYED, verdict=one)
                await unit.work.move(event.commitment, State.REPLAYED, State.CONFIRMED, confirmation=two)
                machine.owner[event.commitment] = event.provider
        return [event.commitment for event in events]

    done: list[bytes] = machine._run(write())
    return done


def wishes(machine: Caps) -> list[str]:
    return [row.intent.subject for row in machine._waiting()]


@pytest.mark.parametrize("when", ["first", "last"])
def test_a_paused_model_keeps_no_other_waiting(crowd: Crowd, when: str) -> None:
    """Three hundred cases of a model that is paused cost no request, whether the urgent one comes before or after them."""
    found(crowd, MANY, 300, closes=50_000)
    (urgent,) = found(crowd, FEW, 1, closes=10_000 if when == "first" else 90_000)

    async def stop() -> None:
        async with crowd.store.begin(crowd._now()) as unit:
            await unit.approvals.pause("lost", subject_of(MANY), "a dispute was lost")

    crowd._run(stop())
    while not wishes(crowd):
        assert crowd._run(crowd.filer.step(crowd.blocks[-1]))
    assert wishes(crowd) == [subject_of(urgent)]
    assert crowd.toy.requests <= 2 * ONE_LOOK


def test_what_is_wished_for_is_not_kept_by_those_that_endpoints_refuse(crowd: Crowd) -> None:
    crowd.toy.refused_ones = set(found(crowd, MANY, 120, closes=50_000))
    (urgent,) = found(crowd, FEW, 1, closes=10_000)
    crowd.look()
    assert wishes(crowd) == [subject_of(urgent)]
    assert crowd.toy.requests - crowd.toy.at_wish[urgent] <= 6 * ONE_LOOK, "the step is over, and the sender's turn"


def test_what_comes_meanwhile_and_closes_first_does_not_wait_for_all_others(crowd: Crowd) -> None:
    crowd.toy.refused_ones = set(found(crowd, MANY, 120, closes=50_000))
    assert crowd._run(crowd.filer.step(crowd.blocks[-1])), "there is more to do"
    (urgent,) = found(crowd, FEW, 1, closes=10_000)
    before = crowd.toy.requests
    crowd.look()
    assert wishes(crowd) == [subject_of(urgent)]
    assert crowd.toy.at_wish[urgent] - before <= 2 * ONE_LOOK


def _steps(machine: Crowd, waited: Sequence[bytes], *, between: Any = lambda: None) -> int:
    """Steps until each of ``waited`` was looked at, a block after each."""
    steps = 0
    while any(not machine.toy.looked_at[one] for one in waited):
        machine.look()
        between()
        machine.time()
        steps += 1
        assert steps <= 60, "some are never looked at"
    return steps


def test_each_has_its_look_although_those_before_it_come_due_again(crowd: Crowd) -> None:
    """A look at all takes longer than the wait until the next one at the first."""
    waited = found(crowd, MANY, 200, closes=50_000)
    crowd.toy.refused_ones = set(waited)
    _steps(crowd, waited)
    assert max(crowd.toy.looked_at.values()) <= 3


@pytest.mark.slow
def test_each_has_its_look_although_what_is_being_filed_fails_and_fails(crowd: Crowd) -> None:
    """Forty seals that revert whenever they are tried, each tried again in a while: first in each round, and not alone."""
    failing = found(crowd, FEW, 40, closes=10_000)
    while any(not crowd.toy.at_wish.get(one) for one in failing):
        crowd.look()
        crowd.time()

    def fail() -> None:
        for row in crowd._waiting():
            crowd._run(crowd._close(row, TxState.ABANDONED))

    fail()
    waited = found(crowd, MANY, 100, closes=50_000)
    crowd.toy.refused_ones = set(waited)
    _steps(crowd, waited, between=fail)
    tried = crowd._run(crowd._rows())
    assert len(tried) == 40
    assert all(row.version > 3 for row in tried), "and they were tried again meanwhile"


@pytest.mark.parametrize("under_way", [True, False])
def test_a_case_upon_which_we_have_a_bug_keeps_no_other_waiting(crowd: Crowd, under_way: bool) -> None:
    (broken,) = found(crowd, MANY, 1, closes=10_000)
    if under_way:
        crowd.look()
        for row in crowd._waiting():
            crowd._run(crowd._close(row, TxState.ABANDONED))
        crowd.time()
    crowd.toy.broken_ones = {broken}
    (other,) = found(crowd, FEW, 1, closes=90_000)
    with pytest.raises(KeyError):  # told, and not before the other had its look
        crowd._run(crowd.filer.step(crowd.blocks[-1]))
    assert wishes(crowd) == [subject_of(other)]


def test_a_dispute_upon_which_we_have_a_bug_keeps_no_other_waiting(crowd: Crowd) -> None:
    found(crowd, MANY, 3, closes=50_000)
    for _ in range(12):
        crowd.look()
        if crowd._waiting():
            crowd.all_mined()
        crowd.time()
        crowd.pursue()
    assert len(crowd.toy.advanced) == 3, "all are disputed by now"
    for broken in list(crowd.toy.advanced):
        crowd.toy.broken_disputes = {broken}
        before = Counter(crowd.toy.advanced)
        with pytest.raises(KeyError):
            crowd.pursue()
        assert Counter(crowd.toy.advanced) - before == Counter(dict.fromkeys(before, 1))


def test_when_all_have_had_their_look_the_loop_may_rest(crowd: Crowd) -> None:
    crowd.toy.refused_ones = set(found(crowd, MANY, 40, closes=50_000))
    steps = 0
    while crowd._run(crowd.filer.step(crowd.blocks[-1])):
        steps += 1
        assert steps < 10
    assert steps
    assert set(crowd.toy.looked_at.values()) == {1}
