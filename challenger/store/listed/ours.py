"""What we decided, sent and promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, case, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import (
    Action,
    Address,
    BlockNumber,
    Call,
    CommitmentId,
    Hash32,
    Intent,
    ModelId,
    Source,
    TxState,
    UnixTime,
    VerdictKind,
    Wei,
)
from challenger.store.audits import AuditRow
from challenger.store.bulk import rows_by
from challenger.store.findings import FindingRow
from challenger.store.listed.terms import Where, is_, word
from challenger.store.listing import Filter, Listed, Timed
from challenger.store.rows import (
    ApprovalRow,
    AttemptRow,
    PauseRow,
    TransactionRow,
    VerdictRow,
)
from challenger.store.schema import (
    approvals,
    attempts,
    audits,
    epochs,
    findings,
    pauses,
    selftests,
    transactions,
    verdicts,
)
from challenger.store.selftests import Outcome, SelfTestRow


@dataclass(frozen=True, kw_only=True)
class VerdictFilter(Timed):
    commitment: CommitmentId | None = None
    kind: VerdictKind | None = None
    backend: str | None = None
    fresh: bool | None = None


VERDICTS = Listed(
    "verdicts",
    VerdictFilter,
    select(verdicts),
    (verdicts.c.id,),
    VerdictRow,
    {
        "commitment": is_(verdicts.c.commitment),
        "kind": word(verdicts.c.kind),
        "backend": is_(verdicts.c.backend),
        "fresh": verdicts.c.fresh.is_,
    },
    verdicts.c.time,
)


@dataclass(frozen=True, kw_only=True)
class AuditFilter(Timed):
    commitment: CommitmentId | None = None
    provider: Address | None = None
    kind: VerdictKind | None = None
    source: Source | None = None


AUDITS = Listed(
    "audits",
    AuditFilter,
    select(audits),
    (audits.c.id,),
    AuditRow,
    {
        "commitment": is_(audits.c.commitment),
        "provider": is_(audits.c.provider),
        "kind": word(audits.c.kind),
        "source": word(audits.c.source),
    },
    audits.c.time,
)


@dataclass(frozen=True, kw_only=True)
class FindingFilter(Timed):
    protocol: str | None = None
    kind: str | None = None
    party: str | None = None
    ground: str | None = None
    subject: Hash32 | None = None


FINDINGS = Listed(
    "findings",
    FindingFilter,
    select(findings),
    (findings.c.id,),
    FindingRow,
    {
        "protocol": is_(findings.c.protocol),
        "kind": is_(findings.c.kind),
        "party": is_(findings.c.party),
        "ground": is_(findings.c.ground),
        "subject": is_(findings.c.subject),
    },
    findings.c.time,
)


@dataclass(frozen=True, kw_only=True)
class TransactionFilter(Timed):
    """``commitment``: about it or a part of it; times are of the last change."""

    state: TxState | None = None
    action: Action | None = None
    account: Address | None = None
    commitment: CommitmentId | None = None


def _about(commitment: CommitmentId) -> ColumnElement[bool]:
    from challenger.store.subjects import prefix_range

    low, high = prefix_range(commitment)
    return (transactions.c.subject >= low) & (transactions.c.subject < high)


def _transaction(*row: Any) -> TransactionRow:
    known = dict(zip((column.name for column in transactions.c), row, strict=True))
    call = Call(known.pop("to"), known.pop("data"), Wei(known.pop("value")))
    names = known.pop("protocol"), known.pop("subject"), Action(known.pop("action"))
    intent = Intent(*names, call, known.pop("deadline"))
    return TransactionRow(intent=intent, state=TxState(known.pop("state")), attempts=(), **known)


async def _attempts(connection: AsyncConnection, rows: list[TransactionRow]) -> list[TransactionRow]:
    from dataclasses import replace

    found: dict[int, list[AttemptRow]] = {row.id: [] for row in rows}
    for attempt in await rows_by(connection, attempts, attempts.c.transaction, list(found)):
        found[attempt.transaction].append(AttemptRow(*attempt))
    return [replace(row, attempts=tuple(sorted(found[row.id], key=lambda one: one.number))) for row in rows]


TRANSACTIONS = Listed(
    "transactions",
    TransactionFilter,
    select(transactions),
    (transactions.c.id,),
    _transaction,
    {
        "state": word(transactions.c.state),
        "action": word(transactions.c.action),
        "account": is_(transactions.c.account),
        "commitment": _about,
    },
    transactions.c.updated,
    _attempts,
)


class EpochListed(NamedTuple):
    """An epoch as anybody may see it: ``secret`` is None until it was revealed."""

    number: int
    opens_block: BlockNumber
    closes_block: BlockNumber
    delay: int
    policy_digest: bytes
    policy: str
    commitment: Hash32
    anchor_tx: Hash32 | None
    anchor_block: BlockNumber | None
    revealed_at: UnixTime | None
    reveal_tx: Hash32 | None
    secret: bytes | None


@dataclass(frozen=True, kw_only=True)
class EpochFilter(Filter):
    """``block``: the epoch in which its commitments are drawn."""

    revealed: bool | None = None
    anchored: bool | None = None
    block: BlockNumber | None = None


def _given(column: ColumnElement[Any]) -> Where:
    return lambda value: column.is_not(None) if value else column.is_(None)


EPOCHS = Listed(
    "epochs",
    EpochFilter,
    select(
        *(epochs.c[name] for name in EpochListed._fields if name != "secret"),
        # it never leaves the database before
        case((epochs.c.revealed_at.is_not(None), epochs.c.secret), else_=null()).label("revealed_secret"),
    ),
    (epochs.c.number,),
    EpochListed,
    {
        "revealed": _given(epochs.c.revealed_at),
        "anchored": _given(epochs.c.anchor_block),
        "block": lambda block: (epochs.c.opens_block <= block) & (epochs.c.closes_block > block),
    },
)


@dataclass(frozen=True, kw_only=True)
class SelfTestFilter(Timed):
    model: ModelId | None = None
    outcome: Outcome | None = None


SELFTESTS = Listed(
    "selftests",
    SelfTestFilter,
    select(selftests),
    (selftests.c.id,),
    SelfTestRow,
    {"model": is_(selftests.c.model), "outcome": word(selftests.c.outcome)},
    selftests.c.time,
)


@dataclass(frozen=True, kw_only=True)
class PauseFilter(Timed):
    """``active``: nobody resumed it; times are of its beginning."""

    active: bool | None = None
    reason: str | None = None
    subject: str | None = None


PAUSES = Listed(
    "pauses",
    PauseFilter,
    select(pauses),
    (pauses.c.id,),
    PauseRow,
    {
        "active": lambda value: pauses.c.resumed_at.is_(None) if value else pauses.c.resumed_at.is_not(None),
        "reason": is_(pauses.c.reason),
        "subject": is_(pauses.c.subject),
    },
    pauses.c.opened_at,
)


@dataclass(frozen=True, kw_only=True)
class ApprovalFilter(Timed):
    subject: str | None = None
    approved: bool | None = None


APPROVALS = Listed(
    "approvals",
    ApprovalFilter,
    select(approvals),
    (approvals.c.time, approvals.c.subject, approvals.c.action),
    ApprovalRow,
    {"subject": is_(approvals.c.subject), "approved": approvals.c.approved.is_},
    approvals.c.time,
)
