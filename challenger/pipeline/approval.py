"""What a person approves in mode confirm: one action against one commitment, for these roots, with at most this bond.

The terms are worked out from the rows and the chain, by the watcher and by ``challenger approve`` alike, and the word is
kept under their digest: should anything that was shown be different when it is acted upon, nobody has approved it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.domain import Action, CommitmentId, Hash32, Part, State, UnixTime
from challenger.errors import StaleRow
from challenger.protocols.base import Accusation, Prospect
from challenger.store.journal import canonical
from challenger.store.rows import VerdictRow
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.store.work import Item

#: Beginning of the reason under which an item waits for a person.
WAITING = "approval:"
#: Beginning of it while that person has not decided.
UNDECIDED = f"{WAITING} a person must decide"
#: By which command.
COMMAND = "challenger approve"


class Prospects(Protocol):
    """What the terms need of the protocol's adapter."""

    async def prospect(self, commitment: CommitmentId) -> Prospect: ...
    async def demand_prospect(self, commitment: CommitmentId, part: Part) -> Prospect: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """``part``: what a demand is for, None for a challenge; ``accusation``: the other way round."""

    commitment: CommitmentId
    part: Part | None
    accusation: Accusation | None
    prospect: Prospect

    @property
    def action(self) -> Action:
        return Action.CHALLENGE if self.part is None else Action.DEMAND

    @property
    def key(self) -> str:
        """Under which a person's word on exactly this is kept."""
        told: dict[str, Any] = {
            "action": self.action.value,
            "commitment": self.commitment,
            "part": "" if self.part is None else self.part.value,
            "bond": str(self.prospect.bond),
        }
        if self.accusation is not None:
            told |= {
                "output": self.accusation.output_root,
                "state": self.accusation.state_root,
                "evidence": self.accusation.evidence,
            }
        digest = hashlib.sha256(b"approval/1" + canonical(told).encode()).hexdigest()
        return f"{self.action.value}/{digest[:28]}"


async def terms_of(view: View, adapter: Prospects, item: Item) -> Terms:
    """The terms of filing ``item`` as things stand. Raises StaleRow when its verdicts are not on record, and what the
    adapter's reads raise."""
    commitment = CommitmentId(item.work.commitment)
    part = withheld(item)
    if part is not None:
        return Terms(commitment, part, None, await adapter.demand_prospect(commitment, part))
    return Terms(commitment, None, await accusation_of(view, item), await adapter.prospect(commitment))


async def unapproved(view: View, terms: Terms) -> str:
    """Why the terms may not be acted upon; empty when a person has approved them."""
    word = await view.approvals.decision(subject_of(terms.commitment), terms.key)
    if word is None:
        return f"{UNDECIDED}: {COMMAND} {subject_of(terms.commitment)}"
    if word.approved:
        return ""
    return f"{WAITING} refused by {word.person}" + (f": {word.note}" if word.note else "")


async def decide(view: View, item: Item, terms: Terms, *, approved: bool, person: str, note: str) -> None:
    """A person's word on ``terms``, those of ``item``; ``view`` is a writing one. Has the watcher look at it at once. Raises
    StaleRow when the item moved on meanwhile."""
    await view.approvals.decide(subject_of(terms.commitment), terms.key, approved=approved, person=person, note=note)
    await view.work.note(terms.commitment, State(item.work.state), next_try=UnixTime(0))


async def accusation_of(view: View, item: Item) -> Accusation:
    """Our roots, and the digest of both verdicts: the same after every restart, since the rows are."""
    found = [
        None if identity is None else await view.verdicts.get(identity)
        for identity in (item.work.verdict, item.work.confirmation)
    ]
    first, second = found
    if first is None or second is None or second.output_root is None or second.state_root is None:
        raise StaleRow("a confirmed fraud without its two verdicts", commitment=subject_of(item.work.commitment))
    evidence = evidence_digest(first, second)
    return Accusation(CommitmentId(item.work.commitment), second.output_root, second.state_root, evidence)


def evidence_digest(first: VerdictRow, second: VerdictRow) -> Hash32:
    """What a challenge names on chain as its evidence: both verdicts on the commitment."""
    told: list[Mapping[str, Any]] = [
        {"backend": v.backend, "kind": v.kind, "output": v.output_root or b"", "state": v.state_root or b""}
        for v in (first, second)
    ]
    body = canonical({"commitment": first.commitment, "verdicts": told})
    return Hash32(hashlib.sha256(b"evidence/1" + body.encode()).digest())


def withheld(item: Item) -> Part | None:
    """The part that a demand is for; None for a case of fraud."""
    if item.work.confirmation is not None:
        return None
    name = item.work.detail.partition(":")[0]
    return Part(name) if name in tuple(Part) else Part.OUTPUT
