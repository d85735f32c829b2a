"""UnixFS: what a dag-pb block says about the file or directory it stands for.

The message: Type = 1, Data = 2, filesize = 3, blocksizes = 4 (repeated), hashType = 5, fanout = 6, mode = 7, mtime = 8.
Read are raw, file and directory; mode and mtime are passed over, since they are not content. HAMT shards, symbolic links and
metadata are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from replay.artifacts.ipfs.dagpb import MAX_LINKS
from replay.artifacts.ipfs.errors import BlockRefused, UnsupportedUnixfs
from replay.artifacts.ipfs.protobuf import as_bytes, as_number, chunk, fields, number


class Kind(IntEnum):
    RAW = 0
    DIRECTORY = 1
    FILE = 2


_OTHERS = {3: "metadata", 4: "a symbolic link", 5: "a HAMT-sharded directory"}
_BLOCKSIZES = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """``filesize`` and ``blocksizes`` in bytes of content; None where it was not written."""

    kind: Kind
    data: bytes | memoryview = b""
    filesize: int | None = None
    blocksizes: tuple[int, ...] = ()


def encode(entry: Entry) -> bytes:
    made = number(1, entry.kind)
    if entry.data:
        made += chunk(2, bytes(entry.data))
    if entry.filesize is not None:
        made += number(3, entry.filesize)
    return made + b"".join(number(_BLOCKSIZES, size) for size in entry.blocksizes)


def decode(data: bytes | memoryview) -> Entry:
    """Raises ``BlockRefused`` for what is not canonical, ``UnsupportedUnixfs`` for a kind that is not read."""
    kind: Kind | None = None
    content: memoryview = memoryview(b"")
    filesize: int | None = None
    blocksizes: list[int] = []
    last = 0
    for field, value in fields(memoryview(data), "UnixFS"):
        if field < last or (field == last and field != _BLOCKSIZES):
            raise BlockRefused(f"UnixFS: field {field} stands twice or out of order")
        last = field
        if field == 1:
            kind = _kind(as_number(value, "UnixFS: the type"))
        elif field == 2:
            content = as_bytes(value, "UnixFS: the data")
        elif field == 3:
            filesize = as_number(value, "UnixFS: the file size")
        elif field == _BLOCKSIZES:
            blocksizes.append(as_number(value, "UnixFS: a block size"))
            if len(blocksizes) > MAX_LINKS:
                raise BlockRefused(f"UnixFS: more than {MAX_LINKS} block sizes")
        elif field == 7:
            as_number(value, "UnixFS: the mode")
        elif field == 8:
            as_bytes(value, "UnixFS: the time")
        else:
            raise BlockRefused(f"UnixFS: field {field} does not belong to a file or directory")
    if kind is None:
        raise BlockRefused("UnixFS: the type is missing")
    return Entry(kind, content, filesize, tuple(blocksizes))


def _kind(value: int) -> Kind:
    try:
        return Kind(value)
    except ValueError as error:
        raise UnsupportedUnixfs(_OTHERS.get(value, f"type {value}")) from error
