"""A chain on py-evm, synchronous and deterministic: blocks are built from transactions, history can be cut back.

py-evm executes and keeps the state tries, of all blocks, by root; which blocks are canonical is a plain list here, so
that snapshots, reorgs and reads of old state are cheap. The genesis and the rules are those of the Prague fork.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import rlp
from eth.chains.base import MiningChain
from eth.consensus.applier import ConsensusApplier
from eth.consensus.noproof import NoProofConsensus
from eth.constants import BLANK_ROOT_HASH, CREATE_CONTRACT_ADDRESS
from eth.db.atomic import AtomicDB
from eth.exceptions import Revert, VMError
from eth.vm.forks.prague import PragueVM
from eth.vm.message import Message
from eth.vm.spoof import SpoofTransaction
from eth_typing import Address
from eth_utils.exceptions import ValidationError

from challenger.chain.devnet.base import CHAIN_ID
from challenger.chain.hashing import keccak

GAS_LIMIT = 60_000_000
FIRST_BASE_FEE = 10**9
_COINBASE = bytes.fromhex("c0") * 20
_ANYONE = bytes(20)
T = TypeVar("T")
#: Answers of calls and estimates kept at most.
_REMEMBERED = 2_000
#: States kept for reading at most.
_STATES = 8


class Failed(Exception):
    """the execution failed"""

    def __init__(self, reason: str, data: bytes, *, reverted: bool) -> None:
        super().__init__(reason)
        self.data = data
        self.reverted = reverted


@dataclass(frozen=True, slots=True)
class Mined:
    """One canonical block: py-evm's header, its transactions and what became of each."""

    header: Any
    hash: bytes
    size: int
    transactions: tuple[Any, ...]
    receipts: tuple[Any, ...]
    created: tuple[bytes | None, ...]


class EvmChain:
    """Blocks from genesis to ``head``. ``funds``: address → wei at genesis."""

    def __init__(self, funds: dict[bytes, int], genesis_time: int, *, gas_limit: int = GAS_LIMIT) -> None:
        rules = ConsensusApplier(NoProofConsensus).amend_vm_configuration(((0, PragueVM),))
        kind = MiningChain.configure("DevnetChain", vm_configuration=rules, chain_id=CHAIN_ID)
        genesis: dict[str, Any] = {
            "difficulty": 0,
            "gas_limit": gas_limit,
            "timestamp": genesis_time,
            "coinbase": _COINBASE,
            "base_fee_per_gas": FIRST_BASE_FEE,
            "receipt_root": BLANK_ROOT_HASH,
            "transaction_root": BLANK_ROOT_HASH,
        }
        state: Any = {a: {"balance": wei, "nonce": 0, "code": b"", "storage": {}} for a, wei in funds.items()}
        self._chain = kind.from_genesis(AtomicDB(), genesis, state)
        header = self._chain.get_canonical_head()
        self.blocks: list[Mined] = [Mined(header, bytes(header.hash), 0, (), (), ())]
        self._numbers = {self.blocks[0].hash: 0}
        self._fork = 0
        self._answers: dict[tuple[Any, ...], Any] = {}
        self._states: dict[bytes, Any] = {}
        #: factor on the base fee of the next block mined, used up by it
        self.surge = 1

    @property
    def head(self) -> Mined:
        return self.blocks[-1]

    def number_of(self, block_hash: bytes) -> int | None:
        """None unless the block is canonical."""
        return self._numbers.get(block_hash)

    def decode(self, raw: bytes) -> Any:
        """A signed transaction; ``ValidationError`` and what rlp raises when it is none, or its signature is bad."""
        tx = PragueVM.get_transaction_builder().decode(raw)
        tx.sender  # noqa: B018 - recovered once, here; py-evm caches it
        return tx

    # building

    def next_header(self, timestamp: int, parent: Mined | None = None) -> Any:
        parent = parent or self.head
        # blocks of another fork must differ even when they are empty and of the same second
        salt = keccak(parent.hash + self._fork.to_bytes(8, "big"))
        header = PragueVM.create_header_from_parent(
            parent.header,
            timestamp=timestamp,
            coinbase=_COINBASE,
            gas_limit=parent.header.gas_limit,
            mix_hash=salt,
        )
        return header if self.surge == 1 else header.copy(base_fee_per_gas=header.base_fee_per_gas * self.surge)

    def branch(self, height: int, fork: int) -> EvmChain:
        """Another history from block ``height`` on, over the same states; ``fork`` tells its blocks from all others."""
        twin = object.__new__(EvmChain)
        twin._chain, twin._fork, twin.surge, twin._answers, twin._states = self._chain, fork, 1, {}, {}
        twin.blocks = self.blocks[: height + 1]
        twin._numbers = {block.hash: number for number, block in enumerate(twin.blocks)}
        return twin

    def mine(
        self, timestamp: int, choose: Callable[[int, Callable[[bytes], int], Callable[[Any], bool]], None]
    ) -> Mined:
        """Builds the next block. ``choose(base fee, nonce_of, mine)`` calls ``mine(tx)`` for one transaction after the
        other and hears whether it was taken (it fits, its sender can pay)."""
        header = self.next_header(timestamp)
        vm = self._vm(header)
        taken: list[Any] = []
        receipts: list[Any] = []
        created: list[bytes | None] = []

        def mine(tx: Any) -> bool:
            nonlocal header
            undo = vm.state.snapshot()
            try:
                # the signature was checked when the sender was recovered from it
                receipt, computation = vm.apply_transaction(header, SpoofTransaction(tx, validate=lambda: None))
            except ValidationError:
                vm.state.revert(undo)
                return False
            header = vm.add_receipt_to_header(header, receipt)
            taken.append(tx)
            receipts.append(receipt)
            created.append(bytes(computation.msg.storage_address) if computation.msg.is_create else None)
            return True

        choose(header.base_fee_per_gas, vm.state.get_nonce, mine)
        block = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, tuple(taken), tuple(receipts))
        block = vm.finalize_block(block).block
        mined = Mined(
            block.header,
            bytes(block.header.hash),
            len(rlp.encode(block)),
            tuple(taken),
            tuple(receipts),
            tuple(created),
        )
        self._chain.chaindb.db[mined.hash] = rlp.encode(block.header)  # where BLOCKHASH looks for it
        self._numbers[mined.hash] = len(self.blocks)
        self.blocks.append(mined)
        self.surge = 1
        return mined

    def cut(self, height: int) -> list[Mined]:
        """Makes block ``height`` the head again; the blocks that go are returned."""
        gone = self.blocks[height + 1 :]
        del self.blocks[height + 1 :]
        for block in gone:
            del self._numbers[block.hash]
        self._fork += 1
        return gone

    # reading

    def state(self, block: Mined) -> Any:
        """py-evm's state after ``block``, to read only: get_balance, get_nonce, get_code, get_storage."""
        return self._still(block.header)

    def _still(self, header: Any) -> Any:
        """A state that nobody changes, or that is put back: what it has read of the tries once it need not read again."""
        key = bytes(header.hash)
        found = self._states.pop(key, None) or self._vm(header).state
        self._states[key] = found  # the latest last
        if len(self._states) > _STATES:
            del self._states[next(iter(self._states))]
        return found

    def call(self, header: Any, sender: bytes | None, to: bytes, data: bytes, value: int, gas: int | None) -> bytes:
        """Executes a message in the state and with the time of ``header``, keeping nothing. Raises ``Failed``."""
        asked = (bytes(header.hash), sender, to, data, value, gas)
        return self._remembered(asked, partial(self._execute, header, sender, to, data, value, gas))

    def _remembered(self, asked: tuple[Any, ...], answer: Callable[[], T]) -> T:
        """A state never changes, so answers are remembered, failures too: clients ask the same of one block again and
        again."""
        if asked not in self._answers:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            try:
                self._answers[asked] = answer()
            except Failed as failed:
                self._answers[asked] = failed.with_traceback(None)  # whose frames hold a whole state
        found: T | Failed = self._answers[asked]
        if isinstance(found, Failed):
            raise found.with_traceback(None)
        return found

    def _execute(self, header: Any, sender: bytes | None, to: bytes, data: bytes, value: int, gas: int | None) -> bytes:
        state = self._still(header)
        origin = sender or _ANYONE
        # without a target the data are a contract's beginning: what they return is its code
        code, given = (state.get_code(to), data) if to else (data, b"")
        message = Message(gas or header.gas_limit, Address(to or _ANYONE), Address(origin), value, given, code)
        context = state.get_transaction_context_class()(gas_price=0, origin=origin)
        undo = state.snapshot()
        try:
            computation = state.computation_class.apply_message(state, message, context)
        finally:
            state.revert(undo)
        if computation.is_error:
            raise _failure(computation.error)
        return bytes(computation.output)

    def estimate_gas(self, header: Any, sender: bytes | None, to: bytes, data: bytes, value: int) -> int:
        """The gas limit with which the transaction succeeds, at most 1.6 % above the least (what a call may pass on is
        63/64 of the rest). Raises ``Failed`` when none makes it succeed."""
        asked = (bytes(header.hash), sender, to, data, value)
        return self._remembered(asked, partial(self._estimate, header, sender, to, data, value))

    def _estimate(self, header: Any, sender: bytes | None, to: bytes, data: bytes, value: int) -> int:
        free = header.copy(base_fee_per_gas=0, gas_used=0)
        limit = int(free.gas_limit)
        used, peak = self._try(free, sender, to, data, value, limit)
        for guess in (max(used, peak), (max(used, peak) + 2_300) * 64 // 63 + 1):
            if guess < limit and self._succeeds(free, sender, to, data, value, guess):
                return guess
        low, high = used, limit
        while high - low > max(low // 64, 1):
            middle = (low + high) // 2
            if self._succeeds(free, sender, to, data, value, middle):
                high = middle
            else:
                low = middle
        return high

    def _succeeds(self, header: Any, sender: bytes | None, to: bytes, data: bytes, value: int, gas: int) -> bool:
        try:
            self._try(header, sender, to, data, value, gas)
        except Failed:
            return False
        return True

    def _try(self, header: Any, sender: bytes | None, to: bytes, data: bytes, value: int, gas: int) -> tuple[int, int]:
        """Gas charged, and gas needed before refunds."""
        vm = self._vm(header)
        origin = sender or _ANYONE
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=CHAIN_ID,
            nonce=vm.state.get_nonce(origin),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=gas,
            to=to or CREATE_CONTRACT_ADDRESS,
            value=value,
            data=data,
            access_list=(),
        )
        tx = SpoofTransaction(unsigned, from_=origin)
        if gas < tx.intrinsic_gas:
            raise Failed("intrinsic gas too low", b"", reverted=False)
        try:
            computation = vm.state.apply_transaction(tx)
        except ValidationError as error:
            raise Failed(str(error), b"", reverted=False) from None
        if computation.is_error:
            raise _failure(computation.error)
        return int(vm.finalize_gas_used(tx, computation)), int(gas - computation.get_gas_remaining())

    def _vm(self, header: Any) -> Any:
        return self._chain.get_vm(header)


def _failure(error: VMError) -> Failed:
    if isinstance(error, Revert):
        data = bytes(error.args[0]) if error.args and isinstance(error.args[0], bytes | memoryview) else b""
        return Failed("execution reverted", data, reverted=True)
    text = str(error) or type(error).__name__
    return Failed(text, b"", reverted=False)
