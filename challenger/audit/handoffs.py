"""The hand-off ledger: the way of one commitment, hop by hop, and whose hop was the first that diverged. Pure.

Nobody is accused without proof. What the contract enforced or decided is proved by the chain; a false answer by a replay only
when a second, unrelated backend came to the same roots; that we could not fetch something is no proof of anything. Where what is
proved contradicts what else is proved, the hop is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from challenger.audit.answering import answer, gone, order, registration, unanswered
from challenger.audit.hops import Certainty, Fault, Hop, Party, Status, Step
from challenger.audit.judging import aftermath
from challenger.audit.proofs import proofs_of
from challenger.store.handoffs import Story


@dataclass(frozen=True, slots=True)
class Ledger:
    """``identity``: of the commitment, or of a task (``answered`` False) that has none. ``hops`` in the order of the way."""

    identity: bytes
    answered: bool
    hops: tuple[Hop, ...]

    @property
    def first(self) -> Hop | None:
        """The first hop that diverged."""
        return next((hop for hop in self.hops if hop.status is Status.DIVERGED), None)

    def sentence(self) -> str:
        """In plain words: where it broke and whose hop that was."""
        hop = self.first
        if hop is not None:
            return f"{hop.said}; {hop.certainty}"
        dark = [hop.step.value for hop in self.hops if hop.status is Status.UNKNOWN]
        return "nothing is known to have diverged" + (f"; not to be seen from here: {', '.join(dark)}" if dark else "")

    def as_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        first = self.first
        return {
            "commitment" if self.answered else "task": "0x" + self.identity.hex(),
            "first_divergence": None if first is None else self.hops.index(first),
            "sentence": self.sentence(),
            "hops": [hop.as_json() for hop in self.hops],
        }


def ledger_of(story: Story) -> Ledger:
    """Every hop of ``story``. Total: whatever the record holds, there is a ledger."""
    row, task, model = story.commitment, story.task, story.model
    if row is None and story.work is not None:
        return Ledger(story.identity, True, (gone(story),))
    proofs = proofs_of(story)
    hops = [] if task is None else order(story, task, proofs)
    hops += [] if model is None else [registration(story, model, proofs)]
    if row is None:
        hops += [] if task is None else [unanswered(story, task)]
        return Ledger(story.identity, False, tuple(hops))
    hops += [*answer(story, row, proofs), *aftermath(story, row, proofs)]
    return Ledger(story.identity, True, tuple(hops))


class Let(NamedTuple):
    """How a party let a hop down."""

    party: Party
    step: Step
    fault: Fault
    certainty: Certainty


@dataclass(slots=True)
class Summary:
    """Of many ledgers: how often each hop stood how, and who let it down. ``first``: as the first of its commitment."""

    ledgers: int = 0
    broken: int = 0
    steps: dict[Step, Counter[Status]] = field(default_factory=lambda: {step: Counter() for step in Step})
    faults: Counter[Let] = field(default_factory=Counter)
    first: Counter[Let] = field(default_factory=Counter)
    example: dict[Let, bytes] = field(default_factory=dict)

    def add(self, ledger: Ledger) -> None:
        self.ledgers += 1
        self.broken += ledger.first is not None
        for hop in ledger.hops:
            self.steps[hop.step][hop.status] += 1
            if hop.fault is None or hop.responsible is None or hop.certainty is None:
                continue
            let = Let(hop.responsible, hop.step, hop.fault, hop.certainty)
            self.faults[let] += 1
            self.first[let] += hop is ledger.first
            self.example.setdefault(let, ledger.identity)

    def ranked(self) -> list[tuple[Let, int]]:
        """The most frequent first, then in one order."""
        return sorted(self.faults.items(), key=lambda one: (-one[1], one[0]))

    def as_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        steps: Mapping[Step, Counter[Status]] = self.steps
        return {
            "ledgers": self.ledgers,
            "diverged": self.broken,
            "hops": {step.value: {status.value: counts[status] for status in Status} for step, counts in steps.items()},
            "faults": [
                {
                    "role": let.party.role.value,
                    "address": let.party.address or None,
                    "hop": let.step.value,
                    "fault": let.fault.value,
                    "certainty": let.certainty.value,
                    "count": count,
                    "first": self.first[let],
                    "example": "0x" + self.example[let].hex(),
                }
                for let, count in self.ranked()
            ],
        }
