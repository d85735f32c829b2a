"""The fee schedule's promises, as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain.fees import FeePolicy, Fees, bump, offer, urgency, waits
from challenger.domain import Wei
from challenger.errors import ConfigError

GWEI = 10**9
amounts = st.integers(min_value=0, max_value=10**13)
slacks = st.integers(min_value=-(10**6), max_value=2**62)


@st.composite
def policies(draw: st.DrawFn) -> FeePolicy:
    cap = draw(st.integers(min_value=1, max_value=10**13))
    haste = draw(st.integers(min_value=1, max_value=60))
    return FeePolicy(
        floor=Wei(draw(st.integers(min_value=1, max_value=cap))),
        cap=Wei(cap),
        tip=Wei(draw(st.integers(min_value=0, max_value=cap))),
        step=draw(st.integers(min_value=100_000, max_value=1_000_000)),
        horizon=draw(st.integers(min_value=1, max_value=10**6)),
        patience=draw(st.integers(min_value=haste, max_value=600)),
        haste=haste,
    )


@given(policies(), amounts, slacks)
def test_an_offer_stays_between_floor_and_cap_and_its_tip_below_it(policy: FeePolicy, base: int, slack: int) -> None:
    made = offer(policy, Wei(base), slack)
    assert policy.floor <= made.max_fee <= policy.cap
    assert 0 <= made.tip <= made.max_fee


@given(policies(), amounts, slacks, slacks)
def test_less_slack_never_offers_less_and_never_waits_longer(
    policy: FeePolicy, base: int, one: int, other: int
) -> None:
    late, early = sorted((one, other))
    urgent, calm = offer(policy, Wei(base), late), offer(policy, Wei(base), early)
    assert urgent.max_fee >= calm.max_fee
    assert urgent.tip >= calm.tip
    assert policy.haste <= waits(policy, late) <= waits(policy, early) <= policy.patience


@given(policies(), amounts, amounts, slacks, st.data())
def test_a_bump_is_what_a_node_accepts_or_nothing(
    policy: FeePolicy, base: int, last: int, slack: int, data: st.DataObject
) -> None:
    before = Fees(Wei(last), Wei(data.draw(st.integers(min_value=0, max_value=last))))
    after = bump(policy, before, Wei(base), slack)
    if after is None:
        # the cap is the only excuse
        assert before.max_fee * 11 // 10 >= policy.cap * 10 // 11 or before.tip * 11 > policy.cap * 9
        return
    assert after.max_fee <= policy.cap
    assert after.tip <= after.max_fee
    assert after.max_fee * 10 >= before.max_fee * 11
    assert after.tip * 10 >= before.tip * 11
    assert after.max_fee > before.max_fee
    assert after.tip > before.tip


@given(policies(), amounts, slacks)
def test_bumping_ends_at_the_cap(policy: FeePolicy, base: int, slack: int) -> None:
    fees: Fees | None = offer(policy, Wei(base), slack)
    for _ in range(1000):
        if fees is None:
            return
        fees = bump(policy, fees, Wei(base), slack)
    pytest.fail("the schedule never ends")


def test_figures_an_operator_would_check_by_hand() -> None:
    policy = FeePolicy(cap=Wei(500 * GWEI), tip=Wei(GWEI), horizon=1000, patience=36, haste=6)
    calm = offer(policy, Wei(10 * GWEI), 5000)
    assert calm == Fees(Wei(21 * GWEI), Wei(GWEI))
    assert bump(policy, calm, Wei(10 * GWEI), 5000) == Fees(Wei(23_625_000_000), Wei(1_125_000_000))
    assert offer(policy, Wei(10 * GWEI), 0) == Fees(Wei(44 * GWEI), Wei(4 * GWEI))
    assert (waits(policy, 5000), waits(policy, 500), waits(policy, -7)) == (36, 21, 6)
    assert (urgency(policy, 5000), urgency(policy, 250), urgency(policy, -1)) == (0, 750_000, 1_000_000)


def test_a_base_fee_spike_is_met_by_one_replacement() -> None:
    policy = FeePolicy(cap=Wei(2000 * GWEI))
    spiked = bump(policy, offer(policy, Wei(10 * GWEI), 9999), Wei(200 * GWEI), 9999)
    assert spiked is not None
    assert spiked.max_fee > 400 * GWEI


@pytest.mark.parametrize(
    "wrong",
    [
        {"floor": 0},
        {"floor": 10, "cap": 9},
        {"tip": 10**15},
        {"step": 99_999},
        {"horizon": 0},
        {"haste": 0},
        {"haste": 40, "patience": 30},
    ],
)
def test_senseless_policies_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="fees:"):
        FeePolicy(**wrong)  # type: ignore[arg-type]
