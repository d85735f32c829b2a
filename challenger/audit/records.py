"""A provider's track record: what was drawn, what came of it, and how bad the rest can be at most. Pure.

The bound rests on answers whose first window is over and on draws below the base rate, which every answer of the provider had in
the same measure: what the policy adds for newcomers and offenders would tell how often *we* looked. A window is extended for what is
drawn, so that the longer one must not decide what counts. Whatever was drawn and not found VALID (yet) counts as bad: data that
was away, work that was shed, a worker that failed. So nobody gains by not being judged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from challenger.audit.bounds import most
from challenger.domain import Address, Millionths, ModelId, State, VerdictKind
from challenger.store.records import Tally
from challenger.store.rows import EpochRow

#: What may have become of an answer that was drawn.
FATES = ("valid", "fraud", "unavailable", "inconclusive", "shed", "open", "unjudged")


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """Of ``provider`` with ``model`` (None: with all). ``fates`` of the ``sampled`` by name. ``looked`` of the ``closed`` (first
    window over) were drawn at the base ``rate``, ``bad`` of these not found VALID, ``waiting`` of which may still be in a longer
    window; at most ``most`` of the closed are bad."""

    provider: Address
    model: ModelId | None
    answers: int
    sampled: int
    fates: Counter[str]
    closed: int
    looked: int
    bad: int
    waiting: int
    rate: Millionths

    @property
    def most(self) -> int:
        return most(self.bad, self.looked, self.closed, self.rate)

    def sentence(self) -> str:
        """In plain words."""
        if not self.closed:
            return "no answer's window is over yet"
        if not self.looked:
            return f"none of {self.closed} answers was drawn at the base rate: nothing can be said of them"
        share = 100 * self.most / self.closed
        return (
            f"{self.bad} of {self.looked} drawn not found right: at most {share:.3g} % of {self.closed} answers, "
            "at one-sided 95 %, whenever one looks"
        )


def base_rate(epochs: Iterable[EpochRow]) -> Millionths:
    """The least rate at which every answer of ``epochs`` was drawn."""
    return Millionths(min((json.loads(epoch.policy).get("base", 0) for epoch in epochs), default=0))


def track_records(tallies: Iterable[Tally], rate: Millionths) -> list[TrackRecord]:
    """One for each provider with all models, followed by one for each of its models where there are several."""
    providers: dict[Address, dict[ModelId, list[Tally]]] = {}
    for tally in tallies:
        providers.setdefault(tally.provider, {}).setdefault(tally.model, []).append(tally)
    found = []
    for provider, models in providers.items():
        found.append(record_of(provider, None, [tally for rows in models.values() for tally in rows], rate))
        if len(models) > 1:
            found += [record_of(provider, model, rows, rate) for model, rows in models.items()]
    return found


def fate(tally: Tally) -> str:
    """What became of answers that were drawn."""
    if tally.verdict is VerdictKind.VALID:
        return "valid"
    if tally.verdict is VerdictKind.FRAUD and tally.confirmed:
        return "fraud"
    if not tally.closed or tally.extended:
        return "open"
    if tally.verdict is VerdictKind.UNAVAILABLE:
        return "unavailable"
    if tally.state is State.SHED:
        return "shed"
    # a fraud that the second backend did not reproduce is none, and not right either
    return "unjudged" if tally.verdict is None else "inconclusive"


def record_of(provider: Address, model: ModelId | None, tallies: list[Tally], rate: Millionths) -> TrackRecord:
    fates: Counter[str] = Counter(dict.fromkeys(FATES, 0))
    answers = closed = looked = bad = waiting = 0
    for tally in tallies:
        answers += tally.answers
        if tally.drawn:
            fates[fate(tally)] += tally.answers
        if not tally.closed or tally.drawn is None:
            continue
        closed += tally.answers
        if tally.drawn and tally.base:
            looked += tally.answers
            bad += tally.answers * (tally.verdict is not VerdictKind.VALID)
            waiting += tally.answers * (fate(tally) == "open")
    sampled = sum(fates.values())
    return TrackRecord(provider, model, answers, sampled, fates, closed, looked, bad, waiting, rate)
