"""What the sender needs of the chain and of the store: the seams on both of its sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from challenger.chain.answers import Count, SentTx
from challenger.chain.inclusion import Caller, ChainReader
from challenger.domain import Address, BlockNumber, Hash32, Intent, TxState, UnixTime, Wei


class Node(ChainReader, Caller, Protocol):
    """The chain as ``rpc.Rpc`` shows it."""

    async def base_fee(self) -> Wei: ...

    async def simulate(self, to: Address, data: bytes, *, sender: Address, value: int = 0) -> None: ...

    async def estimates(self, to: Address, data: bytes, *, sender: Address, value: int = 0) -> list[int]: ...

    async def balance(self, address: Address, block: int | bytes | str = "latest") -> Wei: ...

    async def count(self, address: Address, block: int | bytes | str = "latest") -> Count: ...

    async def transaction(self, tx_hash: bytes) -> SentTx | None: ...

    async def send_raw(self, raw: bytes) -> Hash32: ...


@dataclass(frozen=True, slots=True)
class Signed:
    """One version of a transaction, just signed. ``signed_at`` is chain time."""

    nonce: int
    gas: int
    max_fee: Wei
    tip: Wei
    hash: Hash32
    raw: bytes
    signed_at: UnixTime


class Attempt(Protocol):
    """One signed version of a row's transaction, as it is kept for ever. ``sent_at`` None: not known to be sent."""

    @property
    def number(self) -> int: ...
    @property
    def nonce(self) -> int: ...
    @property
    def gas(self) -> int: ...
    @property
    def max_fee(self) -> Wei: ...
    @property
    def tip(self) -> Wei: ...
    @property
    def hash(self) -> Hash32: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def signed_at(self) -> UnixTime: ...
    @property
    def sent_at(self) -> UnixTime | None: ...


class Row(Protocol):
    """One intent and what became of it. ``hash``, ``block`` and ``block_hash`` are those of the mined version; ``nonce`` is None
    before the first signature and after the nonce went to another; ``attempts`` are in the order of their signing."""

    @property
    def id(self) -> int: ...
    @property
    def intent(self) -> Intent: ...
    @property
    def state(self) -> TxState: ...
    @property
    def nonce(self) -> int | None: ...
    @property
    def hash(self) -> Hash32 | None: ...
    @property
    def block(self) -> BlockNumber | None: ...
    @property
    def block_hash(self) -> Hash32 | None: ...
    @property
    def attempts(self) -> Sequence[Attempt]: ...


class Outbox(Protocol):
    """The rows. Every method is one SQL transaction, journalled; ``now`` is chain time."""

    async def propose(self, intent: Intent, account: Address, now: UnixTime, *, again: bool = False) -> Row:
        """The row with this intent's key, made if there is none. With ``again`` a row that is abandoned, reverted or
        replaced goes back to intent, with this call and deadline and without a nonce; its attempts stay."""
        ...

    async def unfinished(self, account: Address) -> Sequence[Row]:
        """All rows of the account that are intent, signed, sent or mined."""
        ...

    async def next_nonce(self, account: Address) -> int | None:
        """One above the highest nonce that was ever signed for the account; None when there is none."""
        ...

    async def settled(self, account: Address, nonce: int) -> Row | None:
        """The row that took this nonce on chain and is final or reverted by now."""
        ...

    async def signed(self, row: int, made: Signed) -> Attempt:
        """Keeps a signed version, before it is sent. intent → signed; a row further on keeps its state. Fails when
        another process owns the account by now; raises GivenUp, the row abandoned, when nobody wants it signed any more."""
        ...

    async def sent(self, row: int, number: int, now: UnixTime) -> None:
        """That the attempt was handed to a node. signed → sent; a row further on keeps its state."""
        ...

    async def mined(
        self,
        row: int,
        tx_hash: Hash32,
        block: BlockNumber,
        block_hash: Hash32,
        gas_used: int,
        now: UnixTime,
        *,
        mined_at: UnixTime,
    ) -> None:
        """Any unfinished state → mined; again when the block changed. ``mined_at``: the block's time, maybe long ago."""
        ...

    async def unmined(self, row: int, now: UnixTime) -> None:
        """Mined → sent; the hash that was mined stays, the block goes."""
        ...

    async def reopened(self, row: int, now: UnixTime) -> Row:
        """Final or reverted → sent: the chain took back what counted as final."""
        ...

    async def requeued(self, row: int, detail: str, now: UnixTime) -> None:
        """Signed or sent → intent, without a nonce; its attempts stay."""
        ...

    async def closed(self, row: int, state: TxState, detail: str, now: UnixTime) -> None:
        """To final, reverted, replaced or abandoned."""
        ...
