"""Plays of a policy: what must always hold, and cases whose end one can work out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.backtest.past import Truth
from challenger.backtest.simulate import Fate, World, play
from challenger.domain import Wei
from challenger.pipeline.obstacles import DEMAND_GAS, DISPUTE_GAS
from tests.backtest.pasts import BLOCK, PARAMS, WINDOW, choice, history, past

SECRET = bytes(32)
WORLD = World()
#: From a confirmed fraud to its challenge: two transactions, two blocks to wait between them.
WAY = 4 * BLOCK
FRAUDS = (Truth.WRONG, Truth.WITHHELD)

made = st.lists(
    st.builds(
        past,
        st.integers(0, 10**9),
        st.integers(0, 2 * WINDOW),
        st.sampled_from(Truth),
        st.integers(1, 4),
        st.none() | st.integers(0, 3 * WINDOW),
    ),
    max_size=60,
    unique_by=lambda one: one.commitment,
)
policies = st.builds(
    "any:base={},newcomer={},workers={},exposure={},per_provider={},per_day={},correlated_providers={},delay={}".format,
    st.sampled_from([0, 300_000, 1_000_000]),
    st.sampled_from([0, 500_000]),
    st.integers(1, 3),
    st.sampled_from([0, 10**16, 10**17, 3 * 10**17, 10**19]),
    st.sampled_from([0, 10**17]),
    st.sampled_from([0, 2 * 10**17]),
    st.sampled_from([1, 2, 1_000]),
    st.integers(1, 20),
)


@given(made, policies, st.sampled_from([1.0, 60.0, 900.0]), st.binary(min_size=32, max_size=32))
def test_whatever_happened_every_fraud_has_one_fate_and_no_cap_is_passed(pasts, text, seconds, secret) -> None:
    chosen = choice(text)
    told = play(history(pasts, replay=seconds), chosen, WORLD, secret)
    frauds = [one for one in pasts if one.truth in FRAUDS]
    assert sum(told.fates.values()) == len(frauds)
    assert told.peak <= chosen.limits.exposure
    assert told.won == told.fates[Fate.CAUGHT] * PARAMS.reward
    assert len(told.slacks) == told.fates[Fate.CAUGHT]
    assert all(0 < slack <= WINDOW for slack in told.slacks)
    assert told.fates[Fate.UNDRAWN] + told.drawn <= len(pasts)
    assert told.replays + told.unjudged <= told.drawn
    assert sum(told.refusals.values()) == told.fates[Fate.REFUSED]
    assert told == play(history(pasts, replay=seconds), chosen, WORLD, secret)


@given(made)
def test_who_draws_all_leaves_nothing_undrawn_and_who_draws_nothing_finds_nothing(pasts) -> None:
    everything = play(history(pasts), choice(), WORLD, SECRET)
    assert everything.drawn == len(pasts)
    assert everything.fates[Fate.UNDRAWN] == 0
    nothing = play(history(pasts), choice("none:base=0,newcomer=0,offender=0"), WORLD, SECRET)
    assert (nothing.drawn, nothing.busy, nothing.gas, nothing.won) == (0, 0.0, 0, 0)
    assert nothing.fates == Counter({Fate.UNDRAWN: n} if (n := sum(one.truth in FRAUDS for one in pasts)) else {})


def test_a_fraud_takes_its_way_and_pays() -> None:
    told = play(history([past(1, 0, Truth.WRONG)]), choice(), WORLD, SECRET)
    assert told.fates == {Fate.CAUGHT: 1}
    # two blocks until it is drawn, a replay, a confirmation, the way to the challenge
    assert told.slacks == [WINDOW - 2 * BLOCK - 10 - 30 - WAY]
    assert (told.gas, told.won) == (DISPUTE_GAS * WORLD.gas_price, PARAMS.reward)
    assert (told.peak, told.busy, told.replays) == (PARAMS.challenge_bond, 40.0, 1)
    assert told.net == told.won - told.gas


def test_withheld_data_is_fetched_twice_and_demanded() -> None:
    told = play(history([past(1, 0, Truth.WITHHELD)]), choice(), WORLD, SECRET)
    assert told.fates == {Fate.CAUGHT: 1}
    assert told.slacks == [WINDOW - 2 * BLOCK - 60 - BLOCK]
    assert (told.gas, told.peak, told.replays) == (DEMAND_GAS * WORLD.gas_price, PARAMS.demand_bond, 0)


@pytest.mark.parametrize(("rival", "fate", "gas"), [(50, Fate.OTHERS, 0), (100, Fate.OTHERS, 1), (200, Fate.CAUGHT, 1)])
def test_who_comes_first_gets_the_bounty(rival, fate, gas) -> None:
    """Ours is confirmed after 64 seconds and stands after 112."""
    told = play(history([past(1, 0, Truth.WRONG, rival=rival)]), choice(), WORLD, SECRET)
    assert told.fates == {fate: 1}
    assert told.gas == gas * DISPUTE_GAS * WORLD.gas_price
    assert told.won == (PARAMS.reward if fate is Fate.CAUGHT else 0)


def test_a_replay_that_takes_too_long_is_a_deadline_missed() -> None:
    pasts = [past(1, 0, Truth.WRONG), past(2, 0)]
    told = play(history(pasts, replay=WINDOW), choice(), WORLD, SECRET)
    assert told.fates == {Fate.LATE: 1}
    assert told.missed == 2 - (told.replays - 1)


def test_more_work_than_fits_is_shed_and_more_workers_make_room() -> None:
    pasts = [past(number, number, Truth.WRONG if number % 10 == 0 else Truth.RIGHT) for number in range(200)]
    slow = play(history(pasts, replay=100.0), choice(), WORLD, SECRET)
    assert slow.fates[Fate.SHED] > 0
    assert slow.missed > 100
    quick = play(
        history(pasts, replay=100.0),
        choice(f"many:base=1000000,correlated_providers=1000,workers=20,exposure={10**19}"),
        WORLD,
        SECRET,
    )
    assert quick.missed == 0
    assert quick.fates == {Fate.CAUGHT: 20}


def test_bonds_that_are_out_keep_others_from_being_filed_until_they_are_back() -> None:
    pasts = [past(number, 0, Truth.WRONG, provider=number) for number in (1, 2, 3)]
    text = f"tight:base=1000000,correlated_providers=1000,exposure={PARAMS.challenge_bond}"
    told = play(history(pasts), choice(text), replace(WORLD, ruling=1_800), SECRET)
    assert told.fates == {Fate.CAUGHT: 2, Fate.REFUSED: 1}
    assert told.peak == PARAMS.challenge_bond
    assert told.refusals == {"exposure": 1}
    assert play(history(pasts), choice(text), replace(WORLD, ruling=60), SECRET).fates == {Fate.CAUGHT: 3}


def test_correlated_accusations_wait_for_a_person() -> None:
    pasts = [past(number, 0, Truth.WRONG, provider=number) for number in (1, 2)]
    chosen = choice("two:base=1000000,correlated_providers=2")
    told = play(history(pasts), chosen, replace(WORLD, approval=600), SECRET)
    assert (told.fates, told.pauses) == ({Fate.CAUGHT: 2}, 1)
    assert WINDOW - told.slacks[-1] > 600
    nobody = play(history(pasts), chosen, replace(WORLD, approval=WINDOW), SECRET)
    # the first was filed before the second was found
    assert nobody.fates == {Fate.CAUGHT: 1, Fate.REFUSED: 1}
    assert nobody.refusals == {"correlated": 1}


def test_what_costs_more_than_it_brings_is_not_filed() -> None:
    told = play(history([past(1, 0, Truth.WRONG)]), choice(), World(gas_price=Wei(400 * 10**9)), SECRET)
    assert (told.fates, told.refusals) == ({Fate.CAUGHT: 1}, {})
    dear = choice(f"dear:base=1000000,min_value={10**18}")
    told = play(history([past(1, 0, Truth.WRONG)]), dear, WORLD, SECRET)
    assert (told.fates, told.refusals) == ({Fate.REFUSED: 1}, {"value": 1})


def test_below_the_gas_price_nothing_is_mined() -> None:
    cheap = choice(f"cheap:base=1000000,max_fee={WORLD.gas_price - 1}")
    told = play(history([past(1, 0, Truth.WRONG)]), cheap, WORLD, SECRET)
    assert (told.fates, told.refusals, told.gas) == ({Fate.REFUSED: 1}, {"max_fee": 1}, 0)


def test_a_pause_without_end_ends_with_the_window() -> None:
    pasts = [past(number, 0, Truth.WRONG, provider=number, rival=5_000) for number in (1, 2)]
    chosen = choice("one:base=1000000,correlated_providers=1")
    told = play(history(pasts), chosen, replace(WORLD, approval=1 << 53), SECRET)
    # the rival came after the window
    assert told.fates == {Fate.REFUSED: 2}
    assert told.refusals == {"correlated": 2}


def test_a_provider_earns_trust_and_loses_it() -> None:
    """Drawn always until ten replays judged it, never after, and always again from a confirmed fraud on."""
    text = "trust:base=0,newcomer=1000000,trusted_after=10,offender=1000000,correlated_providers=1000"
    honest = [past(number, 300 * number) for number in range(30)]
    assert play(history(honest), choice(text), WORLD, SECRET).drawn == 10
    caught = [past(number, 300 * number, Truth.WRONG if number == 5 else Truth.RIGHT) for number in range(30)]
    assert play(history(caught), choice(text), WORLD, SECRET).drawn == 30
