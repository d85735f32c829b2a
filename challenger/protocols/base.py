"""What a protocol adapter answers, in neutral words, and the pinning of contract code that every adapter shares.

An adapter translates; it decides nothing and signs nothing. Its builders give ``Intent``s for the one sender; its reads
are of one block each, named by hash. A read that the endpoint cannot answer raises ``EndpointError`` or ``RpcError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.chain.answers import RawLog
from challenger.chain.follower import LeftOut
from challenger.chain.hashing import keccak
from challenger.domain import (
    Address,
    AuditId,
    Block,
    Capability,
    ChainEvent,
    CommitmentId,
    DemandId,
    DemandOutcome,
    DisputeId,
    DisputeOutcome,
    Hash32,
    Intent,
    JobStatus,
    Millionths,
    Part,
    UnixTime,
    Wei,
    Window,
)
from challenger.errors import AuditRefused, EndpointError, PlantedRefused

#: More logs than any block holds. Where a log says two neutral things the second stands *beside* it: the record holds one
#: event a place, and at this distance from the log's own place no log can stand.
BESIDE = 1 << 32
#: The deadline of what may be done at any later time.
NO_DEADLINE = UnixTime(2**62)

#: The key of the reference protocol's terms.
TERMS = "terms"
#: Under which key a database keeps what 10¹⁸ units of its bonds are called; none where they are ether.
MONEY = "money"

#: Storage slots of ERC-1967: keccak("eip1967.proxy.implementation") − 1 and keccak("eip1967.proxy.beacon") − 1.
IMPLEMENTATION_SLOT = 0x360894A13BA1A3210667C828492DB98DCA3E2076CC3735A920A3CA505D382BBC
BEACON_SLOT = 0xA3F0AD74E5423AEBFD80D3EF4346578335A9A72AEAEE59FF6CB3582B35133D50
#: Selector of implementation(), which a beacon answers.
BEACON_IMPLEMENTATION = bytes.fromhex("5c60da1b")
#: Contracts, proxies and beacons that one protocol is made of at most: what an endpoint names is followed no further.
_MOST_CODE = 64


@dataclass(frozen=True, slots=True)
class Standing:
    """One commitment as the contract has it at ``block``. ``open_demands``: for withheld data; as long as there are such,
    or disputes, a window that has closed may open again."""

    block: Block
    commitment: CommitmentId
    status: JobStatus
    provider: Address
    output_root: Hash32
    state_root: Hash32
    window: Window
    open_disputes: int
    open_demands: int = 0


@dataclass(frozen=True, slots=True)
class DisputeStanding:
    """One dispute as the contract has it at ``block``. ``ruled``: the adjudicator has decided, settling will pay."""

    block: Block
    dispute: DisputeId
    commitment: CommitmentId
    outcome: DisputeOutcome
    ruled: bool
    ruling_by: UnixTime


@dataclass(frozen=True, slots=True)
class DemandStanding:
    """One demand for data as the contract has it at ``block``."""

    block: Block
    demand: DemandId
    commitment: CommitmentId
    outcome: DemandOutcome
    answer_by: UnixTime


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a dispute costs and brings beside gas, in the protocol's money; ``win`` is P(win | fraud) as this protocol decides."""

    bond: Wei
    reward: Wei
    win: Millionths


@dataclass(frozen=True, slots=True)
class Money:
    """What a protocol's bonds and rewards are counted in: wei of ether, or the smallest unit of a token. ``price``: what
    10¹⁸ units are worth in wei of ether; ``paid``: the bond leaves the account with the transaction, as its value. Where it
    is a stake that lies at the protocol before, the account's ether is for gas alone, and whether there is stake enough is
    the adapter's ``eligibility`` to say. ``unit``, ``whole``: what the smallest unit and 10¹⁸ of them are called."""

    price: Wei = Wei(10**18)
    paid: bool = True
    unit: str = "wei"
    whole: str = "ETH"

    def of_gas(self, cost: Wei) -> Wei:
        """``cost`` (wei of ether) in this money, rounded up; where a token is worth nothing no reward outweighs gas."""
        return Wei(-(-cost * 10**18 // self.price)) if self.price else _PRICELESS


#: Wei of ether, paid with the transaction.
ETHER = Money()
_PRICELESS = Wei(2**255)


@dataclass(frozen=True, slots=True)
class Aid:
    """What can be done about a fraud that the account cannot dispute itself: a vote beside another's dispute
    (``Action.VOTE``), a word to those who may dispute (``Action.SUGGEST``). ``prospect``: of this alone; a word has neither
    bond nor reward."""

    intent: Intent
    prospect: Prospect


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every commitment of the protocol, as ``check`` found it. In units of ``money``: ``bond`` of one dispute,
    ``reward`` of one won, ``burnt`` of a slash even for a provider that disputes itself. ``transactions`` open a dispute, with
    ``blocks`` to wait between them. ``said``: for a person; ``text``: as the record keeps it. ``fixed``: no block can change
    any of it, so that endpoints which show different ones do not show the same contract. ``demands``: seconds from a commitment on in which its data
    may be demanded; 0: as long as its window is open, or there are no demands."""

    bond: Wei
    reward: Wei
    burnt: Wei
    transactions: int
    blocks: int
    said: str
    text: str
    money: Money = ETHER
    fixed: bool = False
    demands: int = 0


@dataclass(frozen=True, slots=True)
class Accusation:
    """The roots that our own replay came to, against ``commitment``; ``evidence`` is the digest of the evidence."""

    commitment: CommitmentId
    output_root: Hash32
    state_root: Hash32
    evidence: Hash32

    def __post_init__(self) -> None:
        """Raises AuditRefused for what an audit found and PlantedRefused for what has no commitment behind it, should a
        type checker have been passed by."""
        if isinstance(self.commitment, AuditId):
            raise AuditRefused(subject=self.commitment.subject)
        if not isinstance(self.commitment, bytes):
            raise PlantedRefused(got=type(self.commitment).__name__)


def terms_key(protocol: str) -> str:
    """Under which key a database keeps the terms of the protocol that it follows."""
    return TERMS if protocol == "reference" else f"{TERMS}/{protocol}"


class Adapter(Protocol):
    """One protocol on one chain, seen by one account."""

    @property
    def name(self) -> str: ...

    @property
    def capability(self) -> Capability: ...

    @property
    def emitters(self) -> tuple[Address, ...]:
        """Whose logs to discover."""
        ...

    @property
    def topics(self) -> tuple[bytes, ...]:
        """First topics of the logs that mean something."""
        ...

    async def events(self, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        """What the logs of a range say, in their order; where a log alone does not say it, as the chain has it at the
        log's block. ``left_out`` is told of each that the contract cannot have written."""
        ...

    async def shown(self, reader: Any, log: RawLog) -> ChainEvent | None:
        """What ``log`` says as another ``reader`` of the chain has it; ``MalformedLog`` as above. Put ``beside`` its place,
        the second thing that it says."""
        ...

    async def check(self) -> None:
        """Once, at start: the contract is the one expected. ``WrongContract`` otherwise. Pins the code."""
        ...

    async def pinned(self) -> bool:
        """Whether all code that the protocol runs through is still what ``check`` found."""
        ...

    @property
    def terms(self) -> Terms:
        """Raises ConfigError before ``check``."""
        ...

    @property
    def pins(self) -> Mapping[Address, Hash32]:
        """Code hashes of all that takes part, as ``check`` found them."""
        ...

    async def window_at(self, reader: Any, commitment: CommitmentId, block: Hash32) -> Window:
        """The window as another ``reader`` has it in the state after ``block``."""
        ...

    async def hydrate(self, commitment: CommitmentId) -> Standing: ...

    async def window(self, commitment: CommitmentId) -> Window: ...

    async def eligibility(self, accusation: Accusation, lead: int) -> str:
        """Why no dispute may be opened now; empty when one may. ``lead``: predicted seconds from now until it is."""
        ...

    async def prospect(self, commitment: CommitmentId) -> Prospect: ...

    async def open_dispute(self, accusation: Accusation) -> Intent | None:
        """The next transaction towards an open dispute, None while only time can pass.

        Asked again after each step; what was done already is read from the chain.
        """
        ...

    async def status(self, dispute: DisputeId) -> DisputeStanding: ...

    async def advance(self, dispute: DisputeId) -> Intent | None:
        """The next transaction that takes the dispute to its end, None while only others can act."""
        ...

    async def aid(self, accusation: Accusation, lead: int) -> Aid | None:
        """What can be done where ``eligibility`` says that no dispute can be opened; None where nothing can."""
        ...

    async def demand_eligibility(self, commitment: CommitmentId, part: Part, index: int, lead: int) -> str:
        """As ``eligibility``, for withheld data."""
        ...

    async def demand_prospect(self, commitment: CommitmentId, part: Part) -> Prospect: ...

    async def open_demand(self, commitment: CommitmentId, part: Part, index: int) -> Intent: ...

    async def demand_status(self, demand: DemandId) -> DemandStanding: ...

    async def advance_demand(self, demand: DemandId) -> Intent | None: ...

    async def collect(self, occasion: str) -> Intent | None:
        """Fetches what is credited to us, None when that is nothing. ``occasion`` tells this withdrawal from others."""
        ...

    def anchor(self, epoch: int, commitment: Hash32, deadline: UnixTime) -> Intent | None:
        """Publishes the commitment to an epoch's sampling, None where there is nowhere to."""
        ...

    def reveal(self, epoch: int, secret: Hash32) -> Intent | None: ...


class CodeReader(Protocol):
    """What pinning needs of the chain."""

    async def code(self, address: Address, block: int | bytes | str = "latest") -> bytes: ...

    async def storage(self, address: Address, slot: int, block: int | bytes | str = "latest") -> bytes: ...

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes: ...


async def code_hashes(reader: CodeReader, addresses: Iterable[Address], block: bytes) -> dict[Address, Hash32]:
    """Keccak of the code at each address and at whatever each delegates to, as of ``block``: the implementation and
    the beacon that ERC-1967 slots name, and the implementation that a beacon names. ``EndpointError`` where they never end."""
    found: dict[Address, Hash32] = {}
    waiting = list(addresses)
    while waiting:
        address = waiting.pop()
        if address in found:
            continue
        if len(found) == _MOST_CODE:
            raise EndpointError(f"it names more than {_MOST_CODE} proxies, beacons and implementations")
        found[address] = Hash32(keccak(await reader.code(address, block)))
        implementation = await reader.storage(address, IMPLEMENTATION_SLOT, block)
        beacon = await reader.storage(address, BEACON_SLOT, block)
        waiting += [_address(word) for word in (implementation, beacon) if any(word)]
        if any(beacon):
            waiting.append(_address(await reader.call(_address(beacon), BEACON_IMPLEMENTATION, block)))
    return found


def _address(word: bytes) -> Address:
    return Address("0x" + word[-20:].hex())


def beside(log: RawLog, nth: int) -> RawLog:
    """``log`` at the place of the ``nth`` thing that it says, counted from 0."""
    return log._replace(log_index=log.log_index % BESIDE + nth * BESIDE)


def subject(identifier: bytes, *parts: str | int) -> str:
    """A 32-byte identifier, and what belongs to it, as the text that stands in an intent: all that is about one
    commitment begins with the same text."""
    return "/".join(("0x" + identifier.hex(), *map(str, parts)))
