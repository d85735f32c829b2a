"""What an actor knows of the market: folded from events, kept as small tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from challenger.chain.codec import Event
from challenger.domain import Address, Hash32


@dataclass(slots=True)
class Task:
    id: bytes
    model: bytes
    requester: Address
    input_root: Hash32
    input_data: bytes
    input_uri: str
    seed: bytes = b""  # fixed when it is taken


@dataclass(slots=True)
class Job:
    """``status``: 0 open, then as the contract says (1 final, 2 fraud, 3 void). ``closes``: end of its window."""

    id: bytes
    task: bytes
    provider: Address
    output_root: Hash32
    state_root: Hash32
    closes: int
    status: int = 0


@dataclass(slots=True)
class Dispute:
    """An open one. ``digest`` is what the adjudicator was handed; ``ruled`` that it has decided."""

    id: int
    job: bytes
    challenger: Address
    output_root: Hash32
    state_root: Hash32
    evidence: Hash32
    ruling_by: int
    digest: Hash32 = Hash32(b"")
    ruled: bool = False


@dataclass(slots=True)
class Demand:
    """An open one. ``part``: 0 input, 1 weights, 2 output, 3 opening."""

    id: int
    job: bytes
    part: int
    index: int
    answer_by: int


@dataclass(slots=True)
class Market:
    """Everything ever opened; of disputes and demands only what is open still."""

    tasks: dict[bytes, Task] = field(default_factory=dict)
    jobs: dict[bytes, Job] = field(default_factory=dict)
    disputes: dict[int, Dispute] = field(default_factory=dict)
    demands: dict[int, Demand] = field(default_factory=dict)
    balances: dict[Address, int] = field(default_factory=dict)
    _digests: dict[int, Hash32] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        args = event.args
        match event.name:
            case "TaskOpened":
                self.tasks[args["task"]] = Task(
                    args["task"],
                    args["model"],
                    args["requester"],
                    args["inputRoot"],
                    args["inputData"],
                    args["inputUri"],
                )
            case "TaskTaken":
                self.tasks[args["task"]].seed = args["seed"]
            case "Committed":
                self.jobs[args["job"]] = Job(
                    args["job"],
                    args["task"],
                    args["provider"],
                    args["outputRoot"],
                    args["stateRoot"],
                    args["windowEnd"],
                )
            case "WindowExtended":
                self.jobs[args["job"]].closes = args["windowEnd"]
            case "JobClosed":
                self.jobs[args["job"]].status = args["status"]
            case "Opened":  # by the adjudicator, just before the market's own event
                self._digests[args["dispute"]] = args["digest"]
            case "Challenged":
                self.disputes[args["dispute"]] = Dispute(
                    args["dispute"],
                    args["job"],
                    args["challenger"],
                    args["outputRoot"],
                    args["stateRoot"],
                    args["evidence"],
                    args["rulingBy"],
                    self._digests[args["dispute"]],
                )
            case "Ruled":
                self.disputes[args["dispute"]].ruled = True
            case "Settled":
                del self.disputes[args["dispute"]]
            case "Demanded":
                self.demands[args["demand"]] = Demand(
                    args["demand"], args["job"], args["part"], args["index"], args["answerBy"]
                )
            case "DemandClosed":
                del self.demands[args["demand"]]
            case "Credited":
                self.balances[args["account"]] = self.balances.get(args["account"], 0) + args["amount"]
            case "Withdrawn":
                self.balances[args["account"]] -= args["amount"]

    @property
    def open_jobs(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.status == 0]
