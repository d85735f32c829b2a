"""What the lines of a recorded chain mean (docs/recordings.md, "Chains"), read as strictly as an endpoint's answers.

A recording is a history: what its chain shows at a time is what the blocks up to then hold. Blocks and logs are as
JSON-RPC has them, so that a line can be checked against any endpoint by eye.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from challenger.chain import wire
from challenger.chain.answers import RawLog, parse_logs
from challenger.chain.receipts import HEADER_FIELDS, may_hold, parse_header, proven_logs
from challenger.domain import Address, Block, BlockNumber, ChainId, Hash32
from challenger.pipeline.engine import WITHHELD
from challenger.protocols.reference_logs import MarketLogs
from replay.layout import LayoutError, bundle_root
from replay.recording import Recording, RecordingDamaged, RecordingMalformed

T = TypeVar("T")
CHAIN = "chain"
PART = "chain.jsonl.zst"
#: Block numbers and times stay below: a clock that counts seconds in a float must come to the end.
_FAR = 1 << 40
#: Why data may be away: what says something of whoever should serve it.
_AWAY = frozenset(reason.value for reason in WITHHELD)
_LOG_FIELDS = ("address", "topics", "data", "logIndex", "transactionHash")
#: Methods whose answers are of the contract and not of a block.
STATE = ("eth_getCode", "eth_getStorageAt", "eth_call")


@dataclass(frozen=True, slots=True)
class Deployment:
    """Which chain and market, and from which block to which. ``proofs``: headers are whole and blocks with logs have
    their receipts, so that each log is bound to its block's hash."""

    protocol: str
    chain_id: ChainId
    market: Address
    anchor: Address
    first: BlockNumber
    last: BlockNumber
    proofs: bool

    def as_line(self) -> dict[str, Any]:
        told = {
            "protocol": self.protocol,
            "chain_id": self.chain_id,
            "market": self.market,
            "anchor": self.anchor,
            "first": self.first,
            "last": self.last,
            "proofs": self.proofs,
        }
        return {"deployment": told}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the contract says in every recorded block; ``params`` without the block."""

    method: str
    params: tuple[Any, ...]
    result: str

    def as_line(self) -> dict[str, Any]:
        return {"answer": {"method": self.method, "params": list(self.params), "result": self.result}}


@dataclass(frozen=True, slots=True)
class RecordedBlock:
    """A block's header as JSON-RPC has it, the market's logs in it, and all its receipts where they were recorded."""

    block: Block
    header: Mapping[str, Any]
    logs: tuple[RawLog, ...]
    receipts: tuple[Mapping[str, Any], ...] = ()

    def as_line(self) -> dict[str, Any]:
        line: dict[str, Any] = {"block": dict(self.header)}
        if self.logs:
            line["logs"] = [_log_line(log) for log in self.logs]
        if self.receipts:
            line["receipts"] = [dict(receipt) for receipt in self.receipts]
        return line


@dataclass(frozen=True, slots=True)
class Data:
    """What stood behind a URI: ``content``, or for what is large the name of the recording's ``part`` that holds it; else
    why it could not be had (``away``)."""

    root: Hash32
    content: bytes | None
    away: str = ""
    part: str = ""

    def as_line(self) -> dict[str, Any]:
        told: dict[str, Any] = {"root": wire.to_hex(self.root)}
        if self.part:
            return {"data": told | {"part": self.part}}
        if self.content is None:
            return {"data": told | {"away": self.away}}
        return {"data": told | {"bytes": base64.b64encode(self.content).decode()}}


Line = Answer | RecordedBlock | Data


def deployment_of(recording: Recording) -> Deployment:
    """The first line. Raises ``RecordingError``."""
    if CHAIN not in recording.manifest.kinds or PART not in recording.manifest.parts:
        raise RecordingMalformed("it is no recording of a chain")
    for line in recording.lines(PART):
        return _told(1, lambda line=line: _deployment(line))  # type: ignore[misc]
    raise RecordingMalformed("it is empty", part=PART)


def recorded_lines(recording: Recording) -> Iterator[Line]:
    """All lines after the first, in order, each held against what came before: blocks are a chain, logs are in their
    place, receipts hash to their header's root. One line is in memory at a time.

    Raises ``RecordingMalformed`` and ``RecordingDamaged`` with the line's number, and what ``Recording.lines`` raises.
    """
    deployment = deployment_of(recording)
    before: Block | None = None
    for number, line in enumerate(recording.lines(PART), 1):
        if number == 1:
            continue
        found = _told(number, lambda line=line: _line(line, deployment))  # type: ignore[misc]
        if isinstance(found, RecordedBlock):
            _told(number, lambda found=found, last=before: _follows(found.block, last, deployment))  # type: ignore[misc]
            before = found.block
        yield found
    if before is None or before.number != deployment.last:
        raise RecordingMalformed(f"block {deployment.last}, the last, is not in it", part=PART)


class _Differs(Exception):
    """it contradicts itself"""


def _told(number: int, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise RecordingMalformed(str(error), part=PART, line=number) from error
    except _Differs as error:
        raise RecordingDamaged(str(error), part=PART, line=number) from error


def _line(line: dict[str, Any], deployment: Deployment) -> Line:
    match line:
        case {"block": dict(header), **rest} if rest.keys() <= {"logs", "receipts"}:
            return _block(header, rest, deployment)
        case {"data": {"root": root, **rest}} if len(line) == 1 and len(rest) == 1:
            return _data(root, rest)
        case {"answer": {"method": str(method), "params": list(params), "result": str(result), **rest}} if (
            len(line) == 1 and not rest
        ):
            wire.blob(result)
            if method not in STATE:
                raise ValueError(f"an answer is to one of {', '.join(STATE)}")
            return Answer(method, tuple(params), result)
    raise ValueError("a line is a block, an answer or data, with the keys that belong to it")


def _block(header: dict[str, Any], rest: dict[str, Any], deployment: Deployment) -> RecordedBlock:
    if not header.keys() <= HEADER_FIELDS:
        raise ValueError(f"a block has no field {ascii(min(header.keys() - HEADER_FIELDS))[:60]}")
    block = wire.block(header)
    if block.number >= _FAR or block.time >= _FAR:
        raise ValueError(f"block {block.number} at second {block.time} is beyond all time")
    logs = _logs(block, rest.get("logs", []))
    if any(log.address != deployment.market for log in logs):
        raise ValueError("a log is not the market's")
    receipts = rest.get("receipts", [])
    if not isinstance(receipts, list) or not all(isinstance(one, dict) for one in receipts):
        raise ValueError("receipts are not a list of objects")
    for receipt in receipts:
        wire.hash32(wire.field(receipt, "transactionHash"))
    if deployment.proofs:
        _prove(deployment, block, header, logs, receipts)
    elif receipts:
        raise ValueError("there are receipts, and the first line says that there are no proofs")
    return RecordedBlock(block, header, tuple(logs), tuple(receipts))


def _prove(
    deployment: Deployment, block: Block, header: dict[str, Any], logs: list[RawLog], receipts: list[dict[str, Any]]
) -> None:
    """The logs are the market's, all of them: the header's bloom says whether there may be any, the receipts which. Below
    the first block some are chosen, and only those that are there have to be true."""
    whole = parse_header({**header, "transactions": []})
    if not whole.bound:
        raise _Differs(f"the fields of block {block.number} do not hash to its hash")
    market = _market(deployment.market)
    chosen = block.number < deployment.first
    if not (logs or receipts) and (chosen or not may_hold(whole.bloom, [deployment.market], market.topics)):
        return
    if not receipts:
        raise _Differs(f"block {block.number} may hold logs of the market, and its receipts are not there")
    try:
        proven = proven_logs(whole, receipts)
    except ValueError as error:
        raise _Differs(f"block {block.number}: {error}") from error
    there = [log.content for log in market.among(proven)]
    told = [log.content for log in logs]
    if not set(told) <= set(there):
        raise _Differs(f"a log of block {block.number} is in none of its receipts")
    if not chosen and told != there:
        raise _Differs(f"block {block.number} has {len(told)} of the {len(there)} logs that its receipts hold")


#: Making one reads the contract's ABI.
_market = cache(MarketLogs)


def _logs(block: Block, logs: Any) -> list[RawLog]:
    if not isinstance(logs, list) or not all(isinstance(log, dict) and log.keys() == set(_LOG_FIELDS) for log in logs):
        raise ValueError(f"logs are a list of objects with {', '.join(_LOG_FIELDS)}")
    place = {"blockNumber": hex(block.number), "blockHash": wire.to_hex(block.hash)}
    found = parse_logs([log | place for log in logs])
    if [log.log_index for log in found] != [wire.quantity(log["logIndex"]) for log in logs]:
        raise ValueError("logs are not in their order")
    return found


def _log_line(log: RawLog) -> dict[str, Any]:
    return {
        "address": log.address,
        "topics": [wire.to_hex(topic) for topic in log.topics],
        "data": wire.to_hex(log.data),
        "logIndex": hex(log.log_index),
        "transactionHash": wire.to_hex(log.tx_hash),
    }


def _data(root: Any, rest: Mapping[Any, Any]) -> Data:
    match rest:
        case {"bytes": str(text)}:
            return _content(wire.hash32(root), text)
        case {"part": str(part)} if part:
            return Data(wire.hash32(root), None, "", part)
        case {"away": str(why)} if why in _AWAY:
            return Data(wire.hash32(root), None, why)
        case {"away": _}:
            raise ValueError(f"data is away for one of {', '.join(sorted(_AWAY))}")
    raise ValueError('data has "root", and "bytes" in base64, "part" or "away" with the reason')


def _content(root: Hash32, text: str) -> Data:
    try:
        content = base64.b64decode(text, validate=True)
        found = bundle_root(content)
    except binascii.Error:
        raise ValueError("bytes are not base64") from None
    except LayoutError as error:
        raise ValueError(f"data is no bundle: {error.detail}") from None
    if found != root:
        raise _Differs("data does not have the root that it is told under")
    return Data(root, content)


def _deployment(line: dict[str, Any]) -> Deployment:
    match line:
        case {
            "deployment": {
                "protocol": "reference" as protocol,
                "chain_id": int(chain_id),
                "market": market,
                "anchor": anchor,
                "first": int(first),
                "last": int(last),
                "proofs": bool(proofs),
                **rest,
            }
        } if len(line) == 1 and not rest:
            pass
        case _:
            raise ValueError(
                "the first line is the deployment: protocol reference, chain_id, market, anchor, first, last, proofs"
            )
    numbers = (first, last, chain_id)
    if bool in map(type, numbers) or not 0 <= first <= last <= wire.MAX_I64 or not 0 < chain_id <= wire.MAX_I64:
        raise ValueError("chain_id is positive, first is at most last")
    return Deployment(
        protocol,
        ChainId(chain_id),
        wire.address(market),
        wire.address(anchor) if anchor != "" else Address(""),
        BlockNumber(first),
        BlockNumber(last),
        proofs,
    )


def _follows(block: Block, before: Block | None, deployment: Deployment) -> None:
    """Ascending; from the one below ``first`` on without gaps, each the child of the one before."""
    if block.number > deployment.last:
        raise ValueError(f"block {block.number} is above the last, {deployment.last}")
    if before is not None and (block.number <= before.number or block.time < before.time):
        raise ValueError(f"block {block.number} comes after block {before.number}, or is older")
    below = -1 if before is None else before.number
    if block.number >= deployment.first and block.number != below + 1:
        # one block below the first is there too: what the first rests on
        lowest = max(below + 1, deployment.first - 1)
        raise ValueError(f"blocks {lowest} to {block.number - 1} are missing")
    if before is None:
        return
    if block.number == before.number + 1 and block.parent != before.hash:
        raise _Differs(f"block {block.number} is not a child of block {before.number}")
