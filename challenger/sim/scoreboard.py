"""What became of the planted frauds: computed from the chain's events and the labels, and from nothing else.

No database, no watcher: what a watcher says of itself is checked against this.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from challenger.chain.codec import Event
from challenger.domain import Address, Wei

#: Codes of the contract's events (``MarketTypes.sol``).
SETTLED_FOR_CHALLENGER, SETTLED_FOR_PROVIDER = 1, 2
DEMAND_LOST = 2
JOB_FINAL, JOB_FRAUD = 1, 2


class Truth(StrEnum):
    """What a commitment really is: known to who planted it. ``WITHHELD`` roots are right, the data is not served."""

    HONEST = "honest"
    WRONG = "wrong"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Label:
    job: bytes
    task: bytes
    provider: Address
    name: str
    model: str
    kind: str
    truth: Truth


@dataclass(slots=True)
class Party:
    """One account's money inside the market, in wei. ``paid_in``: stakes, fees and bonds; ``credited``: whatever the
    market owed it at some time; ``slashed``: collateral lost; ``fees``: earned; ``bounties``: won from losers."""

    paid_in: int = 0
    credited: int = 0
    withdrawn: int = 0
    slashed: int = 0
    fees: int = 0
    bounties: int = 0


@dataclass(frozen=True, slots=True)
class Money:
    """In wei. ``slashed = bounties + burnt`` where nothing lapsed and no challenger lost; ``held`` is what the market
    must still hold: everything paid in, less what was withdrawn and burnt."""

    slashed: Wei
    bounties: Wei
    burnt: Wei
    fees_paid: Wei
    fees_returned: Wei
    bonds_lost: Wei
    held: Wei


@dataclass(frozen=True, slots=True)
class Scoreboard:
    """Ids are jobs. ``slack``: seconds from a challenge's block to its job's window end, one per challenge."""

    commitments: int
    wrong: tuple[bytes, ...]
    withheld: tuple[bytes, ...]
    caught: tuple[bytes, ...]
    ended_by_demand: tuple[bytes, ...]
    missed: tuple[bytes, ...]
    false: tuple[bytes, ...]
    repeated: tuple[bytes, ...]
    unlabelled: tuple[bytes, ...]
    slack: tuple[int, ...]
    challenged: Mapping[bytes, int]
    money: Money
    parties: Mapping[Address, Party] = field(repr=False)

    @property
    def slack_min(self) -> int | None:
        return min(self.slack, default=None)

    @property
    def slack_median(self) -> float | None:
        return statistics.median(self.slack) if self.slack else None


def score(events: Sequence[Event], times: Mapping[int, int], labels: Iterable[Label], model_bond: Wei) -> Scoreboard:
    """Folds the market's ``events`` (chain order; ``times``: block → seconds) with the planted ``labels``.

    A challenge or a lost demand against a commitment whose data was right is a false accusation, whatever came of it.
    """
    truth = {label.job: label.truth for label in labels}
    jobs = [event.args["job"] for event in events if event.name == "Committed"]
    ended = {event.args["job"]: event.args["status"] for event in events if event.name == "JobClosed"}
    lost_demands = {
        event.args["job"] for event in events if event.name == "DemandClosed" and event.args["outcome"] == DEMAND_LOST
    }
    wrong = tuple(job for job in jobs if truth.get(job) is Truth.WRONG)
    withheld = tuple(job for job in jobs if truth.get(job) is Truth.WITHHELD)
    fraudulent = {job for job in jobs if ended.get(job) == JOB_FRAUD}
    accusations = [(e.args["challenger"], e.args["job"]) for e in events if e.name == "Challenged"]
    challenged = Counter(job for _, job in accusations)
    false = [job for _, job in accusations if truth.get(job) is not Truth.WRONG]
    false += [job for job in lost_demands if truth.get(job) is Truth.HONEST]
    return Scoreboard(
        commitments=len(jobs),
        wrong=wrong,
        withheld=withheld,
        caught=tuple(job for job in wrong if job in fraudulent),
        ended_by_demand=tuple(job for job in withheld if job in fraudulent and job in lost_demands),
        missed=tuple(job for job in (*wrong, *withheld) if job not in fraudulent),
        false=tuple(false),
        repeated=tuple(job for (_, job), count in Counter(accusations).items() if count > 1),
        unlabelled=tuple(job for job in jobs if job not in truth),
        slack=_slacks(events, times),
        challenged=challenged,
        money=_money(events, model_bond),
        parties=_parties(events, model_bond),
    )


def _slacks(events: Sequence[Event], times: Mapping[int, int]) -> tuple[int, ...]:
    ends: dict[bytes, int] = {}
    slacks = []
    for event in events:
        if event.name in ("Committed", "WindowExtended"):
            ends[event.args["job"]] = event.args["windowEnd"]
        elif event.name == "Challenged":
            slacks.append(ends[event.args["job"]] - times[event.log.block])
    return tuple(slacks)


def _money(events: Sequence[Event], model_bond: Wei) -> Money:
    total: Counter[str] = Counter()
    fee_of_task = {e.args["task"]: e.args["fee"] for e in events if e.name == "TaskOpened"}
    fee_of_job = {e.args["job"]: fee_of_task[e.args["task"]] for e in events if e.name == "Committed"}
    part_of = {e.args["demand"]: e.args["part"] for e in events if e.name == "Demanded"}
    forfeited = set()  # jobs whose fee a requester lost by withholding the input
    for event in events:
        args = event.args
        if event.name == "ModelRegistered":
            total["in"] += model_bond
        elif event.name == "Staked":
            total["in"] += args["amount"]
        elif event.name == "TaskOpened":
            total["in"] += args["fee"]
        elif event.name in ("Challenged", "Demanded"):
            total["in"] += args["bond"]
        elif event.name == "Withdrawn":
            total["out"] += args["amount"]
        elif event.name == "Burnt":
            total["burnt"] += args["amount"]
        elif event.name == "TaskLapsed":
            total["slashed"] += args["paid"] + args["burnt"]
            total["fees returned"] += fee_of_task[args["task"]]
        elif event.name == "TaskCancelled":
            total["fees returned"] += fee_of_task[args["task"]]
        elif event.name == "Settled" and args["outcome"] == SETTLED_FOR_CHALLENGER:
            total["slashed"] += args["paid"] + args["burnt"]
            total["bounties"] += args["paid"]
        elif event.name == "Settled" and args["outcome"] == SETTLED_FOR_PROVIDER:
            total["bonds lost"] += args["paid"] + args["burnt"]
        elif event.name == "DemandClosed" and args["outcome"] == DEMAND_LOST:
            total["bounties"] += args["paid"]
            if part_of[args["demand"]] >= 2:  # output, opening: the provider's to give
                total["slashed"] += args["paid"] + args["burnt"]
            elif part_of[args["demand"]] == 0:
                forfeited.add(args["job"])
        elif event.name == "JobClosed" and args["job"] not in forfeited:
            total["fees paid" if args["status"] == JOB_FINAL else "fees returned"] += fee_of_job[args["job"]]
    return Money(
        slashed=Wei(total["slashed"]),
        bounties=Wei(total["bounties"]),
        burnt=Wei(total["burnt"]),
        fees_paid=Wei(total["fees paid"]),
        fees_returned=Wei(total["fees returned"]),
        bonds_lost=Wei(total["bonds lost"]),
        held=Wei(total["in"] - total["out"] - total["burnt"]),
    )


def _parties(events: Sequence[Event], model_bond: Wei) -> dict[Address, Party]:
    parties: dict[Address, Party] = {}
    provider_of = {e.args["job"]: e.args["provider"] for e in events if e.name == "Committed"}
    fee_of_task = {e.args["task"]: e.args["fee"] for e in events if e.name == "TaskOpened"}
    task_of = {e.args["job"]: e.args["task"] for e in events if e.name == "Committed"}
    challenger_of = {e.args["dispute"]: e.args["challenger"] for e in events if e.name == "Challenged"}
    demander_of = {e.args["demand"]: e.args["demander"] for e in events if e.name == "Demanded"}
    part_of = {e.args["demand"]: e.args["part"] for e in events if e.name == "Demanded"}

    def party(address: str) -> Party:
        return parties.setdefault(Address(address), Party())

    for event in events:
        args = event.args
        if event.name == "ModelRegistered":
            party(args["registrar"]).paid_in += model_bond
        elif event.name == "Staked":
            party(args["provider"]).paid_in += args["amount"]
        elif event.name == "TaskOpened":
            party(args["requester"]).paid_in += args["fee"]
        elif event.name == "Challenged":
            party(args["challenger"]).paid_in += args["bond"]
        elif event.name == "Demanded":
            party(args["demander"]).paid_in += args["bond"]
        elif event.name == "Credited":
            party(args["account"]).credited += args["amount"]
        elif event.name == "Withdrawn":
            party(args["account"]).withdrawn += args["amount"]
        elif event.name == "TaskLapsed":
            party(args["provider"]).slashed += args["paid"] + args["burnt"]
        elif event.name == "Settled" and args["outcome"] == SETTLED_FOR_CHALLENGER:
            party(provider_of[args["job"]]).slashed += args["paid"] + args["burnt"]
            party(challenger_of[args["dispute"]]).bounties += args["paid"]
        elif event.name == "DemandClosed" and args["outcome"] == DEMAND_LOST:
            party(demander_of[args["demand"]]).bounties += args["paid"]
            if part_of[args["demand"]] >= 2:
                party(provider_of[args["job"]]).slashed += args["paid"] + args["burnt"]
        elif event.name == "JobClosed" and args["status"] == JOB_FINAL:
            party(provider_of[args["job"]]).fees += fee_of_task[task_of[args["job"]]]
    return parties


# --- labels on disk ------------------------------------------------------------------------------------------------


def write_labels(path: Path, labels: Iterable[Label], world: Mapping[str, Any]) -> None:
    """``world`` says where the chain's record is: market, start block, …"""
    rows = [asdict(label) | {"job": "0x" + label.job.hex(), "task": "0x" + label.task.hex()} for label in labels]
    path.write_text(json.dumps({**world, "labels": rows}, indent=1) + "\n", encoding="utf-8")


def read_labels(path: Path) -> tuple[dict[str, Any], list[Label]]:
    """What ``write_labels`` wrote: the world, and the labels."""
    document = json.loads(path.read_text(encoding="utf-8"))
    labels = []
    for row in document.pop("labels"):
        fixed = {"job": bytes.fromhex(row["job"][2:]), "task": bytes.fromhex(row["task"][2:])}
        labels.append(Label(**{**row, **fixed, "truth": Truth(row["truth"])}))
    return document, labels
