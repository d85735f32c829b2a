"""P(win) of a contestation, and what it brings: pure, from how others voted before.

A contestation is decided by heads: the contester's yea and the accused's nay stand at once, a tie goes to the accused, so
that a lone challenger loses for certain unless the accused holds less than one slash and has no nay to put against.

How many of ``voters`` vote at all, and how many of those vote yea, are two beta-binomial laws: a contest has one turnout and
one share of yeas, drawn anew each time, so that votes within it go together. Both are fitted to earlier contests: the mean
from all votes, and by likelihood how far contests lie apart. With few of them the fit stays near the prior, which knows
nothing of anybody's vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, log

from challenger.domain import ONE, Millionths

#: In millionths; a guess, no measurement: at a third two who know each other by their votes would never stand together.
_HIDDEN, _STRANGE = ONE // 4, ONE // 2
#: The most voters that are reckoned with; beyond so many the law of the share decides alone.
MOST_VOTERS = 400
#: How concentrated a law may be: from contests that have nothing in common to voters who do not influence each other.
_PRECISIONS = tuple(0.5 * 1.35**k for k in range(24))


@dataclass(frozen=True, slots=True)
class Law:
    """A beta distribution: ``for_`` and ``against`` are its two parameters, both above zero."""

    for_: float
    against: float


@dataclass(frozen=True, slots=True)
class Habits:
    """``turnout``: which share of those who may vote does; ``yeas``: which share of the votes is yea."""

    turnout: Law
    yeas: Law


@dataclass(frozen=True, slots=True)
class Poll:
    """One earlier contest beside its two parties: of ``voters`` who might have voted, so many yeas and nays."""

    voters: int
    yeas: int
    nays: int

    def __post_init__(self) -> None:
        if min(self.yeas, self.nays) < 0 or self.yeas + self.nays > self.voters:
            raise ValueError(f"{self.yeas} yeas and {self.nays} nays of {self.voters} voters")


@dataclass(frozen=True, slots=True)
class Forecast:
    """``win``: P(the contester wins); ``reward``: units of the token that the first yea gets if so, beside its own slash, on
    average, rounded down; ``later``: the same for a yea that comes next."""

    win: Millionths
    reward: int
    later: int


#: Before anything is known: one in ten votes, and nothing is known of how.
PRIOR = Habits(Law(0.5, 4.5), Law(1.0, 1.0))


def shares(yeas: int, nays: int, adder: int, slash: int) -> tuple[int, int]:
    """What the first and each other winner gets beside its own slash, by the engine's own arithmetic. ``adder``: the
    votes that master contesters have for nothing; they count among the yeas when a lost pot is shared out."""
    heads = yeas + adder
    if heads > nays:
        pot, winners = nays * slash, yeas
        first = pot if heads == 1 else pot - pot // 2
    else:
        pot, winners = heads * slash, nays
        first = pot if nays == 1 else pot // 2
    return first, (pot - first) // (winners - 1) if winners > 1 else 0


def forecast(yeas: int, nays: int, adder: int, voters: int, slash: int, habits: Habits) -> Forecast:
    """How a contest ends in which ``yeas`` and ``nays`` stand (the parties' own among them) and ``voters`` may yet vote."""
    voters = min(voters, MOST_VOTERS)
    turnout = _beta_binomial(voters, habits.turnout)
    win = first = later = 0.0
    for votes, of_turnout in enumerate(turnout):
        if of_turnout < 1e-12:
            continue
        least = max(0, (votes + nays - yeas - adder) // 2 + 1)  # 2·more > votes + nays − yeas − adder
        if least > votes:
            continue
        law = _beta_binomial(votes, habits.yeas)
        for more in range(least, votes + 1):
            chance = of_turnout * law[more]
            to_first, to_other = shares(yeas + more, nays + votes - more, adder, slash)
            win += chance
            first += chance * to_first
            later += chance * to_other
    if win < 5e-7:
        return Forecast(Millionths(0), 0, 0)
    # rounded down: no rounding may make a losing filing look worth it
    return Forecast(Millionths(min(ONE, int(win * ONE + 1e-6))), int(first / win), int(later / win))


def beside(yeas: int, nays: int, adder: int, voters: int, slash: int, habits: Habits, strangers: int) -> Forecast:
    """How a contest ends with one yea more, ours. Whoever answers to an accusation that somebody else made may walk into a
    trap: the accused contests itself, and keeps accounts back whose late nays make a tie, so that our slash is theirs. So
    with a chance of ``_HIDDEN`` the accused has one account more yet to vote, and as many as there are ``strangers`` among the
    yeas, accounts that no earlier contest has shown; with strangers the chance is ``_STRANGE``."""
    ours = forecast(yeas + 1, nays, adder, voters, slash, habits)
    theirs = forecast(yeas + 1, nays + 1 + strangers, adder, voters, slash, habits)
    hidden = _STRANGE if strangers else _HIDDEN
    parts = [(ONE - hidden, ours), (hidden, theirs)]
    win = sum(share * seen.win for share, seen in parts)
    if not win:
        return Forecast(Millionths(0), 0, 0)
    first = sum(share * seen.win * seen.reward for share, seen in parts) // win
    later = sum(share * seen.win * seen.later for share, seen in parts) // win
    return Forecast(Millionths(win // ONE), first, later)


def learn(polls: Sequence[Poll], prior: Habits = PRIOR) -> Habits:
    """Habits as earlier contests show them; ``prior`` counts as much as a contest of its own size."""
    return Habits(
        _fit([(poll.yeas + poll.nays, poll.voters) for poll in polls], prior.turnout),
        _fit([(poll.yeas, poll.yeas + poll.nays) for poll in polls], prior.yeas),
    )


def _fit(draws: Sequence[tuple[int, int]], prior: Law) -> Law:
    """``draws``: (successes, trials) by contest. The mean of all trials; the precision of greatest likelihood."""
    draws = [draw for draw in draws if draw[1]]
    if not draws:
        return prior
    # contests count alike, large or small: it is of contests that the law speaks
    mean = (prior.for_ + sum(hits / of * _weight(of) for hits, of in draws)) / (
        prior.for_ + prior.against + sum(_weight(of) for _, of in draws)
    )
    mean = min(0.999, max(0.001, mean))

    def likelihood(precision: float) -> float:
        law = Law(mean * precision, (1 - mean) * precision)
        # one mild pseudo-observation: with few contests they are held to lie apart
        return sum(_log_term(hits, of, law) for hits, of in draws) - 0.1 * log(precision)

    best = max(_PRECISIONS, key=likelihood)
    return Law(mean * best, (1 - mean) * best)


def _weight(trials: int) -> float:
    """Of one contest's share in the mean: up to about four voters' worth, since voters within a contest go together."""
    return 5.0 * trials / (trials + 4.0)


def _log_term(hits: int, of: int, law: Law) -> float:
    """Log probability of ``hits`` successes in one given order."""
    return _log_beta(hits + law.for_, of - hits + law.against) - _log_beta(law.for_, law.against)


def _beta_binomial(trials: int, law: Law) -> list[float]:
    """P(k successes) for k = 0 … trials."""
    whole = _log_beta(law.for_, law.against)
    return [
        exp(
            lgamma(trials + 1)
            - lgamma(k + 1)
            - lgamma(trials - k + 1)
            + _log_beta(k + law.for_, trials - k + law.against)
            - whole
        )
        for k in range(trials + 1)
    ]


def _log_beta(one: float, other: float) -> float:
    return lgamma(one) + lgamma(other) - lgamma(one + other)
