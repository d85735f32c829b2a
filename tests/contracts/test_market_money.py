"""No sequence of calls creates or strands money, and no sequence harms the honest.

Three walks: everybody against everybody; an honest provider among people who try everything (with a
bench that rules, and with one that never does); an honest challenger who was first to accuse a cheat. Each is short by
default, longer under ``-m slow`` and longest with HYPOTHESIS_PROFILE=full.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from market_machine import TaskNote, Walk, actors, fees
from market_world import ETH, FINAL, FRAUD, account


class HonestProvider(Walk):
    """``pat`` takes tasks whose data it holds, commits what the model yields, and answers every demand in time."""

    alive = True  # whether the bench rules on pat's jobs

    def begin(self) -> None:
        self.world.enter("pat")
        self.before = self.world.wealth("pat")
        self.honest: set[bytes] = set()
        self.fees = 0
        self.judged = 0
        self.work("bob", True, True, ETH // 3)

    @rule(who=actors, input_uri=st.booleans(), output_uri=st.booleans(), fee=fees)
    def work(self, who: str, input_uri: bool, output_uri: bool, fee: int) -> None:
        opened = len(self.tasks)
        if len(self.honest) < 3:
            self.open_task(who, 0, input_uri, fee)
        if len(self.tasks) == opened:
            return
        note: TaskNote = self.tasks[-1]
        self.advance(2, 24)
        self.attempt("pat", "stake", value=ETH)
        if self.attempt("pat", "take", note.id).ok:
            self.honest.add(self.commit(note, "pat", output_uri))
            self.fees += fee

    def may_concede(self, who: str) -> bool:
        return who != "pat"

    def may_rule(self, dispute: int) -> bool:
        return self.world.view("dispute", dispute)["job"] not in self.honest

    def before_time_passes(self, seconds: int) -> None:
        for demand in range(1, self.demands + 1):
            asked = self.world.view("demand", demand)
            if asked["outcome"] == 0 and asked["job"] in self.honest:
                assert self.give_answer("pat", demand).ok
        for dispute in range(self.judged + 1, self.disputes + 1):
            if self.alive and not self.may_rule(dispute):
                self.world.rule(dispute, fraud=False)
        self.judged = self.disputes

    def judge(self) -> None:
        """With a bench that rules, every job of pat's is final and paid; with a silent one nothing of pat's is lost."""
        gained = self.world.evm.balance(account("pat")) - self.before
        if self.alive:
            assert all(self.world.view("job", job)["status"] == FINAL for job in self.honest)
        assert gained >= (self.fees if self.alive else 0)


class HonestProviderSilentBench(HonestProvider):
    alive = False


class HonestChallenger(Walk):
    """``eve`` was first to accuse ``cat`` of a wrong commitment; the bench rules at the last moment, and only hers for sure."""

    def begin(self) -> None:
        self.world.enter("eve")
        self.open_task("bob", 0, True, ETH)
        self.world.evm.mine(2)
        self.attempt("cat", "stake", value=ETH)
        self.attempt("cat", "take", self.tasks[0].id)
        self.cheat = self.commit(self.tasks[0], "cat", True, salt="cheat")
        self.before = self.world.wealth("eve")
        self.dispute = self.world.challenge(self.cheat, "eve", seconds=3)
        self.disputes = 1

    def may_rule(self, dispute: int) -> bool:
        return dispute != self.dispute

    def before_time_passes(self, seconds: int) -> None:
        state = self.world.view("dispute", self.dispute)
        ruled = self.world.evm.view(self.world.adjudicator, "ruling", self.world.market, self.dispute)
        if state["outcome"] == 0 and not ruled and self.world.evm.time + seconds >= state["rulingBy"]:
            self.world.rule(self.dispute, fraud=True)

    def judge(self) -> None:
        assert self.world.view("job", self.cheat)["status"] == FRAUD
        assert self.world.evm.balance(account("eve")) == self.before + self.world.split(ETH)[0]


MACHINES: list[type[RuleBasedStateMachine]] = [Walk, HonestProvider, HonestProviderSilentBench, HonestChallenger]


@pytest.mark.parametrize("machine", MACHINES)
def test_walks(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=40))
    assert machine in MACHINES


@pytest.mark.full
@pytest.mark.parametrize("machine", MACHINES)
def test_long_walks(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=settings().max_examples // 2, stateful_step_count=80)
    )
    assert machine in MACHINES
