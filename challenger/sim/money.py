"""How the market's money moved, from its events alone: totals, and one account for each party."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from challenger.chain.codec import Event
from challenger.domain import Address, Wei

#: Codes of the contract's events (``MarketTypes.sol``).
FOR_CHALLENGER, FOR_PROVIDER = 1, 2
DEMAND_LOST = 2
JOB_FINAL, JOB_FRAUD = 1, 2
PART_INPUT, PART_WEIGHTS, PART_OUTPUT = 0, 1, 2


@dataclass(slots=True)
class Party:
    """One account inside the market, in wei. ``paid_in``: stakes, fees and bonds; ``credited``: whatever the market
    came to owe it; ``slashed``: lost to others or burnt; ``fees``: earned; ``bounties``: won from losers."""

    paid_in: int = 0
    credited: int = 0
    withdrawn: int = 0
    slashed: int = 0
    fees: int = 0
    bounties: int = 0


@dataclass(slots=True)
class Money:
    """Totals in wei. ``slashed``: providers' collateral lost; ``bounties``: what of it (and of other losers' money) went
    to challengers; ``held``: what the market still must hold, all that was paid in less all that left it."""

    slashed: int = 0
    bounties: int = 0
    burnt: int = 0
    fees_paid: int = 0
    fees_returned: int = 0
    bonds_lost: int = 0
    paid_in: int = 0
    withdrawn: int = 0

    @property
    def held(self) -> Wei:
        return Wei(self.paid_in - self.withdrawn - self.burnt)


@dataclass(slots=True)
class Till:
    """Takes one event after the other. ``model_bond`` stands in no event: it is a parameter of the market."""

    model_bond: Wei
    money: Money = field(default_factory=Money)
    parties: dict[Address, Party] = field(default_factory=dict)
    _fees: dict[bytes, int] = field(default_factory=dict)
    _jobs: dict[bytes, tuple[bytes, str]] = field(default_factory=dict)  # job → task, provider
    _challengers: dict[int, str] = field(default_factory=dict)
    _demands: dict[int, tuple[str, int]] = field(default_factory=dict)  # demand → demander, part
    _registrars: dict[bytes, str] = field(default_factory=dict)
    _models: dict[bytes, bytes] = field(default_factory=dict)  # task → model
    _requesters: dict[bytes, str] = field(default_factory=dict)

    def party(self, address: str) -> Party:
        return self.parties.setdefault(Address(address), Party())

    def take(self, event: Event) -> None:
        args = event.args
        match event.name:
            case "ModelRegistered":
                self._registrars[args["model"]] = args["registrar"]
                self._pay(args["registrar"], self.model_bond)
            case "Staked":
                self._pay(args["provider"], args["amount"])
            case "TaskOpened":
                self._fees[args["task"]] = args["fee"]
                self._models[args["task"]] = args["model"]
                self._requesters[args["task"]] = args["requester"]
                self._pay(args["requester"], args["fee"])
            case "Committed":
                self._jobs[args["job"]] = args["task"], args["provider"]
            case "Challenged":
                self._challengers[args["dispute"]] = args["challenger"]
                self._pay(args["challenger"], args["bond"])
            case "Demanded":
                self._demands[args["demand"]] = args["demander"], args["part"]
                self._pay(args["demander"], args["bond"])
            case "Settled":
                self._settled(args["dispute"], args["job"], args["outcome"], args["paid"], args["burnt"])
            case "DemandClosed" if args["outcome"] == DEMAND_LOST:
                self._demand_lost(args["demand"], args["job"], args["paid"], args["burnt"])
            case "TaskLapsed":
                self._slash(args["provider"], args["paid"] + args["burnt"])
                self.money.fees_returned += self._fees.pop(args["task"])
            case "TaskCancelled":
                self.money.fees_returned += self._fees.pop(args["task"])
            case "JobClosed":
                self._closed(args["job"], args["status"])
            case "Credited":
                self.party(args["account"]).credited += args["amount"]
            case "Withdrawn":
                self.party(args["account"]).withdrawn += args["amount"]
                self.money.withdrawn += args["amount"]
            case "Burnt":
                self.money.burnt += args["amount"]

    def _pay(self, address: str, amount: int) -> None:
        self.party(address).paid_in += amount
        self.money.paid_in += amount

    def _slash(self, provider: str, amount: int) -> None:
        self.party(provider).slashed += amount
        self.money.slashed += amount

    def _reward(self, winner: str, amount: int) -> None:
        self.party(winner).bounties += amount
        self.money.bounties += amount

    def _settled(self, dispute: int, job: bytes, outcome: int, paid: int, burnt: int) -> None:
        challenger = self._challengers[dispute]
        if outcome == FOR_CHALLENGER:
            self._slash(self._jobs[job][1], paid + burnt)
            self._reward(challenger, paid)
        elif outcome == FOR_PROVIDER:
            self.party(challenger).slashed += paid + burnt
            self.money.bonds_lost += paid + burnt

    def _demand_lost(self, demand: int, job: bytes, paid: int, burnt: int) -> None:
        demander, part = self._demands[demand]
        task, provider = self._jobs[job]
        self._reward(demander, paid)
        if part >= PART_OUTPUT:
            self._slash(provider, paid + burnt)
        elif part == PART_WEIGHTS:
            self.party(self._registrars[self._models[task]]).slashed += paid + burnt
        else:  # the requester's fee is what it loses; nobody is paid it
            self.party(self._requesters[task]).slashed += paid + burnt
            self._fees[task] = 0

    def _closed(self, job: bytes, status: int) -> None:
        task, provider = self._jobs[job]
        fee = self._fees.pop(task)
        if status == JOB_FINAL:
            self.party(provider).fees += fee
            self.money.fees_paid += fee
        else:
            self.money.fees_returned += fee


def count(events: Sequence[Event], model_bond: Wei) -> tuple[Money, Mapping[Address, Party]]:
    """The whole record, in chain order."""
    till = Till(model_bond)
    for event in events:
        till.take(event)
    return till.money, till.parties
