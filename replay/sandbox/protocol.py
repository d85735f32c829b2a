"""What travels through the pipes between parent and worker: frames of a JSON header and a body of raw bytes.

A frame is ``"RPL1" ‖ u32 header length ‖ u32 body length ‖ header ‖ body`` (big endian). Nothing is ever unpickled.
Everything read from a worker is hostile: lengths are checked before memory is taken, types before they are used.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

from replay.sandbox.outcome import Reason, one_line
from replay.shallow import parse_json
from replay.trace import Receipt

PREFIX = struct.Struct(">4sII")
MAGIC = b"RPL1"
#: A receipt of the most boundaries that a program may have takes 300 KB of it.
MAX_HEADER = 1 << 20
#: Descriptions are parsed where the service lives: some 15,000 operators, or as many tokens as any model reads.
MAX_DESCRIPTION = 4 << 20
MAX_LEAVES = 1 << 15
_ROOT_HEX = 64


class ProtocolError(Exception):
    """The other side of the pipe does not speak the protocol."""


def encode(header: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    return PREFIX.pack(MAGIC, len(text), len(body)) + text + body


def lengths(prefix: bytes, max_body: int) -> tuple[int, int]:
    """Header and body length announced by ``prefix`` (12 bytes)."""
    magic, header, body = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError(f"it wrote {one_line(repr(prefix))} where a frame should begin")
    if header > MAX_HEADER or body > max_body:
        raise ProtocolError(f"it announced a frame of {header} + {body} bytes, {MAX_HEADER} + {max_body} allowed")
    return header, body


def parse_header(text: bytes) -> dict[str, Any]:
    try:
        header = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"its header is not JSON ({type(error).__name__})") from error
    if not isinstance(header, dict):
        raise ProtocolError("its header is not a JSON object")
    return header


def read_frame(stream: BinaryIO, max_body: int) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None at the end of the stream (the worker's side: blocking)."""
    prefix = stream.read(PREFIX.size)
    if not prefix:
        return None
    header, body = lengths(prefix, max_body) if len(prefix) == PREFIX.size else (0, 0)
    text, data = stream.read(header), stream.read(body)
    if len(prefix) < PREFIX.size or len(text) < header or len(data) < body:
        raise ProtocolError("the stream ended inside a frame")
    return parse_header(text), data


def receipt_header(receipt: Receipt) -> dict[str, Any]:
    """The receipt without its output, which travels as the body."""
    return {
        "status": "completed",
        "input_root": receipt.input_root.hex(),
        "output_root": receipt.output_root.hex(),
        "state_root": receipt.state_root.hex(),
        "leaves": [leaf.hex() for leaf in receipt.leaves],
        "first_path": [one.hex() for one in receipt.first_path],
        "last_path": [one.hex() for one in receipt.last_path],
        "environment": dict(receipt.environment),
        "seconds": receipt.seconds,
    }


def parse_receipt(header: dict[str, Any], body: bytes) -> Receipt:
    """The receipt that a worker answered, every field checked for its type. Raises ``ProtocolError``."""
    if header.get("status") != "completed":
        raise ProtocolError("it answered neither a receipt nor a reason")
    environment = header.get("environment")
    seconds = header.get("seconds")
    if not isinstance(environment, dict) or not all(isinstance(v, str) for v in environment.values()):
        raise ProtocolError("its environment is not a table of strings")
    if not isinstance(seconds, float | int) or isinstance(seconds, bool) or not 0 <= seconds < 1e9:
        raise ProtocolError("its seconds are not a time")
    return Receipt(
        input_root=_root(header.get("input_root")),
        output_root=_root(header.get("output_root")),
        state_root=_root(header.get("state_root")),
        leaves=_roots(header.get("leaves")),
        output=body,
        first_path=_roots(header.get("first_path")),
        last_path=_roots(header.get("last_path")),
        environment={one_line(key): one_line(value) for key, value in environment.items()},
        seconds=float(seconds),
    )


def parse_facts(header: dict[str, Any], body: bytes) -> dict[str, Any]:
    """A model's description. It is shown, never computed with; its strings are as hostile as the model."""
    if header.get("status") != "described":
        raise ProtocolError("it answered neither a description nor a reason")
    return parse_header(body)


def parse_refusal(header: dict[str, Any]) -> tuple[Reason, str]:
    detail = header.get("detail")
    try:
        reason = Reason(str(header.get("reason")))
    except ValueError as error:
        raise ProtocolError("its refusal has no known reason") from error
    if not isinstance(detail, str):
        raise ProtocolError("its refusal has no detail")
    return reason, one_line(detail)


def _roots(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > MAX_LEAVES:
        raise ProtocolError("a list of roots is not one")
    return tuple(_root(one) for one in value)


def _root(value: object) -> bytes:
    if not isinstance(value, str) or len(value) != _ROOT_HEX:
        raise ProtocolError("a root is not 64 hex digits")
    try:
        root = bytes.fromhex(value)
    except ValueError as error:
        raise ProtocolError("a root is not 64 hex digits") from error
    if root.hex() != value:
        raise ProtocolError("a root is not 64 lower-case hex digits")
    return root
