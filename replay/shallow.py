"""JSON from outside, bounded in depth whatever Python's recursion limit is: some libraries raise it so far that a deeply
nested file would overflow the C stack and end the process."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
from typing import Any

MAX_DEPTH = 64
_SHAPE = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def outside_strings(raw: bytes) -> bytes:
    """What of JSON lies outside its strings, in time and memory of the order of ``raw`` whatever it is. Of what is no JSON it
    may be too much or too little beyond the first place that is none, which a parser does not pass."""
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in raw else raw
    return b"".join(unescaped.split(b'"')[::2])


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """``pairs`` of ``parse_json`` for those whom a member that is given twice would leave guessing."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has the same member twice")
    return members


def parse_json(raw: bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What ``raw`` (UTF-8) says; ``ValueError`` for what is no JSON or nested more than 64 deep. ``pairs`` makes each
    object of its key and value pairs."""
    shape = outside_strings(raw).translate(None, _SHAPE)
    if max(accumulate(map(_STEPS.__getitem__, shape)), default=0) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return json.loads(raw.decode(), object_pairs_hook=pairs)
