"""Kinds of parameters: how the text of one is read, and what OpenAPI says of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args, get_type_hints

from challenger.domain import Address, BlockNumber, UnixTime
from challenger.shapes import ADDRESS, HASH, TIME, WHOLE, Schema
from challenger.store.listing import Filter
from challenger.web.problems import Problem

#: Beyond it no block, time or count lies; a database's integer holds it.
_MOST = (1 << 63) - 1
MOST_TEXT = 160
_CURSOR = re.compile("[A-Za-z0-9_-]{1,400}")


@dataclass(frozen=True, slots=True)
class Kind:
    """``read`` raises ValueError with what would be right."""

    schema: Schema
    read: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    kind: Kind
    about: str
    place: str = "query"
    default: Any = None

    def value(self, text: str) -> Any:
        try:
            return self.kind.read(text)
        except ValueError as error:
            status = 404 if self.place == "path" else 400
            raise Problem(status, f"{self.name}: {error}", parameter=self.name) from None

    def openapi(self) -> Schema:
        schema = self.kind.schema if self.default is None else {**self.kind.schema, "default": self.default}
        told = {"name": self.name, "in": self.place, "description": self.about, "schema": schema}
        return told | {"required": True} if self.place == "path" else told


def _hash(text: str) -> bytes:
    if len(text) != 66 or not text.startswith("0x") or any(c not in "0123456789abcdefABCDEF" for c in text[2:]):
        raise ValueError("it is 0x and 64 hex digits")
    return bytes.fromhex(text[2:])


def _address(text: str) -> str:
    lowered = text.lower()
    if len(text) != 42 or not lowered.startswith("0x") or any(c not in "0123456789abcdef" for c in lowered[2:]):
        raise ValueError("an address is 0x and 40 hex digits")
    return lowered


def whole(low: int = 0, high: int = _MOST, schema: Schema = WHOLE) -> Kind:
    """An integer ``low ≤ n ≤ high``, in decimal digits."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 20 or not low <= int(text) <= high:
            raise ValueError(f"it is an integer from {low} to {high}")
        return int(text)

    return Kind({**schema, "minimum": low, "maximum": high}, read)


def word(choices: type[Enum]) -> Kind:
    values = [one.value for one in choices]

    def read(text: str) -> Any:
        if text not in values:
            raise ValueError(f"it is one of {', '.join(values)}")
        return choices(text)

    return Kind({"type": "string", "enum": values}, read)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("it is true or false")
    return text == "true"


def _text(text: str) -> str:
    if not 1 <= len(text) <= MOST_TEXT or not text.isprintable() or not text.isascii():
        raise ValueError(f"it is 1 to {MOST_TEXT} printable characters of ASCII")
    return text


def _cursor(text: str) -> str:
    """Its form alone: whether it stands anywhere, the list says."""
    if not _CURSOR.fullmatch(text):
        raise ValueError("it is taken from `next` or `prev` of another page")
    return text


def _big(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 78 or int(text) >= 1 << 256:
        raise ValueError("it is a decimal number below 2^256")
    return int(text)


_HEXES = "^0x[0-9a-fA-F]{%d}$"
HASH_KIND = Kind({**HASH, "pattern": _HEXES % 64}, _hash)
ADDRESS_KIND = Kind({**ADDRESS, "pattern": _HEXES % 40}, _address)
TRUTH = Kind({"type": "boolean"}, _truth)
TEXT = Kind({"type": "string", "minLength": 1, "maxLength": MOST_TEXT, "pattern": "^[ -~]+$"}, _text)
NUMBER = whole()
BIG = Kind({"type": "string", "pattern": "^[0-9]{1,77}$", "description": "a number of 256 bits"}, _big)
CURSOR = Kind({"type": "string", "minLength": 1, "maxLength": 400, "pattern": "^[A-Za-z0-9_-]+$"}, _cursor)
_ABOUT = {
    "since": "from this time on (UTC seconds, inclusive)",
    "until": "before this time (UTC seconds, exclusive)",
    "from_block": "from this block on",
    "to_block": "up to and with this block",
}


def of_filter(cls: type[Filter]) -> list[Parameter]:
    """A parameter for each field of a listing's filter."""
    found = []
    for name, hint in get_type_hints(cls).items():
        inner = next(part for part in get_args(hint) if part is not type(None))
        found.append(Parameter(name, _kind(inner), _ABOUT.get(name, f"only those with this {name.replace('_', ' ')}")))
    return found


def _kind(hint: Any) -> Kind:
    if hint is Address:
        return ADDRESS_KIND
    if hint is UnixTime:
        return whole(schema=TIME)
    if hint is BlockNumber:
        return NUMBER
    base = getattr(hint, "__supertype__", hint)
    if isinstance(base, type) and issubclass(base, Enum):
        return word(base)
    return {bytes: HASH_KIND, bool: TRUTH, int: NUMBER, str: TEXT}[base]
