"""As much of protobuf's wire format as dag-pb and UnixFS use, read strictly: one spelling for one message."""

from __future__ import annotations

from collections.abc import Iterator

from replay.artifacts.ipfs import varint
from replay.artifacts.ipfs.errors import BlockRefused

NUMBER = 0
BYTES = 2


def number(field: int, value: int) -> bytes:
    return varint.encode(field << 3 | NUMBER) + varint.encode(value)


def chunk(field: int, value: bytes) -> bytes:
    return varint.encode(field << 3 | BYTES) + varint.encode(len(value)) + value


def fields(data: memoryview, what: str) -> Iterator[tuple[int, int | memoryview]]:
    """(field, value) in the order in which they stand; a value is a number or a view of the bytes.

    Raises ``BlockRefused`` for overlong or cut varints, lengths beyond the end and wire types other than these two.
    """
    at = 0
    try:
        while at < len(data):
            key, at = varint.decode(data, at)
            value, at = varint.decode(data, at)
            if key & 7 == NUMBER:
                yield key >> 3, value
            elif key & 7 == BYTES:
                if value > len(data) - at:
                    raise BlockRefused(f"{what}: field {key >> 3} is cut short")
                yield key >> 3, data[at : at + value]
                at += value
            else:
                raise BlockRefused(f"{what}: field {key >> 3} has wire type {key & 7}")
    except ValueError as error:
        raise BlockRefused(f"{what}: {error}") from error


def as_number(value: int | memoryview, what: str) -> int:
    if not isinstance(value, int):
        raise BlockRefused(f"{what} must be a number")
    return value


def as_bytes(value: int | memoryview, what: str) -> memoryview:
    if isinstance(value, int):
        raise BlockRefused(f"{what} must be bytes")
    return value
