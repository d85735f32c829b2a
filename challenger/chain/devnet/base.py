"""The one interface of every devnet, and the accounts that all of them fund."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, Self

from eth_keys.datatypes import PrivateKey

from challenger.chain.rpc import Provider, Rpc
from challenger.domain import Address
from challenger.errors import ChallengerError

CHAIN_ID = 31337
ETHER = 10**18
FUNDS = 1_000_000 * ETHER
ACCOUNTS = 20


class DevnetError(ChallengerError):
    """the devnet cannot do that"""


@dataclass(frozen=True, slots=True)
class Account:
    """A funded account. Its key is public knowledge: never use it anywhere else."""

    address: Address
    key: bytes = field(repr=False)


@lru_cache
def accounts(count: int = ACCOUNTS) -> tuple[Account, ...]:
    """The same on every devnet, in the same order."""
    keys = [hashlib.sha256(b"challenger devnet account %d" % i).digest() for i in range(count)]
    return tuple(Account(Address(PrivateKey(key).public_key.to_address()), key) for key in keys)


class Devnet(Protocol):
    """A chain whose time and history obey. An async context manager: entering starts it, leaving closes it.

    Blocks are mined as transactions arrive (``automine``, the state at the start) or when told to. Times are UTC
    seconds of the chain's own clock, which runs with the machine's and never behind its newest block.
    """

    @property
    def provider(self) -> Provider: ...

    @property
    def rpc(self) -> Rpc: ...

    @property
    def accounts(self) -> tuple[Account, ...]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def mine(self, blocks: int = 1) -> None:
        """Mines ``blocks`` blocks; the first ones take the waiting transactions, as many as fit."""

    async def automine(self, on: bool) -> None:
        """Whether each accepted transaction is mined at once in a block of its own."""

    async def next_time(self, at: int) -> None:
        """Gives the next block this time; the clock goes on from there. ``DevnetError`` unless it is after the head's."""

    async def time_travel(self, *, to: int | None = None, by: int | None = None) -> None:
        """Moves the clock to a time, or by seconds from now, and mines a block there."""

    async def snapshot(self) -> str:
        """An id for ``revert``."""

    async def revert(self, snapshot: str) -> None:
        """Back to the snapshot's blocks; it and later ones are used up. ``DevnetError``: no such snapshot."""

    async def reorg(self, depth: int, blocks: int | None = None, *, keep: bool = False) -> None:
        """Replaces the last ``depth`` blocks by ``blocks`` different ones (at least as many; one more by default).

        The transactions of the dropped blocks are gone; with ``keep`` the first of the new blocks mines them again.
        """
