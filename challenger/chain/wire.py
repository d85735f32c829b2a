"""The hex of JSON-RPC to values and back. Every answer is hostile: what is not exactly of its form raises ``ValueError``,
and nothing else, whatever JSON value comes in."""

from __future__ import annotations

import json
from typing import Any

from challenger.domain import Address, Block, BlockNumber, Hash32, UnixTime

#: Numbers that SQL's BIGINT must hold: block numbers, times, log indices, gas.
MAX_I64 = 2**63 - 1
MAX_U256 = 2**256 - 1

#: The parser's C code recurses, and so does all that shows what it made. Deep nesting ends in a ``RecursionError`` in some
#: place that does not look for one; where a library has raised Python's limit beyond what the stack holds (py-evm does),
#: it ends the process. So the depth is checked first.
MAX_DEPTH = 64
_SHAPE = bytes(sorted(set(range(256)) - set(b'[]{}"\\')))


def parse_json(raw: bytes) -> Any:
    """What ``raw`` says; ``ValueError`` for what is no JSON, or nested far deeper than any answer is."""
    if not _shallow(raw):
        raise ValueError("not JSON, or nested too deeply")
    return json.loads(raw)


def _shallow(raw: bytes) -> bool:
    """Whether brackets balance at a depth of ``MAX_DEPTH`` or less."""
    shape = raw.translate(None, _SHAPE).replace(b'""', b"")
    if b'"' in shape or b"\\" in shape:  # brackets within strings, or escapes: the slower way
        unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
        shape = b"".join(unescaped.split(b'"')[::2]).translate(None, _SHAPE)
    for _ in range(MAX_DEPTH):
        if not shape:
            return True
        shape = shape.replace(b"[]", b"").replace(b"{}", b"")
    return not shape


def quantity(value: Any, limit: int = MAX_I64) -> int:
    """``"0x1f"`` → 31; 0 ≤ result ≤ limit. Leading zeros are tolerated (some servers send them)."""
    # isalnum and isascii keep out what int() would forgive: signs, blanks, underscores, other scripts' digits
    if type(value) is not str or value[:2] != "0x" or not 3 <= len(value) <= 66:
        raise ValueError(f"not a quantity: {_show(value)}")
    digits = value[2:]
    if not (digits.isalnum() and digits.isascii()):
        raise ValueError(f"not a quantity: {_show(value)}")
    try:
        number = int(digits, 16)
    except ValueError:
        raise ValueError(f"not a quantity: {_show(value)}") from None
    if number > limit:
        raise ValueError(f"absurd quantity: {_show(value)}")
    return number


def blob(value: Any) -> bytes:
    """``"0x…"`` of any even length → bytes."""
    if type(value) is not str or value[:2] != "0x":
        raise ValueError(f"not hex data: {_show(value)}")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError:
        raise ValueError(f"not hex data: {_show(value)}") from None
    if 2 * len(data) + 2 != len(value):  # fromhex forgives blanks
        raise ValueError(f"not hex data: {_show(value)}")
    return data


def hash32(value: Any) -> Hash32:
    """``"0x"`` and 64 digits → 32 bytes."""
    # spelt out, not by way of ``blob``: five of these in every log
    if type(value) is not str or len(value) != 66 or value[:2] != "0x":
        raise ValueError(f"not a hash: {_show(value)}")
    try:
        digest = bytes.fromhex(value[2:])
    except ValueError:
        raise ValueError(f"not a hash: {_show(value)}") from None
    if len(digest) != 32:  # fromhex forgives blanks
        raise ValueError(f"not a hash: {_show(value)}")
    return Hash32(digest)


def address(value: Any) -> Address:
    """``"0x"`` and 40 digits of any case → lower case."""
    if type(value) is not str or len(value) != 42:
        raise ValueError(f"not an address: {_show(value)}")
    blob(value)
    return Address(value.lower())


def field(answer: Any, name: str) -> Any:
    """A member of a JSON object, ``ValueError`` when it is absent or the answer is no object."""
    if type(answer) is not dict:
        raise ValueError(f"not an object: {_show(answer)}")
    if name not in answer:
        raise ValueError(f"field {name} is missing")
    return answer[name]


def block(answer: Any) -> Block:
    return Block(
        number=BlockNumber(quantity(field(answer, "number"))),
        hash=hash32(field(answer, "hash")),
        parent=hash32(field(answer, "parentHash")),
        time=UnixTime(quantity(field(answer, "timestamp"))),
    )


def to_hex(data: bytes) -> str:
    return "0x" + data.hex()


def block_ref(where: int | bytes | str) -> str | dict[str, str]:
    """A block parameter: number, tag, or EIP-1898 object for a 32-byte hash."""
    if isinstance(where, int):
        return hex(where)
    if isinstance(where, bytes):
        return {"blockHash": to_hex(where)}
    return where


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
