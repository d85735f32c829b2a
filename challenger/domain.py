"""What the watchtower talks about: plain frozen values, no I/O, no imports of ours.

Units: times are UTC seconds, amounts are wei, rates are integer millionths, hashes are 32 raw bytes,
addresses are lower-case ``0x`` hex of 20 bytes (checksummed only where a library asks for it).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

Address = NewType("Address", str)
Hash32 = NewType("Hash32", bytes)
CommitmentId = NewType("CommitmentId", bytes)
TaskId = NewType("TaskId", bytes)
ModelId = NewType("ModelId", bytes)
DisputeId = NewType("DisputeId", int)
DemandId = NewType("DemandId", int)
ChainId = NewType("ChainId", int)
BlockNumber = NewType("BlockNumber", int)
UnixTime = NewType("UnixTime", int)
Wei = NewType("Wei", int)
Millionths = NewType("Millionths", int)

ONE = Millionths(1_000_000)
#: A time that does not come: the next try of what needs none.
NEVER = UnixTime(2**62)


class State(StrEnum):
    """Where one commitment stands with us (the arrows are ``TRANSITIONS``)."""

    OBSERVED = "observed"
    SKIPPED = "skipped"
    SAMPLED = "sampled"
    REPLAYED = "replayed"
    CONFIRMED = "confirmed"
    FILING = "filing"
    FILED = "filed"
    DISPUTING = "disputing"
    WON = "won"
    LOST = "lost"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    SHED = "shed"
    UNAVAILABLE = "unavailable"
    INCONCLUSIVE = "inconclusive"
    FINALISED = "finalised"
    FILED_BY_OTHER = "filed_by_other"
    ORPHANED = "orphaned"


_S = State
#: Every legal arrow. A reorg may orphan any state; a reorg back restores the state held before.
TRANSITIONS: dict[State, frozenset[State]] = {
    _S.OBSERVED: frozenset({_S.SKIPPED, _S.SAMPLED, _S.SHED, _S.INCONCLUSIVE, _S.FINALISED}),
    _S.SKIPPED: frozenset({_S.FINALISED, _S.FILED_BY_OTHER}),
    _S.SAMPLED: frozenset(
        {_S.REPLAYED, _S.UNAVAILABLE, _S.INCONCLUSIVE, _S.SHED, _S.FINALISED, _S.EXPIRED, _S.FILED_BY_OTHER}
    ),
    _S.REPLAYED: frozenset({_S.CONFIRMED, _S.INCONCLUSIVE, _S.FINALISED, _S.EXPIRED, _S.FILED_BY_OTHER, _S.SAMPLED}),
    _S.CONFIRMED: frozenset({_S.FILING, _S.FILED_BY_OTHER, _S.EXPIRED, _S.INCONCLUSIVE, _S.FINALISED}),
    _S.FILING: frozenset({_S.FILED, _S.FILED_BY_OTHER, _S.EXPIRED, _S.CONFIRMED, _S.UNAVAILABLE}),
    _S.FILED: frozenset({_S.DISPUTING, _S.FILING, _S.WON, _S.LOST, _S.EXPIRED}),
    _S.DISPUTING: frozenset({_S.WON, _S.LOST, _S.EXPIRED, _S.SAMPLED}),
    _S.WON: frozenset({_S.WITHDRAWN}),
    _S.LOST: frozenset(),
    _S.EXPIRED: frozenset({_S.WITHDRAWN}),
    _S.WITHDRAWN: frozenset(),
    _S.SHED: frozenset({_S.SAMPLED, _S.FINALISED, _S.FILED_BY_OTHER}),
    _S.UNAVAILABLE: frozenset(
        {_S.SAMPLED, _S.FILING, _S.INCONCLUSIVE, _S.EXPIRED, _S.FINALISED, _S.FILED_BY_OTHER, _S.WON}
    ),
    _S.INCONCLUSIVE: frozenset({_S.SAMPLED, _S.FINALISED, _S.EXPIRED, _S.FILED_BY_OTHER}),
    _S.FINALISED: frozenset(),
    _S.FILED_BY_OTHER: frozenset({_S.FINALISED}),
    _S.ORPHANED: frozenset(State),
}
TERMINAL = frozenset({_S.LOST, _S.WITHDRAWN, _S.FINALISED})


def may_move(old: State, new: State) -> bool:
    """Whether ``old → new`` is a legal arrow (``→ orphaned`` always is)."""
    return new is State.ORPHANED or new in TRANSITIONS[old]


class VerdictKind(StrEnum):
    VALID = "VALID"
    FRAUD = "FRAUD"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one replay says of one commitment. ``detail`` is the reason (INCONCLUSIVE), what is missing
    (UNAVAILABLE) or the first root that differs (FRAUD: ``output`` or ``state``)."""

    kind: VerdictKind
    detail: str
    backend: str
    output_root: Hash32 | None
    state_root: Hash32 | None
    environment: dict[str, str]
    seconds: float


class Part(StrEnum):
    """What may be withheld, and by whom: requester, registrar, provider, provider."""

    INPUT = "input"
    WEIGHTS = "weights"
    OUTPUT = "output"
    OPENING = "opening"


class JobStatus(StrEnum):
    """Where a commitment stands on chain."""

    COMMITTED = "committed"
    FINAL = "final"
    FRAUD = "fraud"
    VOID = "void"


class DisputeOutcome(StrEnum):
    OPEN = "open"
    CHALLENGER = "challenger"
    PROVIDER = "provider"
    EXPIRED = "expired"
    MOOT = "moot"


class DemandOutcome(StrEnum):
    OPEN = "open"
    ANSWERED = "answered"
    LOST = "lost"
    MOOT = "moot"


@dataclass(frozen=True, slots=True)
class Block:
    number: BlockNumber
    hash: Hash32
    parent: Hash32
    time: UnixTime


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last block whose events are in the store; ``version`` counts its moves, so that a move away and back shows."""

    block: BlockNumber
    hash: Hash32
    version: int


@dataclass(frozen=True, slots=True)
class At:
    """Where an event stands on chain."""

    block: BlockNumber
    block_hash: Hash32
    log_index: int
    tx_hash: Hash32


@dataclass(frozen=True, slots=True)
class Window:
    """Time in which a commitment may be disputed: ``opens ≤ t < closes`` (chain time, seconds).
    ``frozen`` says that the protocol fixes it per commitment; a live one is read again before each action."""

    opens: UnixTime
    closes: UnixTime
    frozen: bool

    def open_at(self, now: UnixTime) -> bool:
        return self.opens <= now < self.closes


# Neutral chain events: what an adapter makes of a protocol's logs. Every one carries ``at`` and a ``subject``,
# the id of the aggregate whose row is folded from its events.


@dataclass(frozen=True, slots=True)
class ModelRegistered:
    at: At
    model: ModelId
    registrar: Address
    file_digest: Hash32
    artefact_root: Hash32
    program_root: Hash32
    spec_version: int
    mode: str
    boundaries: int
    artefact_tiles: int
    uri: str
    known_input: bytes
    known_output_root: Hash32


@dataclass(frozen=True, slots=True)
class ModelDisabled:
    at: At
    model: ModelId


@dataclass(frozen=True, slots=True)
class TaskOpened:
    at: At
    task: TaskId
    model: ModelId
    requester: Address
    input_root: Hash32
    input_data: bytes
    input_uri: str
    input_length: int
    entropy: Hash32
    fee: Wei
    deadline: UnixTime


@dataclass(frozen=True, slots=True)
class TaskTaken:
    at: At
    task: TaskId
    provider: Address
    seed: Hash32


@dataclass(frozen=True, slots=True)
class TaskClosed:
    """A task that ended without a commitment: cancelled by the requester, or lapsed after its deadline."""

    at: At
    task: TaskId
    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    at: At
    commitment: CommitmentId
    task: TaskId
    model: ModelId
    provider: Address
    output_root: Hash32
    state_root: Hash32
    output_data: bytes
    output_uri: str
    output_length: int
    committed_at: UnixTime
    closes: UnixTime


@dataclass(frozen=True, slots=True)
class WindowExtended:
    at: At
    commitment: CommitmentId
    closes: UnixTime


@dataclass(frozen=True, slots=True)
class DisputeOpened:
    at: At
    dispute: DisputeId
    commitment: CommitmentId
    challenger: Address
    output_root: Hash32
    state_root: Hash32
    evidence: Hash32
    bond: Wei
    ruling_by: UnixTime


@dataclass(frozen=True, slots=True)
class DisputeClosed:
    at: At
    dispute: DisputeId
    commitment: CommitmentId
    outcome: DisputeOutcome
    paid: Wei
    burnt: Wei


@dataclass(frozen=True, slots=True)
class DemandOpened:
    at: At
    demand: DemandId
    commitment: CommitmentId
    demander: Address
    part: Part
    index: int
    bond: Wei
    answer_by: UnixTime


@dataclass(frozen=True, slots=True)
class DemandClosed:
    """``data`` is the posted answer; empty when the responsible party let the clock run out."""

    at: At
    demand: DemandId
    commitment: CommitmentId
    outcome: DemandOutcome
    data: bytes
    paid: Wei
    burnt: Wei


@dataclass(frozen=True, slots=True)
class JobClosed:
    at: At
    commitment: CommitmentId
    status: JobStatus


ChainEvent = (
    ModelRegistered
    | ModelDisabled
    | TaskOpened
    | TaskTaken
    | TaskClosed
    | Committed
    | WindowExtended
    | DisputeOpened
    | DisputeClosed
    | DemandOpened
    | DemandClosed
    | JobClosed
)


class Mode(StrEnum):
    """How far the watcher goes on its own."""

    WATCH = "watch"
    DRY_RUN = "dry-run"
    CONFIRM = "confirm"
    LIVE = "live"


class Capability(StrEnum):
    NONE = "none"
    REPORT_ONLY = "report_only"
    SUGGEST = "suggest"
    PERMISSIONED = "permissioned"
    OPEN = "open"


class Action(StrEnum):
    """What a transaction of ours does; with protocol and subject it is the idempotence key."""

    ANCHOR = "anchor"
    REVEAL = "reveal"
    SEAL = "seal"
    CHALLENGE = "challenge"
    SETTLE = "settle"
    VOTE = "vote"  # beside another's dispute
    SUGGEST = "suggest"  # to those who may dispute
    DEMAND = "demand"
    CLAIM_DEMAND = "claim-demand"
    FINALISE = "finalise"
    WITHDRAW = "withdraw"
    CANCEL = "cancel"  # the sender's own: gives up a nonce with an empty transaction


class TxState(StrEnum):
    """intent → signed → sent → mined → final | reverted | replaced | abandoned. A reorg takes mined back to sent,
    and final and reverted too when it goes deeper than what counted as final."""

    INTENT = "intent"
    SIGNED = "signed"
    SENT = "sent"
    MINED = "mined"
    FINAL = "final"
    REVERTED = "reverted"
    REPLACED = "replaced"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Call:
    """A transaction before fees and nonce."""

    to: Address
    data: bytes
    value: Wei


@dataclass(frozen=True, slots=True)
class Intent:
    """A wish to send ``call`` once: the key (protocol, subject, action) is unique in the store."""

    protocol: str
    subject: str
    action: Action
    call: Call
    deadline: UnixTime


#: How every subject of a planted item begins: no aggregate of the chain has such a name.
_PLANTED = "planted/"


@dataclass(frozen=True, slots=True)
class PlantId:
    """Which planted item of the self-test. No ``CommitmentId``, so that nothing that accuses can be made of it."""

    number: int

    @property
    def subject(self) -> str:
        """How the journal and alerts call it."""
        return f"{_PLANTED}{self.number}"


def is_planted(intent: Intent) -> bool:
    """Whether this wish is about a planted item: nothing may ever be sent for it."""
    return intent.subject.startswith(_PLANTED)


class Source(StrEnum):
    """Where an audit has its facts from: our own index; the chain's logs, proved against their blocks' hashes; or logs
    as an endpoint serves them, where it serves no receipts that prove them."""

    RECORD = "record"
    CHAIN = "chain"
    SERVED = "chain-unproved"


#: How every subject of an audit begins: no aggregate of the chain has such a name.
_AUDIT = "audit/"


@dataclass(frozen=True, slots=True)
class AuditId:
    """The commitment that an audit speaks ``about``. No ``CommitmentId``, so that nothing that accuses can be made of it."""

    about: bytes

    @property
    def subject(self) -> str:
        """How the journal calls it."""
        return f"{_AUDIT}0x{self.about.hex()}"


def is_audit(intent: Intent) -> bool:
    """Whether this wish is about what an audit found: nothing may ever be sent for it."""
    return intent.subject.startswith(_AUDIT)


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What a replay says of a past commitment, for the record and never for a filing: no ``Verdict``.

    ``committed_…`` are the provider's roots, the others the computed ones (None without a replay). ``confirmed``: the
    second backend that reproduced a FRAUD in a fresh process, empty where none was asked. ``environment``: by backend.
    """

    audit: AuditId
    source: Source
    block: BlockNumber
    block_hash: Hash32
    provider: Address
    committed_output: Hash32
    committed_state: Hash32
    kind: VerdictKind
    detail: str
    backend: str
    output_root: Hash32 | None
    state_root: Hash32 | None
    confirmed: str
    environment: dict[str, dict[str, str]]
    seconds: float
