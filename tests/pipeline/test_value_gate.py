"""The expected-value gate: what it lets through pays on average, at the price at which it is reckoned."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import ONE, Millionths, Mode, Wei
from challenger.pipeline.gates import Limits, Purse, overdrawn, worthless
from challenger.sampling.economics import Stakes, expected_value

amounts = st.integers(0, 10**24).map(Wei)
rates = st.integers(0, ONE).map(Millionths)
stakes = st.builds(Stakes, bond=amounts, reward=amounts, gas=amounts, win=rates)


def limits(certainty: int, least: int) -> Limits:
    return Limits(Mode.LIVE, Wei(10**30), Wei(least), Millionths(certainty), 2, 60)


@given(stakes, rates)
def test_the_value_is_the_exact_one_rounded_down(at: Stakes, certainty: Millionths) -> None:
    chance = Fraction(certainty, ONE) * Fraction(at.win, ONE)
    exact = chance * at.reward - (1 - chance) * at.bond - at.gas
    assert 0 <= exact - expected_value(at, certainty) < 1


@given(stakes, rates, st.integers(-(10**20), 10**20))
def test_nothing_passes_below_the_least_value_and_everything_above_does(at: Stakes, certainty: int, least: int) -> None:
    assert bool(worthless(limits(certainty, least), at)) == (expected_value(at, Millionths(certainty)) < least)


@given(stakes, rates, amounts, rates)
def test_dearer_gas_or_worse_odds_open_no_gate_and_a_larger_reward_closes_none(
    at: Stakes, certainty: int, more: Wei, other: Millionths
) -> None:
    gate = limits(certainty, 0)
    if worthless(gate, at):
        assert worthless(gate, replace(at, gas=at.gas + more))
        assert worthless(gate, replace(at, bond=at.bond + more))
        assert worthless(gate, replace(at, win=min(at.win, other)))
        assert worthless(limits(min(certainty, other), 0), at)
    else:
        assert not worthless(gate, replace(at, reward=at.reward + more))


@given(amounts, amounts, amounts)
def test_behind_a_rival_where_there_is_nothing_to_win_nothing_passes(bond: Wei, gas: Wei, least: Wei) -> None:
    certain = Stakes(bond, Wei(0), Wei(gas + 1), ONE)
    assert worthless(limits(ONE, least), certain)


def test_what_a_cap_says_is_in_the_money_of_the_bonds() -> None:
    gate = replace(limits(ONE, 5), exposure=Wei(10), unit="units of the token")
    out = Purse(Wei(8), Wei(0), Wei(0), Wei(9))
    assert overdrawn(gate, out, Wei(3), Wei(1)) == "exposure: bonds of 8 + 3 units of the token exceed the cap of 10"
    assert overdrawn(gate, out, Wei(2), Wei(10)) == "balance: 9 wei do not cover the 10 that it takes"
    assert worthless(gate, Stakes(Wei(0), Wei(1), Wei(0), ONE)).startswith("value: the expected value of 1 units of")
