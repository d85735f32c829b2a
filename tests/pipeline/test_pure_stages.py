from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import (
    TRANSITIONS,
    Capability,
    Hash32,
    Millionths,
    Mode,
    State,
    UnixTime,
    VerdictKind,
    Wei,
    Window,
    may_move,
)
from challenger.pipeline.gates import Limits, Situation, refusal, temporary
from challenger.pipeline.judge import Observed, confirms, inconclusive, judge, unavailable
from challenger.sampling.economics import Stakes

A, B, C, X = (Hash32(bytes([i]) * 32) for i in range(4))


def observed(**changes):
    return replace(Observed("torch", A, B, C, {"cpu": "x"}, 0.5), **changes)


def test_equal_roots_are_valid():
    assert judge(A, B, C, observed()).kind is VerdictKind.VALID


@pytest.mark.parametrize(("change", "detail"), [({"output_root": X}, "output"), ({"state_root": X}, "state")])
def test_one_differing_root_is_fraud_and_named(change, detail):
    verdict = judge(A, B, C, observed(**change))
    assert verdict.kind is VerdictKind.FRAUD
    assert verdict.detail == detail


def test_a_replay_of_another_input_accuses_nobody():
    verdict = judge(A, B, C, observed(input_root=X, output_root=X, state_root=X))
    assert verdict.kind is VerdictKind.INCONCLUSIVE


def test_fraud_needs_a_second_backend_with_the_same_bits():
    first = judge(A, X, C, observed())
    second = judge(A, X, C, observed(backend="numpy"))
    assert confirms(first, second) == ""
    assert "is related to the first" in confirms(first, first)
    assert "different roots" in confirms(first, judge(A, X, C, observed(backend="numpy", state_root=X)))
    assert "VALID" in confirms(first, judge(A, B, C, observed(backend="numpy")))
    assert "INCONCLUSIVE" in confirms(first, inconclusive("timeout", "numpy"))
    assert "nothing to confirm" in confirms(unavailable("input"), second)


@given(st.sampled_from([A, B, C, X]), st.sampled_from([A, B, C, X]), st.sampled_from([A, B, C, X]))
def test_fraud_only_when_a_root_differs_on_the_same_input(i, o, s):
    verdict = judge(A, B, C, observed(input_root=i, output_root=o, state_root=s))
    assert (verdict.kind is VerdictKind.FRAUD) == (i == A and (o != B or s != C))


LIMITS = Limits(Mode.LIVE, Wei(100), Wei(0), Millionths(999_000), 2, 60)
FINE = Situation(
    now=UnixTime(1_000),
    window=Window(UnixTime(900), UnixTime(2_000), frozen=True),
    capability=Capability.OPEN,
    stakes=Stakes(Wei(10), Wei(50), Wei(1), Millionths(1_000_000)),
    spends=Wei(11),
    outstanding=Wei(0),
    balance=Wei(1_000),
    accused=1,
    pinned=True,
    refused="",
)


def test_nothing_stands_in_the_way_of_a_good_case():
    assert refusal(LIMITS, FINE) == ""


@pytest.mark.parametrize(
    ("limits", "at", "says"),
    [
        ({"mode": Mode.WATCH}, {}, "mode"),
        ({}, {"capability": Capability.REPORT_ONLY}, "capability"),
        ({}, {"pinned": False}, "code"),
        ({}, {"accused": 2}, "correlated"),
        ({}, {"now": UnixTime(1_940)}, "window"),
        ({}, {"now": UnixTime(5_000)}, "window"),
        ({}, {"refused": "all dispute slots are taken"}, "eligibility"),
        ({}, {"outstanding": Wei(91)}, "exposure"),
        ({}, {"balance": Wei(10)}, "balance"),
        ({}, {"stakes": Stakes(Wei(10), Wei(1), Wei(5), Millionths(500_000))}, "value"),
    ],
)
def test_each_gate_refuses_and_says_why(limits, at, says):
    reason = refusal(replace(LIMITS, **limits), replace(FINE, **at))
    assert reason.startswith(says + ":")
    assert temporary(reason) == (says not in ("window", "capability", "mode"))


def test_arrows_of_the_state_machine():
    assert set(TRANSITIONS) == set(State)
    assert may_move(State.SAMPLED, State.REPLAYED)
    assert not may_move(State.OBSERVED, State.FILING)
    assert all(may_move(state, State.ORPHANED) for state in State)
    spends = {old for old in State if old is not State.ORPHANED and State.FILING in TRANSITIONS[old]}
    assert spends == {State.CONFIRMED, State.UNAVAILABLE, State.FILED}
