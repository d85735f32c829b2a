"""Do independent endpoints show the same case? Asked before anything that spends.

A case is the commitment, the task it answers and the model it names: a false input or another model would make an
honest answer look wrong. Each must stand, field for field, in the receipt that every endpoint gives, in a block that
each of them calls canonical.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from challenger.chain.answers import RawLog, Receipt
from challenger.domain import Block, ChainEvent
from challenger.errors import Expected, MalformedLog


class Witness(Protocol):
    """One endpoint."""

    @property
    def name(self) -> str: ...
    async def receipt(self, tx_hash: bytes) -> Receipt | None: ...
    async def block(self, which: int | bytes | str) -> Block: ...


class Decoding(Protocol):
    def decode(self, log: RawLog) -> ChainEvent | None: ...


class Endpoints:
    def __init__(self, witnesses: Sequence[Witness], decoder: Decoding) -> None:
        self._witnesses = witnesses
        self._decoder = decoder

    async def disagreement(self, case: Sequence[ChainEvent]) -> str:
        """Names the first endpoint that shows something else, or cannot say; empty when all agree on every event."""
        for witness in self._witnesses:
            for event in case:
                try:
                    receipt = await witness.receipt(event.at.tx_hash)
                    if receipt is None:
                        return f"{witness.name} does not know the transaction"
                    canonical = await witness.block(event.at.block)
                except Expected as error:
                    return f"{witness.name} cannot say: {error.detail}"
                if canonical.hash != event.at.block_hash or not self._shows(receipt, event):
                    return f"{witness.name} shows another {type(event).__name__}"
        return ""

    def _shows(self, receipt: Receipt, event: ChainEvent) -> bool:
        for log in receipt.logs:
            try:
                if self._decoder.decode(log) == event:
                    return True
            except MalformedLog:
                continue
        return False
