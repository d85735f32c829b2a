"""What the JSON-RPC client returns beside ``domain.Block``. The ``parse_*`` functions raise ``ValueError`` only."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from challenger.chain import wire
from challenger.domain import Address, At, BlockNumber, Hash32, Wei


class RawLog(NamedTuple):
    """One log as the chain holds it, hex undone; ``data`` and ``topics`` are not yet decoded."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block: BlockNumber
    block_hash: Hash32
    log_index: int
    tx_hash: Hash32

    @property
    def content(self) -> tuple[object, ...]:
        """What a receipt binds: all but the transaction's hash, which stands in none."""
        return self.log_index, self.address, self.topics, self.data

    @property
    def at(self) -> At:
        return At(self.block, self.block_hash, self.log_index, self.tx_hash)


@dataclass(frozen=True, slots=True)
class Receipt:
    """``succeeded`` is the status; ``gas_price`` what a unit of gas did cost."""

    tx_hash: Hash32
    block: BlockNumber
    block_hash: Hash32
    succeeded: bool
    gas_used: int
    gas_price: Wei
    created: Address | None
    logs: tuple[RawLog, ...]


@dataclass(frozen=True, slots=True)
class SentTx:
    """A transaction the endpoint knows; ``block`` is None while it waits."""

    tx_hash: Hash32
    sender: Address
    nonce: int
    block: BlockNumber | None


@dataclass(frozen=True, slots=True)
class Called:
    """What a transaction asked for: ``to`` is None where it created a contract."""

    tx_hash: Hash32
    sender: Address
    to: Address | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Count:
    """Of an account's transactions: ``agreed`` is what several endpoints say as one, ``most`` the highest word."""

    agreed: int
    most: int


@dataclass(frozen=True, slots=True)
class FeeHistory:
    """``base_fees``: of the blocks from ``oldest`` on, and of the next one, never empty; ``rewards[block][percentile]`` in wei."""

    oldest: BlockNumber
    base_fees: tuple[Wei, ...]
    rewards: tuple[tuple[Wei, ...], ...]


def parse_logs(answer: Any) -> list[RawLog]:
    """In chain order; the same place twice is a ``ValueError``."""
    if type(answer) is not list:
        raise ValueError("logs are not a list")
    # neighbours share block, emitter and first topic, as text too: each is read once
    hash32, address, quantity = _once(wire.hash32), _once(wire.address), _once(wire.quantity)
    logs = []
    try:
        for item in answer:
            topics = item["topics"]
            if type(topics) is not list or len(topics) > 4:
                raise ValueError("topics are not a list of at most four")
            if item.get("removed"):
                raise ValueError("a removed log is served as a standing one")
            logs.append(
                RawLog(
                    address(item["address"]),
                    tuple([hash32(topic) for topic in topics]),
                    wire.blob(item["data"]),
                    quantity(item["blockNumber"]),
                    hash32(item["blockHash"]),
                    wire.quantity(item["logIndex"]),
                    hash32(item["transactionHash"]),
                )
            )
    except KeyError as error:
        raise ValueError(f"a log's field {error.args[0]} is missing") from None
    except (TypeError, AttributeError):  # something else than an object, or a list where text belongs
        raise ValueError("a log is not of its form") from None
    logs.sort(key=_place)
    for before, after in itertools.pairwise(logs):
        if before.block == after.block and before.log_index == after.log_index:
            raise ValueError(f"log {after.log_index} of block {after.block} is served twice")
    return logs


def _once(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``parse``, once for each text."""
    known: dict[Any, Any] = {}

    def parsed(value: Any) -> Any:
        found = known.get(value)
        if found is None:
            found = known[value] = parse(value)
        return found

    return parsed


def _place(log: RawLog) -> tuple[int, int]:
    return log.block, log.log_index


def parse_receipt(tx_hash: bytes, answer: Any) -> Receipt | None:
    """None while the transaction is not mined."""
    if answer is None or wire.field(answer, "blockHash") is None:
        return None
    got = wire.hash32(wire.field(answer, "transactionHash"))
    if got != tx_hash:
        raise ValueError(f"the receipt is of transaction {wire.to_hex(got)}")
    created = answer.get("contractAddress")
    price = answer.get("effectiveGasPrice")
    return Receipt(
        tx_hash=got,
        block=BlockNumber(wire.quantity(wire.field(answer, "blockNumber"))),
        block_hash=wire.hash32(wire.field(answer, "blockHash")),
        succeeded=wire.quantity(wire.field(answer, "status"), limit=1) == 1,
        gas_used=wire.quantity(wire.field(answer, "gasUsed")),
        gas_price=Wei(0 if price is None else wire.quantity(price, wire.MAX_U256)),
        created=None if created is None else wire.address(created),
        logs=tuple(parse_logs(wire.field(answer, "logs"))),
    )


def parse_sent_tx(tx_hash: bytes, answer: Any) -> SentTx | None:
    """None when the endpoint does not know the transaction."""
    if answer is None:
        return None
    got = wire.hash32(wire.field(answer, "hash"))
    if got != tx_hash:
        raise ValueError(f"the answer is transaction {wire.to_hex(got)}")
    block = answer.get("blockNumber")
    return SentTx(
        tx_hash=got,
        sender=wire.address(wire.field(answer, "from")),
        nonce=wire.quantity(wire.field(answer, "nonce")),
        block=None if block is None else BlockNumber(wire.quantity(block)),
    )


def parse_called(tx_hash: bytes, answer: Any) -> Called | None:
    """None when the endpoint does not know the transaction."""
    if answer is None:
        return None
    got = wire.hash32(wire.field(answer, "hash"))
    if got != tx_hash:
        raise ValueError(f"the answer is transaction {wire.to_hex(got)}")
    to = answer.get("to")
    return Called(
        tx_hash=got,
        sender=wire.address(wire.field(answer, "from")),
        to=None if to is None else wire.address(to),
        data=wire.blob(wire.field(answer, "input")),
    )


def parse_fee_history(answer: Any) -> FeeHistory:
    base_fees = wire.field(answer, "baseFeePerGas")
    rewards = answer.get("reward")
    if type(base_fees) is not list or not base_fees or not (rewards is None or type(rewards) is list):
        raise ValueError("the fee history is not made of lists, or holds no base fee")
    if not all(type(row) is list for row in rewards or ()):
        raise ValueError("the rewards are not lists")
    return FeeHistory(
        oldest=BlockNumber(wire.quantity(wire.field(answer, "oldestBlock"))),
        base_fees=tuple(Wei(wire.quantity(fee, wire.MAX_U256)) for fee in base_fees),
        rewards=tuple(tuple(Wei(wire.quantity(fee, wire.MAX_U256)) for fee in row) for row in rewards or ()),
    )
