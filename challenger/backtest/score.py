"""Many plays of one policy, summed up: the mean of each measure, and its least and most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from challenger.backtest.choices import Choice
from challenger.backtest.past import History
from challenger.backtest.simulate import Fate, Play, World, play


class Spread(NamedTuple):
    """Over all draws."""

    mean: float
    low: float
    high: float


#: What is measured of a play: seconds, wei or a count.
MEASURES: dict[str, Callable[[Play], float]] = {
    "drawn": lambda one: one.drawn,
    "replays": lambda one: one.replays,
    "busy_seconds": lambda one: one.busy,
    **{fate.value: lambda one, fate=fate: one.fates[fate] for fate in Fate},  # type: ignore[misc]
    "missed_deadlines": lambda one: one.missed,
    "unknown": lambda one: one.unknown,
    "pauses": lambda one: one.pauses,
    "gas_wei": lambda one: one.gas,
    "won_wei": lambda one: one.won,
    "net_wei": lambda one: one.net,
    "bonds_wei": lambda one: one.peak,
}


@dataclass(frozen=True, slots=True)
class Score:
    """``slack_least`` and ``slack_median``: seconds left over all that was caught in all draws, None where nothing was;
    ``refusals``: why gates kept confirmed frauds back, a draw, by the gate."""

    name: str
    draws: int
    measures: dict[str, Spread]
    slack_least: float | None
    slack_median: float | None
    refusals: dict[str, float]

    def __getitem__(self, measure: str) -> Spread:
        return self.measures[measure]


def score(name: str, plays: Sequence[Play]) -> Score:
    """``plays``: one at least."""
    measures = {}
    for measure, of in MEASURES.items():
        values = [of(one) for one in plays]
        exact = measure.endswith("_wei")  # never a float
        mean = sum(values) // len(values) if exact else sum(values) / len(values)
        measures[measure] = Spread(mean, min(values), max(values))
    slacks = sorted(slack for one in plays for slack in one.slacks)
    refusals: Counter[str] = Counter()
    for one in plays:
        refusals.update(one.refusals)
    return Score(
        name,
        len(plays),
        measures,
        slacks[0] if slacks else None,
        slacks[len(slacks) // 2] if slacks else None,
        {gate: count / len(plays) for gate, count in refusals.most_common()},
    )


def scores(history: History, choices: Sequence[Choice], world: World, draws: int, seed: str) -> Iterator[Score]:
    """One for each policy, in order; all of them draw with the same ``draws`` secrets, which follow from ``seed``."""
    secrets = [
        sha256(b"backtest/1" + number.to_bytes(8, "big") + seed.encode("utf-8", "surrogateescape")).digest()
        for number in range(draws)
    ]
    for choice in choices:
        yield score(choice.name, [play(history, choice, world, secret) for secret in secrets])
