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
from challenger.sim.money import DEMAND_LOST, JOB_FRAUD, Money, Party, count


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
    money, parties = count(events, model_bond)
    return Scoreboard(
        commitments=len(jobs),
        wrong=wrong,
        withheld=withheld,
        caught=tuple(job for job in wrong if job in fraudulent),
        ended_by_demand=tuple(job for job in withheld if job in fraudulent and job in lost_demands),
        missed=tuple(job for job in (*wrong, *withheld) if job not in fraudulent),
        false=tuple(false),
        repeated=tuple(job for (_, job), often in Counter(accusations).items() if often > 1),
        unlabelled=tuple(job for job in jobs if job not in truth),
        slack=_slacks(events, times),
        challenged=challenged,
        money=money,
        parties=parties,
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
