"""What can be said of one hand-off: what should have crossed, what did, who held it and when, and who let it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from challenger.domain import Address, BlockNumber, Hash32, UnixTime


class Role(StrEnum):
    """``CHAIN``: nobody's doing; the chain itself took something back."""

    REQUESTER = "requester"
    REGISTRAR = "registrar"
    PROVIDER = "provider"
    CHALLENGER = "challenger"
    ADJUDICATOR = "adjudicator"
    WATCHER = "watcher"
    CHAIN = "chain"


class Step(StrEnum):
    """The hops of the reference protocol, in the order in which a commitment passes them."""

    TOKENISATION = "tokenisation"
    INPUT = "input"
    TASK = "task"
    ASSIGNMENT = "assignment"
    MODEL = "model"
    INFERENCE = "inference"
    COMMITMENT = "commitment"
    OUTPUT = "output"
    REPLAY = "replay"
    DEMAND = "demand"
    DISPUTE = "dispute"
    RULING = "ruling"
    SETTLEMENT = "settlement"


class Status(StrEnum):
    """``UNKNOWN``: not to be seen from here, and the hop says why. ``IDLE``: nothing had to cross."""

    HELD = "held"
    DIVERGED = "diverged"
    UNKNOWN = "unknown"
    IDLE = "idle"


class Fault(StrEnum):
    """``WITHHELD``: not shown when it was demanded. ``LATE``: not done in its time. ``SUBSTITUTED``: another thing was served
    in its place. ``REPLAYED``: handed in once more. ``WRONG``: not what follows from what was given. ``REVOKED``: taken back."""

    WITHHELD = "withheld"
    LATE = "late"
    SUBSTITUTED = "substituted"
    REPLAYED = "replayed"
    WRONG = "wrong"
    REVOKED = "revoked"


class Certainty(StrEnum):
    """How one knows: the contract enforced or decided it; two unrelated backends computed the same (for what held: one did);
    or this watcher saw it, and nobody else need believe it."""

    CHAIN = "proved by chain"
    REPLAY = "proved by replay"
    OBSERVED = "observed by us only"


@dataclass(frozen=True, slots=True, order=True)
class Party:
    """``address`` is empty where the record has none: the bench that rules, this watcher, the chain."""

    role: Role
    address: str = ""

    def __str__(self) -> str:
        return f"the {self.role} {self.address}".rstrip()


@dataclass(frozen=True, slots=True)
class When:
    """Chain time (UTC seconds), block and transaction, as far as the record has them."""

    time: UnixTime | None = None
    block: BlockNumber | None = None
    tx: Hash32 | None = None


NEVER = When()
NOTHING: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Hop:
    """``should`` and ``did`` name digests (roots, seeds, ids); a name that is in one and not in the other could not be
    compared. ``said``: one plain sentence. A fault has a party ``responsible`` and a ``certainty``; only DIVERGED has one."""

    step: Step
    holder: Party
    status: Status
    said: str
    certainty: Certainty | None = None
    should: Mapping[str, bytes] = field(default_factory=dict)
    did: Mapping[str, bytes] = field(default_factory=dict)
    when: When = NEVER
    fault: Fault | None = None
    responsible: Party | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for an accusation without a party or a proof, and for either without an accusation."""
        accused = (self.fault is not None, self.responsible is not None)
        if accused != (self.status is Status.DIVERGED,) * 2 or (any(accused) and self.certainty is None):
            raise ValueError(f"{self.step}: a fault has a party and a certainty, and nothing else has a party")

    def as_json(self) -> dict[str, Any]:
        """Plain values: digests as ``0x`` hex, None where nothing is known."""
        return {
            "hop": self.step.value,
            "holder": _party(self.holder),
            "status": self.status.value,
            "certainty": None if self.certainty is None else self.certainty.value,
            "should": {name: "0x" + value.hex() for name, value in self.should.items()},
            "did": {name: "0x" + value.hex() for name, value in self.did.items()},
            "time": self.when.time,
            "block": self.when.block,
            "tx": None if self.when.tx is None else "0x" + self.when.tx.hex(),
            "fault": None if self.fault is None else self.fault.value,
            "responsible": None if self.responsible is None else _party(self.responsible),
            "said": self.said,
        }


def diverged(
    step: Step,
    holder: Party,
    fault: Fault,
    certainty: Certainty,
    said: str,
    should: Mapping[str, bytes] = NOTHING,
    did: Mapping[str, bytes] = NOTHING,
    when: When = NEVER,
) -> Hop:
    """A hop that its holder let down."""
    return Hop(step, holder, Status.DIVERGED, said, certainty, should, did, when, fault, holder)


def _party(party: Party) -> dict[str, str | None]:
    return {"role": party.role.value, "address": party.address or None}


def provider(address: Address) -> Party:
    return Party(Role.PROVIDER, address)


WATCHER, ADJUDICATOR, CHAIN = Party(Role.WATCHER), Party(Role.ADJUDICATOR), Party(Role.CHAIN)
