"""What is published of settlements, read strictly: a batch's tree, an individual inference. Pure.

A batch's blob is the JSON that OpenZeppelin's StandardMerkleTree dumps::

    {"format": "standard-v1", "leafEncoding": ["bytes32", "bytes32", "bytes32", "bytes", "uint256"],
     "values": [{"value": ["0x…teeId", "0x…inputHash", "0x…outputHash", "0x…signature", "1700000000"], "treeIndex": 3}, …],
     "tree": ["0x…root", …]}

``tree`` is not read: it is rebuilt from the values. Older batches had leaves of ``(inputHash, outputHash,
keccak(signature))`` or ``(inputHash, outputHash)``: these say neither who signed nor when, so that only root and size can
be checked. An individual inference's blob is an object of ``input``, ``output``, ``teeSignature`` (base64), ``teeId``,
``timestamp`` and ``ethAddress``. Members that are not named here are passed over; the same member twice is refused.

A blob's id cannot be recomputed here from its bytes: it commits to Walrus's erasure code of them. What binds the bytes of
a batch is the root on chain.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import Any, NamedTuple

from challenger.chain import wire
from challenger.chain.hashing import keccak
from challenger.domain import Address
from challenger.protocols.opengradient.settlement.merkle import StandardTree, placed_root
from challenger.protocols.opengradient.settlement.settled import LEAF_ENCODING, Inference
from challenger.protocols.opengradient.settlement.settlements import BatchSettled, IndividualSettled, Settlement
from challenger.protocols.opengradient.settlement.signatures import plain
from replay.shallow import once_each, parse_json

#: A batch of some 7,000 inferences; a deployed worker settles 20 at a time.
MAX_BLOB_BYTES = 8 << 20
#: Batches whose reading is remembered: each is looked at several times, and one may be settled again and again.
_READ = 4
_OLDER = (("bytes32",) * 3, ("bytes32",) * 2)
_NAME = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)


class Batch(NamedTuple):
    """``inferences``: empty for the older leaves; ``size``: how many leaves; ``roots``: that of the sorted leaves, and that
    of the leaves at the places that the dump gives them."""

    inferences: tuple[Inference, ...]
    size: int
    roots: frozenset[bytes]


class Single(NamedTuple):
    """``signature``: as base64 spells it."""

    tee: bytes
    timestamp: int
    payer: Address
    signature: str


def blob_name(blob: bytes) -> str:
    """The blob id as URLs spell it (base64url of 32 bytes, unpadded). On chain stands that text, or the 32 bytes.
    ``ValueError`` for anything else."""
    if len(blob) == 32:
        return base64.urlsafe_b64encode(blob).decode().rstrip("=")
    text = blob.decode("ascii", "replace")
    if not _NAME.fullmatch(text) or base64.urlsafe_b64encode(base64.urlsafe_b64decode(text + "=")) != blob + b"=":
        raise ValueError(f"{len(blob)} bytes that are no blob id" if blob else "no blob id at all")
    return text


@lru_cache(maxsize=_READ)
def read_batch(data: bytes) -> Batch:
    """``ValueError`` says what is wrong with it, in one line."""
    dump = _object(data)
    if dump.get("format") != "standard-v1":
        raise ValueError("its format is not standard-v1")
    encoding = dump.get("leafEncoding")
    columns = tuple(encoding) if isinstance(encoding, list) else ()
    if columns != LEAF_ENCODING and columns not in _OLDER:
        raise ValueError("its leafEncoding is none that is known")
    entries = dump.get("values")
    if not isinstance(entries, list) or not entries:
        raise ValueError("it has no values")
    inferences: list[Inference] = []
    leaves: list[bytes] = []
    places: dict[int, bytes] = {}
    for number, entry in enumerate(entries):
        try:
            value, place = wire.field(entry, "value"), wire.field(entry, "treeIndex")
            if type(place) is not int or type(value) is not list or len(value) != len(columns):
                raise ValueError("not a row with its place")  # noqa: TRY301
            if columns == LEAF_ENCODING:
                inferences.append(_inference(value))
                leaves.append(inferences[-1].leaf)
            else:
                leaves.append(keccak(keccak(b"".join(wire.hash32(part) for part in value))))
        except ValueError as error:
            raise ValueError(f"value {number}: {error}") from None
        places[place] = leaves[-1]
    roots = {StandardTree(leaves).root}
    if len(places) == len(leaves) and set(places) == set(range(len(leaves) - 1, 2 * len(leaves) - 1)):
        roots.add(placed_root(places))
    return Batch(tuple(inferences), len(leaves), frozenset(roots))


def read_single(data: bytes) -> Single:
    """``ValueError`` as in ``read_batch``."""
    said = _object(data)
    for name in ("input", "output"):
        wire.field(said, name)
    signature = wire.field(said, "teeSignature")
    if type(signature) is not str:
        raise ValueError("its teeSignature is no text")
    return Single(
        wire.hash32(_prefixed(wire.field(said, "teeId"))),
        _number(wire.field(said, "timestamp")),
        wire.address(wire.field(said, "ethAddress")),
        signature,
    )


def misfit(settlement: Settlement, data: bytes) -> str | None:
    """Why ``data`` is not what ``settlement`` says was published; None when it is. ``ValueError``: it cannot be read."""
    if isinstance(settlement, BatchSettled):
        return None if settlement.root in read_batch(data).roots else "its leaves give another root"
    return _single_misfit(settlement, read_single(data))


def _single_misfit(settled: IndividualSettled, said: Single) -> str | None:
    inference = settled.inference
    if said.tee != inference.tee:
        return "it names another enclave"
    if said.timestamp != inference.timestamp:
        return "it names another time"
    if said.payer != settled.payer:
        return "it names another address"
    if plain(inference.signature) != plain(said.signature.strip().encode()):
        return "it holds another signature"
    return None


def _inference(value: list[Any]) -> Inference:
    tee, request, answer, signature, timestamp = value
    hashes = wire.hash32(tee), wire.hash32(request), wire.hash32(answer)
    return Inference(*hashes, wire.blob(signature), _number(timestamp))


def _object(data: bytes) -> dict[str, Any]:
    try:
        said = parse_json(data, pairs=once_each)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if type(said) is not dict:
        raise ValueError("it is no JSON object")
    return said


def _number(value: Any) -> int:
    """A uint256, as a decimal text or a number."""
    if type(value) is int:
        number = value
    elif type(value) is str and _DECIMAL.fullmatch(value):
        number = int(value)
    else:
        raise ValueError("a timestamp is no number")
    if not 0 <= number < 2**256:
        raise ValueError("a timestamp is no uint256")
    return number


def _prefixed(value: Any) -> Any:
    return "0x" + value if type(value) is str and len(value) == 64 else value
