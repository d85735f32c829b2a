"""P(win): what it is certain of, that it is the engine's arithmetic, and that it is calibrated on voters of another kind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import ONE
from challenger.protocols.arbius.odds import PRIOR, Forecast, Habits, Law, Poll, beside, forecast, learn, shares

SLASH = 1_000
LAWS = st.builds(Law, st.floats(0.1, 50), st.floats(0.1, 50))
HABITS = st.builds(Habits, LAWS, LAWS)


@given(HABITS)
def test_a_lone_challenger_loses(habits: Habits) -> None:
    """One yea and one nay: a tie, and a tie is the accused's. Whatever the habits, nobody is there to have them."""
    assert forecast(1, 1, 0, 0, SLASH, habits) == Forecast(0, 0, 0)  # type: ignore[arg-type]


@given(HABITS)
def test_an_accused_below_one_slash_has_no_nay(habits: Habits) -> None:
    seen = forecast(1, 0, 0, 0, SLASH, habits)
    assert (seen.win, seen.reward) == (ONE, 0)


@given(HABITS, st.integers(0, 49))
def test_fifty_votes_for_nothing_outvote_fifty(habits: Habits, voters: int) -> None:
    """V6: a master contester's fifty, and its own, against the accused's and fewer than fifty others'."""
    assert forecast(1, 1, 50, voters, SLASH, habits).win >= ONE - 1


@given(HABITS, st.integers(0, 4), st.integers(0, 4), st.integers(0, 12))
def test_more_yeas_never_hurt_and_a_chance_is_one(habits: Habits, yeas: int, nays: int, voters: int) -> None:
    seen = [forecast(1 + yeas + more, nays, 0, voters, SLASH, habits).win for more in range(3)]
    assert all(0 <= win <= ONE for win in seen)
    assert all(b >= a - 2 for a, b in pairwise(seen))


@given(HABITS, st.integers(1, 4), st.integers(1, 4), st.integers(0, 12), st.integers(0, 4))
def test_a_vote_beside_another_is_worth_no_more_than_without_a_trap(
    habits: Habits, yeas: int, nays: int, voters: int, strangers: int
) -> None:
    seen = beside(yeas, nays, 0, voters, SLASH, habits, min(strangers, yeas))
    assert seen.win <= forecast(yeas + 1, nays, 0, voters, SLASH, habits).win
    assert beside(yeas, nays, 0, voters, SLASH, habits, yeas).win <= beside(yeas, nays, 0, voters, SLASH, habits, 0).win


def test_a_contest_among_strangers_is_not_worth_a_slash() -> None:
    """The accused contests itself and waits for a third: with one account kept back the tie is its own. A known contester's is."""
    for yeas, nays in ((1, 1), (2, 1), (2, 2), (4, 1)):
        trap = beside(yeas, nays, 0, 0, SLASH, PRIOR, strangers=yeas)
        assert trap.win * trap.later < (ONE - trap.win) * SLASH
    known = beside(1, 1, 0, 0, SLASH, PRIOR, strangers=0)
    assert (known.win, known.later) == (ONE * 3 // 4, SLASH // 2)
    assert beside(1, 1, 50, 0, SLASH, PRIOR, strangers=1).win == ONE, "fifty votes for nothing outvote any trap of one"


def test_one_known_voter_decides() -> None:
    """A second yea wins it: the chance is that of one voter voting yea."""
    habits = Habits(Law(3.0, 1.0), Law(4.0, 1.0))
    seen = forecast(1, 1, 0, 1, SLASH, habits)
    assert seen.win == pytest.approx(0.75 * 0.8 * ONE, abs=2)
    assert (seen.reward, seen.later) == (SLASH // 2, SLASH // 2)


def test_the_shares_are_the_engines() -> None:
    """Nothing is paid out that was not taken, up to V5.2; whoever stood alone takes it all."""
    assert shares(1, 0, 0, SLASH) == (0, 0)
    assert shares(2, 1, 0, SLASH) == (500, 500)
    assert shares(3, 1, 0, SLASH) == (500, 250)
    assert shares(3, 2, 0, 7) == (7, 3)
    assert shares(1, 1, 0, SLASH) == (SLASH, 0)
    assert shares(2, 3, 0, SLASH) == (SLASH, SLASH // 2)
    for yeas, nays in product(range(1, 8), range(8)):
        first, other = shares(yeas, nays, 0, 997)
        lost, winners = (nays, yeas) if yeas > nays else (yeas, nays)
        assert 0 <= lost * 997 - (first + other * (winners - 1)) < winners
    # V6 shares among heads of which fifty are nobody's: half is the contester's, and the other half nobody's
    assert shares(1, 1, 50, SLASH) == (500, 0)


def test_polls_must_add_up() -> None:
    with pytest.raises(ValueError, match="2 yeas and 2 nays of 3 voters"):
        Poll(3, 2, 2)


def test_without_contests_nothing_is_learnt() -> None:
    assert learn([]) == PRIOR
    assert learn([Poll(0, 0, 0)] * 5) == PRIOR


def test_habits_follow_what_was_seen() -> None:
    keen = learn([Poll(10, 9, 0)] * 40)
    idle = learn([Poll(10, 0, 0)] * 40)
    against = learn([Poll(10, 1, 8)] * 40)
    chances = [forecast(1, 1, 0, 10, SLASH, habits).win for habits in (keen, idle, against)]
    assert chances[0] > 0.95 * ONE
    assert max(chances[1:]) < 0.15 * ONE


# --- calibration: the voters follow a model that the forecast knows nothing of -----------------------------------------


def contests(dice: random.Random, count: int) -> Iterator[tuple[int, int, int, int]]:
    """(voters, the accused's nay, yeas, nays) of contests over frauds.

    Forty people of very different zeal, of whom some are there; clear cases and murky ones; busy seasons and quiet ones;
    people who come late and vote with those in front; now and then friends of the accused, who always come.
    """
    zeal = [dice.betavariate(0.8, 2.5) for _ in range(40)]
    for _ in range(count):
        there = dice.sample(range(40), dice.randint(3, 25))
        clear = dice.betavariate(9, 1.5) if dice.random() < 0.75 else dice.betavariate(1.2, 2.2)
        season = dice.choice([0.4, 1.0, 1.7])
        friends = set(dice.sample(there, dice.randint(0, max(1, len(there) // 6)))) if dice.random() < 0.3 else set()
        nay = 0 if dice.random() < 0.1 else 1
        yeas, nays = 1, nay
        for place, voter in enumerate(there):
            if dice.random() > max(min(0.95, zeal[voter] * season), 0.8 if voter in friends else 0.0):
                continue
            if voter in friends:
                yea = False
            elif place > 0.6 * len(there) and yeas != nays and dice.random() < 0.45:
                yea = yeas > nays
            else:
                yea = dice.random() < clear
            yeas, nays = yeas + yea, nays + (not yea)
        yield len(there), nay, yeas, nays


@pytest.mark.parametrize("world", [1, 2])
def test_calibrated_on_a_thousand_contests_of_another_kind(world: int) -> None:
    """Each forecast is made from the contests before it alone. Of those that were given p, about p were won."""
    dice = random.Random(world)
    past: list[Poll] = []
    said: list[tuple[float, bool]] = []
    habits = PRIOR
    for number, (voters, nay, yeas, nays) in enumerate(contests(dice, 1_200)):
        if number % 25 == 0:
            habits = learn(past[-400:])
        if number >= 200:
            said.append((forecast(1, nay, 0, voters, SLASH, habits).win / ONE, yeas > nays))
        past.append(Poll(voters, yeas - 1, nays - nay))
    assert len(said) == 1_000
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(10)]
    for chance, won in said:
        bins[min(9, int(10 * chance))].append((chance, won))
    off = sum(abs(sum(chance - won for chance, won in some)) for some in bins) / len(said)
    assert off < 0.05  # the expected calibration error; by chance alone it is about 0.02
    for some in bins:
        if len(some) >= 50:
            assert abs(sum(chance - won for chance, won in some)) / len(some) < 0.12
    share = sum(won for _, won in said) / len(said)
    brier = sum((chance - won) ** 2 for chance, won in said) / len(said)
    assert brier < share * (1 - share)  # it says more than how often contests are won


def test_calibrated_before_much_is_known() -> None:
    """With twenty contests behind it the forecast is still not sure of what it cannot know."""
    said: list[tuple[float, bool]] = []
    for world in range(50):
        dice = random.Random(1_000 + world)
        *before, first, second, third = contests(dice, 23)
        habits = learn([Poll(voters, yeas - 1, nays - nay) for voters, nay, yeas, nays in before])
        for voters, nay, yeas, nays in (first, second, third):
            said.append((forecast(1, nay, 0, voters, SLASH, habits).win / ONE, yeas > nays))
    assert abs(sum(chance - won for chance, won in said)) / len(said) < 0.1
