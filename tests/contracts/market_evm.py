"""A bare EVM for contract tests: py-evm's state without blocks, signatures or fees, so that a call takes milliseconds.

Time, height and senders are ours to choose; everything between a message and its effects is the real virtual machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from eth.constants import BLANK_ROOT_HASH
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague import PragueVM
from eth.vm.message import Message
from eth_abi import decode, encode

from challenger.chain.hashing import keccak
from challenger.contracts import Artifact, artifact

CHAIN_ID = 31337
GENESIS_TIME = 1_700_000_000
BLOCK_TIME = 12
GAS = 30_000_000


class CallReverted(AssertionError):
    """A call that was to succeed did not."""


@dataclass(frozen=True)
class Log:
    name: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    ok: bool
    output: bytes
    logs: list[Log] = field(default_factory=list)
    error: str = ""
    error_args: tuple[Any, ...] = ()
    gas: int = 0

    def log(self, name: str) -> dict[str, Any]:
        found = [log.args for log in self.logs if log.name == name]
        assert len(found) == 1, f"{name} is there {len(found)} times in {[log.name for log in self.logs]}"
        return found[0]


def type_of(entry: dict[str, Any]) -> str:
    """ABI type with tuples spelt out."""
    if entry["type"].startswith("tuple"):
        return f"({','.join(type_of(part) for part in entry['components'])}){entry['type'][5:]}"
    return str(entry["type"])


def signature_of(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(type_of(part) for part in entry['inputs'])})"


class Abi:
    """Calls, logs and errors of one contract, straight from its artifact."""

    def __init__(self, contract: Artifact) -> None:
        entries = contract.abi
        self.functions = [entry for entry in entries if entry["type"] == "function"]
        self.errors = {keccak(signature_of(e).encode())[:4]: e for e in entries if e["type"] == "error"}
        self.events = {keccak(signature_of(e).encode()): e for e in entries if e["type"] == "event"}
        self.constructor = next((e for e in entries if e["type"] == "constructor"), {"inputs": []})

    def find(self, name: str, arity: int) -> dict[str, Any]:
        found = [e for e in self.functions if e["name"] == name and len(e["inputs"]) == arity]
        assert len(found) == 1, f"{name}/{arity} is there {len(found)} times"
        return found[0]

    def encode(self, name: str, args: tuple[Any, ...]) -> tuple[bytes, dict[str, Any]]:
        entry = self.find(name, len(args))
        types = [type_of(part) for part in entry["inputs"]]
        return keccak(signature_of(entry).encode())[:4] + encode(types, args), entry

    def error(self, output: bytes) -> tuple[str, tuple[Any, ...]]:
        if output[:4] == keccak(b"Panic(uint256)")[:4]:
            return "Panic", decode(["uint256"], output[4:])
        entry = self.errors.get(output[:4])
        if entry is None:
            return f"0x{output.hex()}", ()
        return entry["name"], decode([type_of(part) for part in entry["inputs"]], output[4:])

    def log(self, topics: list[bytes], data: bytes) -> Log | None:
        entry = self.events.get(topics[0])
        if entry is None:
            return None
        plain = [part for part in entry["inputs"] if not part["indexed"]]
        values = iter(decode([type_of(part) for part in plain], data))
        words = iter(topics[1:])
        args = {
            part["name"]: decode([type_of(part)], next(words))[0] if part["indexed"] else next(values)
            for part in entry["inputs"]
        }
        return Log(entry["name"], args)


@cache
def abi_of(name: str) -> Abi:
    return Abi(artifact(name))


class Evm:
    """One chain: ``block`` and ``time`` move only by ``mine``."""

    def __init__(self, chain_id: int = CHAIN_ID) -> None:
        self.chain_id = chain_id
        self.block = 1
        self.time = GENESIS_TIME
        self.names: dict[bytes, str] = {}
        state_class = PragueVM.get_state_class()
        self.state = state_class(AtomicDB(), self._context(), BLANK_ROOT_HASH)
        self._created = 0
        self.version = 0  # counts the messages that may have changed something
        self._views: dict[tuple[Any, ...], Any] = {}

    def hash_of(self, block: int) -> bytes:
        return keccak(b"block" + block.to_bytes(8, "big"))

    def _context(self) -> ExecutionContext:
        def ancestors() -> Iterator[bytes]:
            for number in range(self.block - 1, max(self.block - 257, -1), -1):
                yield self.hash_of(number)

        return ExecutionContext(
            coinbase=bytes(20),
            timestamp=self.time,
            block_number=self.block,
            difficulty=0,
            mix_hash=bytes(32),
            gas_limit=GAS,
            prev_hashes=ancestors(),
            chain_id=self.chain_id,
            base_fee_per_gas=0,
            excess_blob_gas=0,
        )

    def mine(self, blocks: int = 1, seconds: int | None = None) -> None:
        """``seconds`` pass in all; by default ``BLOCK_TIME`` a block."""
        self.block += blocks
        self.time += blocks * BLOCK_TIME if seconds is None else seconds
        self.state.execution_context = self._context()

    def fund(self, account: bytes, amount: int) -> None:
        self.state.set_balance(account, amount)

    def balance(self, account: bytes) -> int:
        return int(self.state.get_balance(account))

    def place(self, account: bytes, code: bytes) -> None:
        """Puts runtime code at an address, without a constructor."""
        self.state.set_code(account, code)

    def message(
        self,
        sender: bytes,
        to: bytes,
        data: bytes,
        value: int = 0,
        *,
        create: bytes = b"",
        static: bool = False,
        gas: int = GAS,
    ) -> tuple[bool, bytes, list[tuple[bytes, list[int], bytes]], int]:
        context = self.state.get_transaction_context_class()(gas_price=0, origin=sender)
        if create:
            message = Message(gas, b"", sender, value, b"", data, create_address=create)
            run = self.state.computation_class.apply_create_message
        else:
            code = self.state.get_code(to)
            message = Message(gas, to, sender, value, data, code, is_static=static, should_transfer_value=not static)
            run = self.state.computation_class.apply_message
        computation = run(self.state, message, context)
        if not (static or computation.is_error):
            self.version += 1
            self._views.clear()
        logs = [] if computation.is_error else list(computation.get_log_entries())
        return not computation.is_error, bytes(computation.output), logs, computation.get_gas_used()

    def deploy(self, name: str, *args: Any, sender: bytes = b"\x11" * 20) -> bytes:
        """Runs the creation code; the new contract's address."""
        abi = abi_of(name)
        types = [type_of(part) for part in abi.constructor["inputs"]]
        self._created += 1
        address = keccak(b"contract" + name.encode() + bytes([self._created]))[12:]
        ok, output, _, _ = self.message(sender, b"", artifact(name).bytecode + encode(types, args), create=address)
        if not ok:
            raise CallReverted(f"{name}: {abi.error(output)}")
        self.names[address] = name
        return address

    def send(self, sender: bytes, to: bytes, function: str, *args: Any, value: int = 0) -> Outcome:
        abi = abi_of(self.names[to])
        data, _ = abi.encode(function, args)
        ok, output, raw, gas = self.message(sender, to, data, value)
        if not ok:
            name, values = abi.error(output)
            return Outcome(False, output, error=name, error_args=values, gas=gas)
        logs = []
        for address, topics, body in raw:
            if address in self.names:
                log = abi_of(self.names[address]).log([topic.to_bytes(32, "big") for topic in topics], body)
                if log is not None:
                    logs.append(log)
        return Outcome(True, output, logs, gas=gas)

    def view(self, to: bytes, function: str, *args: Any) -> Any:
        """The one value that the view gives; a struct as a dict."""
        key = (to, function, *args)
        if key not in self._views:  # no view looks at the clock
            self._views[key] = self._view(to, function, args)
        return self._views[key]

    def _view(self, to: bytes, function: str, args: tuple[Any, ...]) -> Any:
        abi = abi_of(self.names[to])
        data, entry = abi.encode(function, args)
        ok, output, _, _ = self.message(bytes(20), to, data, static=True)
        if not ok:
            raise CallReverted(f"{function}: {abi.error(output)}")
        (value,) = decode([type_of(part) for part in entry["outputs"]], output)
        output_entry = entry["outputs"][0]
        if output_entry["type"] != "tuple":
            return value
        return dict(zip([part["name"] for part in output_entry["components"]], value, strict=True))
