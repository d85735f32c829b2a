"""JSON from outside, read member by member: each value is of its form, or refused by its path."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from challenger.chain import wire
from challenger.domain import Address, Hash32
from challenger.errors import BundleRefused


class Member:
    """One value and where it stands (``body.logs[2].nodes``). Every method raises BundleRefused."""

    def __init__(self, value: Any, path: str) -> None:
        self._value = value
        self._path = path

    def refuse(self, what: str) -> BundleRefused:
        return BundleRefused(f"{self._path} {what}")

    @property
    def absent(self) -> bool:
        return self._value is None

    def fields(self, *names: str) -> list[Member]:
        """The members of an object that has exactly these."""
        if not isinstance(self._value, dict) or self._value.keys() != set(names):
            raise self.refuse(f"must be an object of {', '.join(names)}")
        return [Member(self._value[name], f"{self._path}.{name}") for name in names]

    def pairs(self) -> Iterator[tuple[str, Member]]:
        """The members of an object of any names."""
        if not isinstance(self._value, dict):
            raise self.refuse("must be an object")
        for name, value in self._value.items():
            Member(name, f"{self._path}: a name").text()
            yield name, Member(value, f"{self._path}.{name}")

    def items(self, most: int) -> list[Member]:
        if not isinstance(self._value, list) or len(self._value) > most:
            raise self.refuse(f"must be a list of at most {most}")
        return [Member(item, f"{self._path}[{index}]") for index, item in enumerate(self._value)]

    def text(self) -> str:
        try:
            self._value.encode()
        except (AttributeError, UnicodeEncodeError):
            raise self.refuse("must be text") from None
        return str(self._value)

    def number(self, most: int = wire.MAX_I64) -> int:
        if type(self._value) is not int or not 0 <= self._value <= most:
            raise self.refuse(f"must be an integer, 0 to {most}")
        return self._value

    def flag(self) -> bool:
        if not isinstance(self._value, bool):
            raise self.refuse("must be true or false")
        return self._value

    def hex(self, size: int | None = None) -> bytes:
        """0x and hex digits, of ``size`` bytes where that is given."""
        try:
            found = wire.blob(self._value)
        except ValueError:
            found = None
        if found is None or (size is not None and len(found) != size):
            raise self.refuse("must be 0x and hex digits" + ("" if size is None else f" of {size} bytes"))
        return found

    def hash(self) -> Hash32:
        return Hash32(self.hex(32))

    def address(self) -> Address:
        return Address("0x" + self.hex(20).hex())

    def data(self) -> bytes:
        """Base64."""
        try:
            return base64.b64decode(self.text(), validate=True)
        except (binascii.Error, ValueError):
            raise self.refuse("must be base64") from None

    def words(self) -> dict[str, str]:
        """An object of texts."""
        return {name: member.text() for name, member in self.pairs()}


def told(value: Any) -> Any:
    """``value`` as ``Member`` reads it, for the canonical form: bytes become hex; data is given as ``base64_of`` makes it."""
    if isinstance(value, Mapping):
        return {name: told(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [told(item) for item in value]
    return "0x" + value.hex() if isinstance(value, bytes) else value


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()
