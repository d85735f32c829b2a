"""How values are written for people. Pure."""

from __future__ import annotations

import json
from typing import Any

from challenger import wording
from challenger.pipeline.approval import COMMAND, WAITING


def utc(time: int | None) -> str:
    """Chain time, the zone left out; empty for none."""
    return "" if time is None else wording.utc(time).removesuffix(" UTC")


def span(seconds: float | None) -> str:
    """A length of time in its two largest units: ``58 min 24 s``, ``2 d 3 h``."""
    if seconds is None:
        return ""
    left = round(abs(seconds))
    sign = "−" if seconds < 0 and left else ""
    for size, name, part, below in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= size:
            rest = left % size // part
            return f"{sign}{left // size} {name}" + (f" {rest} {below}" if rest else "")
    return f"{sign}{left} s" if left or not seconds else f"{sign}{abs(seconds) * 1000:.3g} ms"


def ether(wei: int | None) -> str:
    """Empty for none."""
    return "" if wei is None else wording.ether(wei)


def hexed(value: bytes | None) -> str:
    return "" if value is None else "0x" + value.hex()


def short(value: bytes | str | None) -> str:
    """The beginning of an id or address."""
    text = value if isinstance(value, str) else hexed(value)
    return text if len(text) <= 14 else text[:12] + "…"


def percent(millionths: int | None) -> str:
    return "" if millionths is None else f"{millionths / 10_000:g} %"


def facts(value: Any) -> str:
    """A JSON object (or its text) as ``name value, name value``, ids cut short."""
    told = json.loads(value) if isinstance(value, str) else value
    return ", ".join(f"{name} {_fact(one)}" for name, one in told.items() if one not in (None, "", [], {}))


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + facts(value) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(_fact, value)) + "]"
    text = str(value)
    return short(text) if text.startswith("0x") else text if len(text) <= 200 else text[:199] + "…"


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def stands(gate: str, decision: str) -> str:
    """Of a filing: what a person has said or has still to say, and what else it waits for. The command that a terminal is
    told is left out: here are buttons.

    >>> stands("approval: a person must decide: challenger approve 0x1", "a person must decide: challenger approve 0x1")
    'a person must decide'
    >>> stands("exposure: 2 bonds are out", "approved")
    'approved; exposure: 2 bonds are out'
    """
    said = decision.partition(f": {COMMAND}")[0]
    return said if not gate or gate.startswith(WAITING) else f"{said}; {gate}"


FILTERS = {
    "said": any,
    "numbered": wording.numbered,
    "stands": stands,
    "capitalised": capitalised,
    "utc": utc,
    "span": span,
    "ether": ether,
    "hexed": hexed,
    "short": short,
    "percent": percent,
    "facts": facts,
}
