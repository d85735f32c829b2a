"""dag-pb, the form of blocks that link to others: PBNode { links = 2, data = 1 }, PBLink { hash = 1, name = 2, tsize = 3 }.

Links stand before the data and in the order of their names, which is how every writer since the first has put them. What is
not written that way is refused, so that ``encode(decode(block)) == block`` for whatever is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replay.artifacts.ipfs.cid import Cid
from replay.artifacts.ipfs.errors import BlockRefused
from replay.artifacts.ipfs.protobuf import as_bytes, as_number, chunk, fields, number

#: as large as exchanged blocks get: 2 MiB
MAX_BLOCK = 2 << 20
#: more entries than a directory that is not sharded can have
MAX_LINKS = 8192
#: a file system's longest name has 255 bytes
MAX_NAME = 1024


@dataclass(frozen=True, slots=True)
class Link:
    """``size`` is what the writer says of all bytes behind the link (Tsize): nothing vouches for it, so nothing here uses it.
    A name or size that is None was not written."""

    cid: Cid
    name: str | None = ""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    links: tuple[Link, ...] = ()
    data: bytes | memoryview | None = None


def encode(links: Sequence[Link], data: bytes | None) -> bytes:
    """A block; links are put into the order of their names' bytes, equal names stay as they are."""
    ordered = sorted(links, key=_sort_key)
    block = b"".join(chunk(2, _encode_link(link)) for link in ordered)
    return block if data is None else block + chunk(1, data)


def decode(block: bytes) -> Node:
    """Raises ``BlockRefused`` for what is not canonical or exceeds the bounds, ``CidRefused`` for a link to what is not read."""
    if len(block) > MAX_BLOCK:
        raise BlockRefused(f"dag-pb: {len(block)} bytes, {MAX_BLOCK} allowed")
    links: list[Link] = []
    data: memoryview | None = None
    for field, value in fields(memoryview(block), "dag-pb"):
        if data is not None:
            raise BlockRefused("dag-pb: something follows the data")
        if field == 2:
            links.append(_decode_link(as_bytes(value, "dag-pb: a link")))
            if len(links) > MAX_LINKS:
                raise BlockRefused(f"dag-pb: more than {MAX_LINKS} links")
            if len(links) > 1 and _sort_key(links[-2]) > _sort_key(links[-1]):
                raise BlockRefused("dag-pb: the links are not in the order of their names")
        elif field == 1:
            data = as_bytes(value, "dag-pb: the data")
        else:
            raise BlockRefused(f"dag-pb: field {field} of a node is unknown")
    return Node(tuple(links), data)


def _sort_key(link: Link) -> bytes:
    return (link.name or "").encode()


def _encode_link(link: Link) -> bytes:
    made = chunk(1, link.cid.binary)
    if link.name is not None:
        made += chunk(2, link.name.encode())
    return made if link.size is None else made + number(3, link.size)


def _decode_link(data: memoryview) -> Link:
    cid: Cid | None = None
    name: str | None = None
    size: int | None = None
    last = 0
    for field, value in fields(data, "dag-pb link"):
        if field <= last:
            raise BlockRefused(f"dag-pb link: field {field} stands twice or out of order")
        last = field
        if field == 1:
            cid = Cid.from_bytes(as_bytes(value, "dag-pb link: the CID"))
        elif field == 2:
            name = _name(as_bytes(value, "dag-pb link: the name"))
        elif field == 3:
            size = as_number(value, "dag-pb link: the size")
        else:
            raise BlockRefused(f"dag-pb link: field {field} is unknown")
    if cid is None:
        raise BlockRefused("dag-pb link: it names no CID")
    return Link(cid, name, size)


def _name(data: memoryview) -> str:
    if len(data) > MAX_NAME:
        raise BlockRefused(f"dag-pb link: a name of {len(data)} bytes, {MAX_NAME} allowed")
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise BlockRefused("dag-pb link: the name is not UTF-8") from error
