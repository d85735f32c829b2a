"""Pure folds: the events of one aggregate, in chain order, make its row.

``step(row, event) → row`` with None for "no such aggregate (yet)". An event about an aggregate whose birth was not
indexed leaves None; a second birth leaves the first. Nothing here may raise, however absurd the event: text that a
database refuses is made storable and times beyond 2⁶³ are clamped; the event itself keeps the exact value.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any, NamedTuple

from sqlalchemy import Table

from challenger.domain import (
    ChainEvent,
    Committed,
    DemandClosed,
    DemandOpened,
    DemandOutcome,
    DisputeClosed,
    DisputeOpened,
    DisputeOutcome,
    JobClosed,
    JobStatus,
    ModelDisabled,
    ModelRegistered,
    TaskClosed,
    TaskOpened,
    TaskTaken,
    UnixTime,
    Wei,
    WindowExtended,
)
from challenger.store import schema
from challenger.store.rows import CommitmentRow, DemandRow, DisputeRow, ModelRow, TaskRow

_LATEST = UnixTime(2**63 - 1)
_COMMITTED = JobStatus.COMMITTED.value

Row = ModelRow | TaskRow | CommitmentRow | DisputeRow | DemandRow


def storable(text: str) -> str:
    """``text`` without what SQL text cannot hold (NUL, lone surrogates); a web address has neither."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def _time(value: UnixTime) -> UnixTime:
    return min(_LATEST, value)


def model_step(row: ModelRow | None, event: ChainEvent) -> ModelRow | None:
    match event:
        case ModelRegistered() if row is None:
            return ModelRow(
                event.model,
                event.at.block,
                event.at.log_index,
                event.registrar,
                event.file_digest,
                event.artefact_root,
                event.program_root,
                event.spec_version,
                storable(event.mode)[:40],
                event.boundaries,
                event.artefact_tiles,
                storable(event.uri),
                event.known_output_root,
                disabled=False,
            )
        case ModelDisabled() if row is not None:
            return row._replace(disabled=True)
    return row


def task_step(row: TaskRow | None, event: ChainEvent) -> TaskRow | None:
    match event:
        case TaskOpened() if row is None:
            return TaskRow(
                event.task,
                event.at.block,
                event.at.log_index,
                event.model,
                event.requester,
                event.input_root,
                storable(event.input_uri),
                event.input_length,
                event.entropy,
                event.fee,
                _time(event.deadline),
                None,
                None,
                None,
                None,
            )
        case TaskTaken() if row is not None:
            return row._replace(provider=event.provider, seed=event.seed, taken_block=event.at.block)
        case TaskClosed() if row is not None:
            return row._replace(closed=storable(event.reason)[:40])
    return row


def commitment_step(row: CommitmentRow | None, event: ChainEvent) -> CommitmentRow | None:
    if row is None:
        if type(event) is not Committed:
            return None
        at = event.at
        return CommitmentRow(
            event.commitment,
            at.block,
            at.log_index,
            at.tx_hash,
            event.task,
            event.model,
            event.provider,
            event.output_root,
            event.state_root,
            storable(event.output_uri),
            event.output_length,
            _time(event.committed_at),
            _time(event.closes),
            _COMMITTED,
            None,
        )
    match event:
        case WindowExtended():
            return row._replace(closes=_time(event.closes))
        case JobClosed():
            return row._replace(status=event.status.value, closed_block=event.at.block)
    return row


def dispute_step(row: DisputeRow | None, event: ChainEvent) -> DisputeRow | None:
    match event:
        case DisputeOpened() if row is None:
            return DisputeRow(
                event.dispute,
                event.at.block,
                event.at.log_index,
                event.at.tx_hash,
                event.commitment,
                event.challenger,
                event.output_root,
                event.state_root,
                event.evidence,
                event.bond,
                _time(event.ruling_by),
                DisputeOutcome.OPEN.value,
                Wei(0),
                Wei(0),
                None,
            )
        case DisputeClosed() if row is not None:
            return row._replace(
                outcome=event.outcome.value, paid=event.paid, burnt=event.burnt, closed_block=event.at.block
            )
    return row


def demand_step(row: DemandRow | None, event: ChainEvent) -> DemandRow | None:
    match event:
        case DemandOpened() if row is None:
            return DemandRow(
                event.demand,
                event.at.block,
                event.at.log_index,
                event.at.tx_hash,
                event.commitment,
                event.demander,
                event.part.value,
                event.index,
                event.bond,
                _time(event.answer_by),
                DemandOutcome.OPEN.value,
                Wei(0),
                Wei(0),
                None,
                None,
            )
        case DemandClosed() if row is not None:
            return row._replace(
                outcome=event.outcome.value,
                paid=event.paid,
                burnt=event.burnt,
                closed_block=event.at.block,
                closed_log=event.at.log_index,
            )
    return row


class Fold(NamedTuple):
    """One projection: its table, the class of its rows, and the step."""

    table: Table
    row: Any
    step: Any

    def over(self, events: Iterable[ChainEvent], row: Any = None) -> Any:
        """The row after ``events``, starting from ``row``."""
        return reduce(self.step, events, row)


#: Aggregate → its projection.
FOLDS: dict[str, Fold] = {
    "model": Fold(schema.models, ModelRow, model_step),
    "task": Fold(schema.tasks, TaskRow, task_step),
    "commitment": Fold(schema.commitments, CommitmentRow, commitment_step),
    "dispute": Fold(schema.disputes, DisputeRow, dispute_step),
    "demand": Fold(schema.demands, DemandRow, demand_step),
}
