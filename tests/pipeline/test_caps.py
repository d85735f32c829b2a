"""The caps hold over any order of events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)

from challenger.domain import (
    Action,
    DemandClosed,
    DemandOpened,
    DemandOutcome,
    DisputeClosed,
    TxState,
    Wei,
)
from challenger.protocols.base import ETHER, Money
from challenger.store import subject_of
from tests.pipeline.caps import (
    BOND,
    CHALLENGER,
    DEMAND,
    PROVIDERS,
    Caps,
    Staked,
    empty_database,
)


@pytest.fixture
def machine() -> Iterator[Caps]:
    empty_database()
    made = Caps()
    made.start(tight="exposure")
    yield made
    made.teardown()


def test_one_case_that_cannot_be_read_keeps_no_other_waiting(machine: Caps) -> None:
    machine.found(PROVIDERS[0], fraud=True, count=2)
    machine.toy.unreadable = {next(iter(machine.owner))}
    machine.look()
    (row,) = machine._waiting()
    assert row.intent.subject == subject_of(list(machine.owner)[1])


def test_a_step_that_failed_is_not_tried_again_in_the_same_breath(machine: Caps) -> None:
    """Else a case whose simulation reverts would be proposed, given up and proposed, as fast as endpoints answer."""
    machine.found(PROVIDERS[0], fraud=True, count=1)
    machine.look()
    (row,) = machine._waiting()
    machine._run(machine._close(row, TxState.ABANDONED))
    for _ in range(3):
        assert not machine._run(machine.filer.step(machine.blocks[-1])), "nothing moves: the loop may rest"
        assert machine._waiting() == []
    machine.time()
    machine.look()
    assert [again.id for again in machine._waiting()] == [row.id]


def _demanded(machine: Caps, outcome: DemandOutcome) -> DemandOpened:
    """A demand of ours, filed and mined, that ended so."""
    machine.found(PROVIDERS[0], fraud=False, count=1)
    machine.look()
    (row,) = machine._waiting()
    machine._run(machine._mine(row, whole=True))
    machine.look()
    machine.pursue()
    (one,) = machine._open_ones()
    assert isinstance(one, DemandOpened)
    machine._run(machine._grow(DemandClosed(one.at, one.demand, one.commitment, outcome, b"", 0, 0)))
    machine.pursue()
    return one


def test_a_withdrawal_that_fails_is_tried_again_and_never_becomes_another(machine: Caps) -> None:
    _demanded(machine, DemandOutcome.LOST)
    machine.toy.credited = True
    tried = []
    for _ in range(12):
        machine.time()
        machine.pursue()
        for row in machine._waiting():
            tried.append(row.id)
            machine._run(machine._close(row, TxState.ABANDONED))
    assert len(set(tried)) == 1, "one row, however often it fails"
    assert 2 <= len(tried) <= 6, "and not at every block"


def test_a_demand_does_not_hide_what_an_accusation_has_been_promised(machine: Caps) -> None:
    """Sealed, and no challenge yet: the bond that it will need counts, however cheap the case is that asks."""
    machine.found(PROVIDERS[0], fraud=True, count=1)
    machine.look()
    machine.found(PROVIDERS[0], fraud=False, count=1)
    out = machine._run(machine.bonds.out(PROVIDERS[0], machine._now()))
    assert (out.everywhere, out.against, out.opened, out.unpaid) == (BOND, BOND, BOND, BOND)
    machine.look()
    out = machine._run(machine.bonds.out(PROVIDERS[0], machine._now()))
    assert (out.everywhere, out.against, out.opened, out.unpaid) == (BOND + DEMAND,) * 4
    assert machine._run(machine.bonds.out(PROVIDERS[1], machine._now())).against == 0


def test_what_is_signed_counts_against_its_provider_before_the_index_shows_it(machine: Caps) -> None:
    machine.found(PROVIDERS[0], fraud=False, count=1)
    machine.look()
    (row,) = machine._waiting()
    machine._run(machine._mine(row, whole=False))
    out = machine._run(machine.bonds.out(PROVIDERS[0], machine._now()))
    assert (out.against, out.unpaid) == (DEMAND, DEMAND)
    (row,) = machine._waiting()
    machine._run(machine._mine(row, whole=True))
    out = machine._run(machine.bonds.out(PROVIDERS[0], machine._now()))
    assert (out.against, out.unpaid, out.opened) == (DEMAND, 0, DEMAND)


def test_an_answered_demand_hides_no_accusation_of_the_same_commitment(machine: Caps) -> None:
    one = _demanded(machine, DemandOutcome.ANSWERED)
    machine._run(machine._accused(one.commitment))
    machine.look()
    out = machine._run(machine.bonds.out(PROVIDERS[0], machine._now()))
    assert (out.everywhere, out.against, out.opened) == (BOND, BOND, DEMAND + BOND)


def _third_of_two(machine: Caps) -> None:
    """Room for two bonds: two cases in dispute, one of them settled, and the third let through for it and sealed."""
    machine.found(PROVIDERS[0], fraud=True, count=3)
    machine.look()
    for _ in range(2):  # seal, then challenge
        machine.all_mined()
    first, _ = machine._open_ones()
    machine._run(machine._grow(DisputeClosed(first.at, first.dispute, first.commitment, CHALLENGER, 0, 0)))
    machine.time()
    machine.look()
    (seal,) = machine._waiting()
    machine.toy.sealed.add(bytes.fromhex(seal.intent.subject[2:66]))
    machine._run(machine._close(seal, TxState.FINAL))


@pytest.mark.parametrize("fraud", [True, False])
def test_a_bond_that_is_not_signed_is_not_asked_for_of_other_code(machine: Caps, *, fraud: bool) -> None:
    machine.found(PROVIDERS[0], fraud=fraud, count=1)
    machine.look()
    if fraud:
        (seal,) = machine._waiting()
        machine._run(machine._mine(seal, whole=True))
        machine.look()
    assert [row.state for row in _bonded(machine)] == [TxState.INTENT]
    machine.look()
    assert [row.state for row in _bonded(machine)] == [TxState.INTENT], "nothing speaks against it"
    machine.toy.as_pinned = False
    for _ in range(3):
        machine.time()
        machine.look()
        assert [row.state for row in _bonded(machine)] == [TxState.ABANDONED]
    machine.toy.as_pinned = True
    for _ in range(3):
        machine.time()
        machine.look()
    # data that is away is fetched again first
    assert [row.state for row in _bonded(machine)] == [TxState.INTENT if fraud else TxState.ABANDONED]


def _bonded(machine: Caps) -> list[Any]:
    return [row for row in machine._run(machine._rows()) if row.intent.action in (Action.CHALLENGE, Action.DEMAND)]


def _challenges(machine: Caps) -> list[Any]:
    return [row for row in machine._run(machine._rows()) if row.intent.action is Action.CHALLENGE]


@pytest.mark.parametrize("cap", ["exposure", "provider"])
@pytest.mark.parametrize("wished", [False, True])
def test_a_settlement_taken_back_leaves_no_room_for_what_is_not_signed(cap: str, wished: bool) -> None:
    """Found by a simulated world: what had been let through for the room that a settlement made was challenged after a
    reorganisation had taken the settlement back. ``wished``: its challenge was a row by then, and not signed."""
    empty_database()
    machine = Caps()
    machine.start(tight=cap)
    try:
        _third_of_two(machine)
        if wished:
            machine.look()
            assert [row.state for row in _challenges(machine)][2:] == [TxState.INTENT]
        machine._run(machine._back(2))
        for _ in range(3):
            assert [row.state for row in _challenges(machine)][2:] in ([], [TxState.ABANDONED])
            machine.look()
            machine.time()
        assert sum(bond for _, bond, _ in machine._run(machine._out())) == 2 * BOND
        one = machine._open_ones()[0]
        machine._run(machine._grow(DisputeClosed(one.at, one.dispute, one.commitment, CHALLENGER, 0, 0)))
        for _ in range(3):
            machine.time()
            machine.look()
        assert [row.state for row in _challenges(machine)][2:] == [TxState.INTENT], "once there is room again"
    finally:
        machine.teardown()


@pytest.mark.parametrize("kind", [Caps, Staked])
def test_no_order_of_events_lifts_a_cap(kind: type[Caps]) -> None:
    empty_database()
    run_state_machine_as_test(kind, settings=settings(max_examples=4, stateful_step_count=20, deadline=None))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Caps, Staked])
def test_no_long_order_of_events_lifts_a_cap(kind: type[Caps]) -> None:
    empty_database()
    run_state_machine_as_test(kind, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))


def test_gas_is_weighed_in_the_money_of_the_bonds() -> None:
    assert ETHER.of_gas(Wei(7)) == 7
    assert Money(price=Wei(2 * 10**18)).of_gas(Wei(7)) == 4  # a token worth two ether, rounded up
    assert Money(price=Wei(0)).of_gas(Wei(1)) > 10**70
