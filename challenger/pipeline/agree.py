"""Do independent endpoints show the same commitment? Asked before anything that spends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from challenger.chain.answers import RawLog, Receipt
from challenger.domain import Block, ChainEvent, Committed
from challenger.errors import Expected, MalformedLog
from challenger.store.rows import CommitmentRow


class Witness(Protocol):
    """One endpoint."""

    @property
    def name(self) -> str: ...
    async def receipt(self, tx_hash: bytes) -> Receipt | None: ...
    async def block(self, which: int | bytes | str) -> Block: ...


class Decoding(Protocol):
    def decode(self, log: RawLog) -> ChainEvent | None: ...


class Endpoints:
    """The commitment must stand in the receipt that every endpoint gives, in a block that each calls canonical."""

    def __init__(self, witnesses: Sequence[Witness], decoder: Decoding) -> None:
        self._witnesses = witnesses
        self._decoder = decoder

    async def disagreement(self, commitment: CommitmentRow) -> str:
        """Names the first endpoint that shows something else, or cannot say; empty when all agree."""
        hashes = set()
        for witness in self._witnesses:
            try:
                receipt = await witness.receipt(commitment.tx_hash)
                if receipt is None:
                    return f"{witness.name} does not know the transaction"
                canonical = await witness.block(commitment.block)
            except Expected as error:
                return f"{witness.name} cannot say: {error.detail}"
            if canonical.hash != receipt.block_hash or not self._shows(receipt, commitment):
                return f"{witness.name} shows another commitment"
            hashes.add(canonical.hash)
        return "" if len(hashes) == 1 else "the endpoints are on different forks"

    def _shows(self, receipt: Receipt, row: CommitmentRow) -> bool:
        for log in receipt.logs:
            try:
                event = self._decoder.decode(log)
            except MalformedLog:
                continue
            if isinstance(event, Committed) and event.commitment == row.commitment:
                roots = (event.output_root, event.state_root, event.provider, event.task)
                return roots == (row.output_root, row.state_root, row.provider, row.task)
        return False
