"""What the demonstration says at its end, and whether it may say so: the scoreboard held against what was promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.domain import VerdictKind
from challenger.sim.scoreboard import Label, Scoreboard, Truth


class Sight(Protocol):
    """What the watcher says of one commitment. ``verdict``: empty while there is none."""

    @property
    def commitment(self) -> bytes: ...

    @property
    def sampled(self) -> bool: ...

    @property
    def verdict(self) -> str: ...


class Audit(Protocol):
    """The watcher's sampling re-checked: epochs with commitments in them, and what is wrong with any."""

    @property
    def epochs(self) -> int: ...

    @property
    def findings(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Report:
    """``broken`` names each invariant that did not hold, in words; empty when all did."""

    board: Scoreboard
    sampled: int
    undrawn: int
    epochs: int
    broken: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.broken


def judge(
    board: Scoreboard,
    labels: Sequence[Label],
    sights: Sequence[Sight],
    audit: Audit,
    *,
    every_one: bool,
    market_holds: int,
) -> Report:
    """``every_one``: every commitment was to be drawn (``--rate 1``); ``market_holds``: the contract's balance in wei."""
    truth = {label.job: label.truth for label in labels}
    drawn = {one.commitment for one in sights if one.sampled}
    broken = list(audit.findings)
    if board.unlabelled:
        broken.append(f"{len(board.unlabelled)} commitments on chain have no label")
    if board.false:
        broken.append(f"{len(board.false)} accusations against commitments that were right")
    if board.repeated:
        broken.append(f"{len(board.repeated)} commitments were challenged more than once")
    if every_one and (left_out := set(truth) - drawn):
        broken.append(f"{len(left_out)} commitments were not drawn, though every one was to be")
    if slipped := [job for job in board.missed if job in drawn]:
        broken.append(f"{len(slipped)} commitments were drawn, fraudulent, and not caught")
    for one in sights:
        if one.verdict == VerdictKind.VALID and truth.get(one.commitment) is Truth.WRONG:
            broken.append(f"the watcher finds 0x{one.commitment.hex()[:8]}… valid, which is wrong")
        if one.verdict == VerdictKind.FRAUD and truth.get(one.commitment) is not Truth.WRONG:
            broken.append(f"the watcher finds 0x{one.commitment.hex()[:8]}… fraudulent, which is right")
    if board.money.held != market_holds:
        broken.append(f"the market should hold {board.money.held} wei and holds {market_holds}")
    undrawn = sum(job not in drawn for job in board.missed)
    return Report(board, len(drawn), undrawn, audit.epochs, tuple(broken))


def as_json(report: Report, files: Mapping[str, str]) -> dict[str, Any]:
    """The summary for machines; amounts in wei as text, times in seconds."""
    board = report.board
    money = board.money
    return {
        "holds": report.holds,
        "broken": list(report.broken),
        "commitments": board.commitments,
        "sampled": report.sampled,
        "wrong": len(board.wrong),
        "withheld": len(board.withheld),
        "caught": len(board.caught),
        "ended_by_demand": len(board.ended_by_demand),
        "missed": len(board.missed),
        "epochs_audited": report.epochs,
        "missed_undrawn": report.undrawn,
        "false": len(board.false),
        "challenges": sum(board.challenged.values()),
        "slack_min": board.slack_min,
        "slack_median": board.slack_median,
        "money": {
            "slashed": str(money.slashed),
            "to_challengers": str(money.bounties),
            "burnt": str(money.burnt),
            "fees_paid": str(money.fees_paid),
            "fees_returned": str(money.fees_returned),
            "held": str(money.held),
        },
        "files": dict(files),
    }


def duration(seconds: float) -> str:
    """59 min 24 s."""
    minutes, rest = divmod(round(seconds), 60)
    return " ".join([f"{minutes} min"] * (minutes > 0) + [f"{rest} s"] * (rest > 0 or minutes == 0))


def ether(wei: int) -> str:
    """Wei as ether, exact, without trailing zeros."""
    whole, rest = divmod(wei, 10**18)
    return f"{whole}.{rest:018d}".rstrip("0").rstrip(".")
