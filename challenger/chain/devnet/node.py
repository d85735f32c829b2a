"""A node around the EVM chain: its pool, its clock, its index of receipts and logs, and a history that can be rewritten.

Synchronous and single-threaded. ``methods.py`` is its JSON-RPC face.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eth.exceptions import PyEVMError
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from challenger.chain.devnet.base import CHAIN_ID, Account
from challenger.chain.devnet.evm import GAS_LIMIT, EvmChain, Mined
from challenger.chain.devnet.pool import Pool, Refused
from challenger.chain.devnet.render import Json, receipts_json

#: What py-evm, rlp and the signature library raise over damaged bytes (rlp a TypeError, where a list stands for a number).
_NOT_A_TRANSACTION = (
    ValidationError,
    RLPException,
    BadSignature,
    PyEVMError,
    NotImplementedError,
    ValueError,
    TypeError,
)


class NodeError(Exception):
    """an answer with ``error``"""

    def __init__(self, message: str, code: int = -32000, data: bytes | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


@dataclass(frozen=True, slots=True)
class Options:
    """``clock``: seconds since the epoch; ``finality``: blocks behind the head at which ``finalized`` stands (``safe``
    at half of that); ``log_range``/``log_results``: the most blocks/logs of one ``eth_getLogs`` (0: any number)."""

    clock: Callable[[], float] = time.time
    finality: int = 8
    log_range: int = 0
    log_results: int = 0
    gas_limit: int = GAS_LIMIT


@dataclass(frozen=True, slots=True)
class _Snapshot:
    height: int
    offset: int
    pool: Pool
    automine: bool


class Node:
    def __init__(self, accounts: Sequence[Account], funds: int, options: Options) -> None:
        self.options = options
        self.accounts = tuple(accounts)
        self.chain = EvmChain(
            {bytes.fromhex(account.address[2:]): funds for account in accounts},
            int(options.clock()) - 1,
            gas_limit=options.gas_limit,
        )
        self.pool = Pool()
        #: receipts by block number, logs of the blocks that have any
        self.receipts: list[list[Json]] = [[]]
        self.logs: dict[int, list[Json]] = {}
        self._places: dict[bytes, tuple[int, int]] = {}  # transaction → block, index
        self._automine = True
        self._offset = 0  # chain clock − our clock
        self._forced: int | None = None
        self._snapshots: list[_Snapshot] = []
        #: senders whose transactions no block takes
        self.censored: frozenset[bytes] = frozenset()

    @property
    def height(self) -> int:
        return len(self.chain.blocks) - 1

    # transactions

    def send(self, raw: bytes) -> bytes:
        """Takes a signed transaction into the pool (and mines it, with automine); its hash. ``NodeError`` says why not."""
        try:
            tx = self.chain.decode(raw)
        except _NOT_A_TRANSACTION as error:
            raise NodeError(f"invalid transaction: {error}") from None
        if tx.chain_id not in {None, CHAIN_ID}:
            raise NodeError(f"invalid sender: invalid chain id for signer: have {tx.chain_id} want {CHAIN_ID}")
        if tx.type_id not in {None, 1, 2}:
            raise NodeError("transaction type not supported")
        if tx.gas > self.options.gas_limit:
            raise NodeError("exceeds block gas limit")
        if tx.gas < tx.intrinsic_gas:
            raise NodeError(f"intrinsic gas too low: gas {tx.gas}, minimum needed {tx.intrinsic_gas}")
        if tx.max_priority_fee_per_gas > tx.max_fee_per_gas:
            raise NodeError("max priority fee per gas higher than max fee per gas")
        try:
            self._pool_in(tx)
        except Refused as refused:
            raise NodeError(str(refused)) from None
        if self._automine and self._executable():
            self._mine_one()
        return bytes(tx.hash)

    def place(self, tx_hash: bytes) -> tuple[Mined, int] | None:
        """Block and index of a mined transaction."""
        place = self._places.get(tx_hash)
        return None if place is None else (self.chain.blocks[place[0]], place[1])

    def automine(self, on: bool) -> None:
        self._automine = on
        if on and self._executable():
            self._mine_one()

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self._mine_one()

    # time

    def next_time(self) -> int:
        """Of the next block, were it mined now."""
        if self._forced is not None:
            return self._forced
        return max(self._now(), self.head_time + 1)

    def force_next(self, at: int) -> None:
        if at <= self.head_time:
            raise NodeError(f"{at} is not after the head's time {self.head_time}", -32602)
        self._forced = at

    def travel(self, by: int) -> int:
        """Moves the clock, seconds from now; the clock's distance from ours is returned."""
        if by < 0:
            raise NodeError("time does not go backwards", -32602)
        self._offset = max(self._now(), self.head_time) + by - int(self.options.clock())
        return self._offset

    # history

    def snapshot(self) -> int:
        self._snapshots.append(_Snapshot(self.height, self._offset, self.pool.copy(), self._automine))
        return len(self._snapshots)

    def revert(self, snapshot: int) -> bool:
        """False when there is no such snapshot."""
        if not 1 <= snapshot <= len(self._snapshots):
            return False
        wanted = self._snapshots[snapshot - 1]
        del self._snapshots[snapshot - 1 :]
        self._cut(wanted.height)
        self._offset, self.pool, self._automine, self._forced = wanted.offset, wanted.pool, wanted.automine, None
        return True

    def reorg(self, depth: int, blocks: int, *, keep: bool) -> None:
        """Replaces the last ``depth`` blocks by ``blocks`` others; ``keep`` mines the dropped transactions again."""
        if not 1 <= depth <= self.height or blocks < depth:
            raise NodeError(f"a reorg drops 1 to {self.height} blocks and mines at least as many", -32602)
        fork = self.height - depth
        dropped = self._cut(fork)
        # a snapshot of the lost branch has nothing to go back to
        self._snapshots = [one for one in self._snapshots if one.height <= fork]
        waiting, self.pool = self.pool, Pool()
        if keep:
            for tx in (tx for block in dropped for tx in block.transactions):
                self._pool_in(tx)
        self.mine(blocks)
        left, self.pool = self.pool, waiting
        for tx in left:  # what no longer fits into a block waits, as on a real chain, unless its place is taken
            self._try_pool(tx)
        self.pool.drop_stale(self.chain.state(self.chain.head).get_nonce)

    def rewrite(self, depth: int, blocks: int, keep: Callable[[Any], bool]) -> None:
        """As ``reorg``, but block by block: each new one holds those of its predecessor's transactions that ``keep``
        picks, at the same time. What is not kept is gone from the pool too."""
        if not 1 <= depth <= self.height or blocks < depth:
            raise NodeError(f"a reorg drops 1 to {self.height} blocks and mines at least as many", -32602)
        dropped = self._cut(self.height - depth)
        self._snapshots = [one for one in self._snapshots if one.height <= self.height]
        waiting, self.pool = self.pool, Pool()
        for old in dropped:
            for tx in filter(keep, old.transactions):
                self._try_pool(tx)
            self._forced = int(old.header.timestamp)
            self._mine_one()
        left, self.pool = self.pool, waiting
        for tx in left:
            self._try_pool(tx)
        self.pool.drop_stale(self.chain.state(self.chain.head).get_nonce)
        self.mine(blocks - depth)

    def branch(self, depth: int, fork: int) -> Node:
        """A node that parts from this one ``depth`` blocks below the head, with a pool of its own."""
        height = max(0, self.height - depth)
        twin = object.__new__(Node)
        twin.__dict__ |= self.__dict__
        twin.chain, twin.pool = self.chain.branch(height, fork), Pool()
        twin.receipts = self.receipts[: height + 1]
        twin.logs = {number: logs for number, logs in self.logs.items() if number <= height}
        twin._places = {tx: place for tx, place in self._places.items() if place[0] <= height}
        twin._snapshots, twin._forced = [], None
        return twin

    def _try_pool(self, tx: Any) -> None:
        try:
            self._pool_in(tx)
        except Refused:
            return

    def _cut(self, height: int) -> list[Mined]:
        gone = self.chain.cut(height)
        for block in gone:
            for tx in block.transactions:
                del self._places[tx.hash]
            self.logs.pop(block.header.block_number, None)
        del self.receipts[height + 1 :]
        return gone

    # mining

    def _mine_one(self) -> None:
        at = self.next_time()
        block = self.chain.mine(at, self._offer)
        if self._forced is not None:
            self._offset, self._forced = at - int(self.options.clock()), None
        for index, tx in enumerate(block.transactions):
            self._places[tx.hash] = (block.header.block_number, index)
            self.pool.remove(tx)
        self.pool.drop_stale(self.chain.state(block).get_nonce)
        receipts = receipts_json(block)
        self.receipts.append(receipts)
        if logs := [log for receipt in receipts for log in receipt["logs"]]:
            self.logs[block.header.block_number] = logs

    def _offer(self, base_fee: int, nonce_of: Callable[[bytes], int], mine: Callable[[Any], bool]) -> None:
        self.pool.best_first(base_fee, nonce_of, lambda tx: tx.sender not in self.censored and mine(tx))

    def _executable(self) -> bool:
        """Whether a block mined now would find a transaction."""
        found = False

        def look(_tx: Any) -> bool:
            nonlocal found
            found = True
            return False

        header = self.chain.next_header(self.next_time())
        self.pool.best_first(header.base_fee_per_gas, self.chain.state(self.chain.head).get_nonce, look)
        return found

    def _pool_in(self, tx: Any) -> None:
        state = self.chain.state(self.chain.head)
        self.pool.add(tx, nonce=state.get_nonce(tx.sender), balance=state.get_balance(tx.sender))

    def _now(self) -> int:
        return int(self.options.clock()) + self._offset

    @property
    def head_time(self) -> int:
        return int(self.chain.head.header.timestamp)
