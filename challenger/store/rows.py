"""What the repositories hand out: one tuple a row, its fields the table's columns in their order (a test holds that).

Tuples, because a projected row goes to the driver as it is, and an index writes many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from challenger.domain import (
    Address,
    BlockNumber,
    CommitmentId,
    DemandId,
    DisputeId,
    Hash32,
    Intent,
    Millionths,
    ModelId,
    TaskId,
    TxState,
    UnixTime,
    Wei,
)


class ModelRow(NamedTuple):
    model: ModelId
    block: BlockNumber
    log_index: int
    registrar: Address
    file_digest: Hash32
    artefact_root: Hash32
    program_root: Hash32
    spec_version: int
    mode: str
    boundaries: int
    artefact_tiles: int
    uri: str
    known_output_root: Hash32
    disabled: bool


class TaskRow(NamedTuple):
    """``provider``, ``seed`` and ``taken_block`` are None until taken; ``closed`` is the reason of a barren end."""

    task: TaskId
    block: BlockNumber
    log_index: int
    model: ModelId
    requester: Address
    input_root: Hash32
    input_uri: str
    input_length: int
    entropy: Hash32
    fee: Wei
    deadline: UnixTime
    provider: Address | None
    seed: Hash32 | None
    taken_block: BlockNumber | None
    closed: str | None


class CommitmentRow(NamedTuple):
    """``status`` is a ``JobStatus``; ``closes`` follows the extensions."""

    commitment: CommitmentId
    block: BlockNumber
    log_index: int
    tx_hash: Hash32
    task: TaskId
    model: ModelId
    provider: Address
    output_root: Hash32
    state_root: Hash32
    output_uri: str
    output_length: int
    committed_at: UnixTime
    closes: UnixTime
    status: str
    closed_block: BlockNumber | None


class DisputeRow(NamedTuple):
    """``outcome`` is a ``DisputeOutcome``."""

    dispute: DisputeId
    block: BlockNumber
    log_index: int
    tx_hash: Hash32
    commitment: CommitmentId
    challenger: Address
    output_root: Hash32
    state_root: Hash32
    evidence: Hash32
    bond: Wei
    ruling_by: UnixTime
    outcome: str
    paid: Wei
    burnt: Wei
    closed_block: BlockNumber | None


class DemandRow(NamedTuple):
    """``outcome`` is a ``DemandOutcome``; the answer lies with the event (``closed_block``, ``closed_log``)."""

    demand: DemandId
    block: BlockNumber
    log_index: int
    tx_hash: Hash32
    commitment: CommitmentId
    demander: Address
    part: str
    part_index: int
    bond: Wei
    answer_by: UnixTime
    outcome: str
    paid: Wei
    burnt: Wei
    closed_block: BlockNumber | None
    closed_log: int | None


class WorkRow(NamedTuple):
    """Where a commitment stands with us. ``state`` and ``before`` are ``State`` values; ``inputs`` is canonical JSON;
    ``verdict`` and ``confirmation`` are ids in ``verdicts``; ``drawn`` is the HMAC."""

    commitment: CommitmentId
    state: str
    before: str | None
    seen_block: BlockNumber
    seen_opens: UnixTime
    seen_closes: UnixTime
    epoch: int | None
    p_millionths: Millionths | None
    draw_block: BlockNumber | None
    draw_hash: Hash32 | None
    drawn: bytes | None
    selected: bool | None
    inputs: str | None
    verdict: int | None
    confirmation: int | None
    detail: str
    attempts: int
    next_try: UnixTime
    updated: UnixTime
    version: int


class VerdictRow(NamedTuple):
    """``environment`` is canonical JSON; ``fresh``: from a process started for this replay alone."""

    id: int
    commitment: CommitmentId
    kind: str
    detail: str
    backend: str
    fresh: bool
    output_root: Hash32 | None
    state_root: Hash32 | None
    environment: str
    microseconds: int
    time: UnixTime


class EpochRow(NamedTuple):
    """Blocks ``opens_block ≤ b < closes_block``; ``policy`` is canonical JSON."""

    number: int
    opens_block: BlockNumber
    closes_block: BlockNumber
    delay: int
    secret: bytes
    policy_digest: bytes
    policy: str
    commitment: Hash32
    anchor_tx: Hash32 | None = None
    anchor_block: BlockNumber | None = None
    revealed_at: UnixTime | None = None
    reveal_tx: Hash32 | None = None


class AttemptRow(NamedTuple):
    """One signed form of a transaction; ``sent_at`` is None until a node was asked to take it."""

    transaction: int
    number: int
    nonce: int
    gas: int
    max_fee: Wei
    tip: Wei
    hash: Hash32
    raw: bytes
    signed_at: UnixTime
    sent_at: UnixTime | None


@dataclass(frozen=True, slots=True)
class TransactionRow:
    """One intent and what became of it. ``hash`` is that of the version that was mined, and stays when a reorg takes
    it out; ``nonce`` is None before the first signature and after the nonce went to another transaction."""

    id: int
    account: Address
    intent: Intent
    state: TxState
    nonce: int | None
    hash: Hash32 | None
    block: BlockNumber | None
    block_hash: Hash32 | None
    gas_used: int | None
    error: str
    created: UnixTime
    updated: UnixTime
    version: int
    attempts: tuple[AttemptRow, ...]


class PauseRow(NamedTuple):
    id: int
    reason: str
    subject: str
    detail: str
    opened_at: UnixTime
    resumed_at: UnixTime | None
    resumed_by: str | None
    note: str


class ApprovalRow(NamedTuple):
    subject: str
    action: str
    approved: bool
    person: str
    note: str
    time: UnixTime


class HeadRow(NamedTuple):
    """A journal head as published."""

    seq: int
    hash: Hash32
    signer: str
    signature: bytes
    published_at: UnixTime


class JournalRow(NamedTuple):
    seq: int
    prev: Hash32
    hash: Hash32
    time: UnixTime
    kind: str
    subject: str
    payload: str
