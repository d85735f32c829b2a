"""The bound on bad answers: what it must always be, what it comes to, and how often it is wrong."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.audit.bounds import ALPHA, most
from challenger.domain import ONE, Millionths

counts = st.integers(0, 10_000)
rates = st.integers(0, ONE).map(Millionths)


@given(counts, counts, counts, rates)
def test_it_lies_between_what_was_seen_and_what_is_possible(bad, fine, unseen, rate) -> None:
    looked, total = bad + fine, bad + fine + unseen
    found = most(bad, looked, total, rate)
    assert bad <= found <= bad + unseen


@given(counts, counts, counts, rates, st.integers(1, 1_000))
def test_more_that_is_bad_or_unseen_never_lowers_it_and_a_higher_rate_never_raises_it(
    bad, fine, unseen, rate, more
) -> None:
    found = most(bad, bad + fine, bad + fine + unseen, rate)
    assert most(bad, bad + fine, bad + fine + unseen + more, rate) >= found
    assert most(bad + more, bad + more + fine, bad + more + fine + unseen, rate) >= found
    assert most(bad, bad + fine, bad + fine + unseen, Millionths(min(ONE, rate + more * 100))) <= found


def test_who_looks_at_everything_knows() -> None:
    assert most(3, 100, 100, ONE) == 3
    assert most(0, 0, 0, Millionths(50_000)) == 0
    assert most(0, 0, 100, Millionths(0)) == 100


@pytest.mark.parametrize("rate", [10_000, 50_000, 250_000])
def test_nothing_bad_seen_comes_near_the_rule_of_three(rate) -> None:
    """Looking all the time costs little: most of the weight lies on λ that are good then."""
    p = rate / ONE
    once = math.log(1 / ALPHA) / -math.log1p(-p)
    always = math.log(1.7 / ALPHA) / -math.log1p(-p)
    assert math.floor(once) <= most(0, 1_000, 1_000_000, Millionths(rate)) <= always + 1


def honest(_: random.Random, __: int, ___: int) -> bool:
    return False


def steady(dice: random.Random, _: int, __: int) -> bool:
    return dice.random() < 0.05


def burst(_: random.Random, at: int, __: int) -> bool:
    return 400 <= at < 460


def until_caught(_: random.Random, __: int, caught: int) -> bool:
    return caught < 3


def after_a_good_name(_: random.Random, at: int, caught: int) -> bool:
    return at > 200 and caught == 0


@pytest.mark.parametrize("cheat", [honest, steady, burst, until_caught, after_a_good_name])
@pytest.mark.parametrize("rate", [20_000, 100_000, 500_000])
def test_it_is_wrong_at_any_time_in_no_more_than_one_life_of_twenty(cheat, rate) -> None:
    """Each life is watched all along: it counts as wrong if the bound ever was below what had really been bad."""
    dice, lives, wrong = random.Random(f"{cheat.__name__} {rate}"), 300, 0
    for _ in range(lives):
        bad = caught = looked = 0
        for at in range(800):
            false = cheat(dice, at, caught)
            drawn = dice.random() * ONE < rate
            bad, looked, caught = bad + false, looked + drawn, caught + (false and drawn)
            # it can only become wrong where something bad was added
            if false and most(caught, looked, at + 1, Millionths(rate)) < bad:
                wrong += 1
                break
    # 15 are expected at most; 27 or more come about once in a thousand
    assert wrong <= 27
