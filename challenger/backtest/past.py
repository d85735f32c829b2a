"""Commitments of a history, and what is known of each: whose it was, what it paid, and whether it was right.

Whether it was right follows from replays (a watcher's verdicts, audits) and from how disputes and demands ended on
chain. A commitment that nobody looked at is ``UNKNOWN``: a backtest takes it for right, and says how many there were.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from challenger.domain import (
    Address,
    BlockNumber,
    ChainEvent,
    CommitmentId,
    DemandOutcome,
    DisputeOutcome,
    JobStatus,
    ModelId,
    Part,
    TaskId,
    UnixTime,
    Wei,
)
from challenger.pipeline.learned import Predictions
from challenger.protocols.reference_views import Params
from challenger.store.codec import AGGREGATE
from challenger.store.projection import FOLDS
from challenger.store.rows import CommitmentRow, DemandRow, DisputeRow

#: What a provider may withhold to hide an answer: a demand for it ends the commitment.
_PROVIDERS = frozenset({Part.OUTPUT.value, Part.OPENING.value})


class Truth(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    WITHHELD = "withheld"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Past:
    """``closes``: when its window closed, extensions by disputes left out; ``fee``: 0 where its task is not known;
    ``rival``: when somebody else (``rival_account``) opened the dispute or demand that ended it, None
    where nobody did."""

    commitment: CommitmentId
    model: ModelId
    provider: Address
    fee: Wei
    committed_at: UnixTime
    closes: UnixTime
    truth: Truth
    rival: UnixTime | None
    rival_account: Address = Address("")


@dataclass(frozen=True, slots=True)
class History:
    """``pasts`` in chain order; ``contested``: commitments whose replay and end on chain contradict each other."""

    source: str
    first: BlockNumber
    last: BlockNumber
    params: Params
    predictions: Predictions
    pasts: Sequence[Past]
    contested: int


@dataclass(frozen=True, slots=True)
class Rows:
    """What the chain's events come to. ``commitments`` in chain order; ``fees`` by task."""

    commitments: Sequence[CommitmentRow]
    fees: Mapping[TaskId, Wei]
    disputes: Sequence[DisputeRow]
    demands: Sequence[DemandRow]


class Fold:
    """Events, in chain order, into rows: as the index folds them, in memory, without inputs and outputs."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Any, Any]] = {name: {} for name in FOLDS}

    def take(self, event: ChainEvent) -> None:
        name = AGGREGATE[type(event)]
        key = getattr(event, name)
        row = FOLDS[name].step(self._rows[name].get(key), event)
        if row is not None:
            self._rows[name][key] = row

    def rows(self, first: BlockNumber, last: BlockNumber) -> Rows:
        """Of commitments in blocks ``first ≤ b ≤ last``."""
        chosen = [row for row in self._rows["commitment"].values() if first <= row.block <= last]
        fees = {row.task: row.fee for row in self._rows["task"].values()}
        return Rows(chosen, fees, list(self._rows["dispute"].values()), list(self._rows["demand"].values()))

    def untold(self) -> list[TaskId]:
        """Tasks of commitments whose opening was not among the events."""
        known = self._rows["task"]
        return [row.task for row in self._rows["commitment"].values() if row.task not in known]


class Times:
    """The time of a block, from those of some: between two it goes on evenly."""

    def __init__(self, known: Iterable[tuple[BlockNumber, UnixTime]]) -> None:
        ordered = sorted(set(known))
        self._numbers = [number for number, _ in ordered]
        self._times = [time for _, time in ordered]

    def of(self, block: BlockNumber) -> UnixTime:
        """The nearest known one's, beyond all that are known; 0 where none is."""
        if not self._numbers:
            return UnixTime(0)
        at = bisect_right(self._numbers, block)
        if at == 0 or at == len(self._numbers):
            return self._times[max(0, at - 1)]
        (low, high), (early, late) = self._numbers[at - 1 : at + 1], self._times[at - 1 : at + 1]
        return UnixTime(early + (late - early) * (block - low) // (high - low))


def _ends(rows: Rows) -> dict[CommitmentId, tuple[Truth, BlockNumber, Address]]:
    """What disputes and demands came to, the block and the account that opened the one that did. A fraud proved is one,
    whatever else failed over the same commitment; a demand may end what a dispute could not."""
    ended: dict[CommitmentId, tuple[Truth, BlockNumber, Address]] = {}
    for dispute in rows.disputes:
        if dispute.outcome == DisputeOutcome.PROVIDER:
            ended[dispute.commitment] = (Truth.RIGHT, dispute.block, dispute.challenger)
    for demand in rows.demands:
        if demand.outcome == DemandOutcome.LOST and demand.part in _PROVIDERS:
            ended[demand.commitment] = (Truth.WITHHELD, demand.block, demand.demander)
    for dispute in rows.disputes:
        if dispute.outcome == DisputeOutcome.CHALLENGER:
            ended[dispute.commitment] = (Truth.WRONG, dispute.block, dispute.challenger)
    return ended


def pasts(
    rows: Rows, params: Params, times: Times, judged: Mapping[CommitmentId, Truth], ours: Collection[Address]
) -> tuple[list[Past], int]:
    """Each commitment with what is known of it, and how many are contested. ``judged``: what replays said, which counts
    before the chain's word, since it is what a watcher would go by; ``ours``: accounts whose acts were the watcher's own
    and are to be played anew."""
    ended = _ends(rows)
    found, contested = [], 0
    for row in rows.commitments:
        truth = Truth.WRONG if row.status == JobStatus.FRAUD else Truth.UNKNOWN
        rival, account = None, Address("")
        end = ended.get(row.commitment)
        if end is not None:
            truth = end[0]
            if truth is not Truth.RIGHT and end[2] not in ours:
                rival, account = times.of(end[1]), end[2]
        said = judged.get(row.commitment)
        if said is not None:
            contested += truth is not Truth.UNKNOWN and (said is Truth.RIGHT) != (truth is Truth.RIGHT)
            truth = said
        fee = rows.fees.get(row.task, Wei(0))
        closes = UnixTime(row.committed_at + params.window)
        found.append(
            Past(row.commitment, row.model, row.provider, fee, row.committed_at, closes, truth, rival, account)
        )
    return found, contested
