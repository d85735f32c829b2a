"""What is answered about one thing: its row, and what the record holds about it beside the row."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, get_type_hints

from challenger.domain import (
    Address,
    BlockNumber,
    ChainEvent,
    CommitmentId,
    Hash32,
    Millionths,
    ModelId,
    State,
    TxState,
    UnixTime,
    Wei,
)
from challenger.shapes import shape
from challenger.store.audits import AuditRow
from challenger.store.listed import CommitmentListed, ProviderListed
from challenger.store.rows import (
    DemandRow,
    DisputeRow,
    JournalRow,
    ModelRow,
    PauseRow,
    TaskRow,
    TransactionRow,
    VerdictRow,
)

#: Bytes of a posted answer, input or output that are shown.
_SHOWN = 4_096


class Move(NamedTuple):
    """An event of the chain. ``facts`` are its other fields; of bytes beyond 4 KiB only ``…_length`` is told."""

    kind: str
    block: BlockNumber
    log_index: int
    block_hash: Hash32
    tx_hash: Hash32
    facts: dict[str, Any]


class CommitmentAnswer(NamedTuple):
    """``journal``: the latest 200 entries, the oldest first."""

    listed: CommitmentListed
    task: TaskRow | None
    verdicts: list[VerdictRow]
    audits: list[AuditRow]
    disputes: list[DisputeRow]
    demands: list[DemandRow]
    transactions: list[TransactionRow]
    moves: list[Move]
    journal: list[JournalRow]


class DisputeAnswer(NamedTuple):
    """``ours``: opened by an account of this watcher; ``transactions`` are ours about the same commitment."""

    dispute: DisputeRow
    ours: bool
    moves: list[Move]
    transactions: list[TransactionRow]


class DemandAnswer(NamedTuple):
    demand: DemandRow
    ours: bool
    moves: list[Move]
    transactions: list[TransactionRow]


class TaskAnswer(NamedTuple):
    task: TaskRow
    commitment: CommitmentId | None
    moves: list[Move]


class ModelAnswer(NamedTuple):
    model: ModelRow
    moves: list[Move]


class RecordAnswer(NamedTuple):
    """A track record; ``model`` None: with all models. ``bad_at_most`` holds at one-sided 95 %, whenever one looks."""

    provider: Address
    model: ModelId | None
    answers: int
    sampled: int
    fates: dict[str, int]
    closed: int
    drawn_at_base_rate: int
    bad: int
    bad_at_most: int
    base_rate: Millionths
    sentence: str


class ProviderAnswer(NamedTuple):
    provider: ProviderListed
    records: list[RecordAnswer]


class FindingAnswer(NamedTuple):
    commitment: CommitmentId | None
    what: str


class SamplingAnswer(NamedTuple):
    """An epoch's draws held against what was promised, by this database alone; `challenger audit sampling` asks the
    chain too."""

    epoch: int
    holds: bool
    anchored: bool
    commitments: int
    selected: int
    pending: int
    before_anchor: int
    unjudged: int
    findings: list[FindingAnswer]
    notes: list[str]


class LeaseAnswer(NamedTuple):
    """``holder`` None: nobody works for the account."""

    account: str
    holder: str | None
    seconds_left: float


class HealthAnswer(NamedTuple):
    """``known`` False: ``why``; the rest is then null or empty."""

    known: bool
    why: str
    ready: bool | None
    trouble: str
    standing: dict[str, int]
    head_block: int | None
    head_age: float | None
    nearest_deadline: float | None
    samples: dict[str, float]


class StatusAnswer(NamedTuple):
    """``endpoints``: hosts alone; ``latencies``: seconds that 99 of 100 actions stayed within."""

    version: str
    database: str
    chain: int
    market: str
    endpoints: list[str]
    block: BlockNumber | None
    chain_time: UnixTime | None
    journal_seq: int
    journal_hash: Hash32
    published_seq: int
    leases: list[LeaseAnswer]
    latencies: dict[str, float]
    selftests: dict[str, int]
    watcher: HealthAnswer


class NearestAnswer(NamedTuple):
    commitment: CommitmentId
    state: State
    closes: UnixTime
    slack: int


class OverviewAnswer(NamedTuple):
    """Amounts are ours: ``bonds`` in open disputes and demands, ``pending`` in filings under way; ``paid`` and ``burnt`` are
    of all closed ones, ``ours_paid`` what came to us."""

    block: BlockNumber | None
    chain_time: UnixTime | None
    states: dict[State, int]
    transactions: dict[TxState, int]
    open_windows: int
    nearest: NearestAnswer | None
    open_disputes: int
    open_demands: int
    our_open: int
    bonds: Wei
    pending: Wei
    paid: Wei
    burnt: Wei
    ours_paid: Wei
    models: int
    pauses: list[PauseRow]
    accounts: list[Address]


class Paused(NamedTuple):
    """``already``: filing was paused before, and that reason stays."""

    paused: str
    already: bool


class Resumed(NamedTuple):
    lifted: int


def move(event: ChainEvent) -> Move:
    at = event.at
    hints = get_type_hints(type(event))
    facts = shape(type(event)).encode(event)
    del facts["at"]
    for one in dataclasses.fields(event):
        value = getattr(event, one.name)
        if hints[one.name] is bytes:
            facts[f"{one.name}_length"] = len(value)
            if len(value) > _SHOWN:
                facts[one.name] = None
    return Move(type(event).__name__, at.block, at.log_index, at.block_hash, at.tx_hash, facts)
