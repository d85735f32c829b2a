"""The code that a protocol runs through, as it was found at start: whether it is still that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from challenger.domain import Address, Block, Hash32
from challenger.errors import WrongContract
from challenger.protocols.base import CodeReader, code_hashes


class Reader(CodeReader, Protocol):
    async def block(self, which: int | bytes | str) -> Block: ...


class Pins:
    """``wanted``: code hashes to insist on, beside that nothing changes."""

    def __init__(self, chain: Reader, wanted: Mapping[Address, Hash32] | None = None) -> None:
        self._chain = chain
        self._wanted = dict(wanted or {})
        self._looked: tuple[bytes, bool] | None = None
        #: As ``take`` found them: of all that takes part, and of what that delegates to.
        self.found: Mapping[Address, Hash32] = {}

    async def take(self, addresses: Iterable[Address], block: bytes) -> None:
        """Pins what stands there at ``block``. Raises WrongContract where it is not what was wanted."""
        found = await code_hashes(self._chain, addresses, block)
        for address, wanted in self._wanted.items():
            if found.get(address) != wanted:
                there = found[address].hex() if address in found else "nothing"
                raise WrongContract("its code hash is not the one pinned in the settings", address=address, found=there)
        self.found = found

    async def hold(self) -> bool:
        """Whether all of it is the same at the newest block."""
        head = await self._chain.block("latest")
        # the code of one block stays what it is; that it is another is one endpoint's word, and asked anew of the next
        if self._looked is None or self._looked[0] != head.hash or not self._looked[1]:
            same = bool(self.found) and self.found == await code_hashes(self._chain, self.found, head.hash)
            self._looked = head.hash, same
        return self._looked[1]
