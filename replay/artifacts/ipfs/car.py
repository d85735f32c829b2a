"""CAR files: blocks one after the other, each behind its CID. Read as a stream, every block checked; written as version 1.

A version 2 file is a version 1 payload in a wrapper: the payload is read, the index behind it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from replay.artifacts.ipfs import varint
from replay.artifacts.ipfs.cid import Block, Cid
from replay.artifacts.ipfs.dagpb import MAX_BLOCK
from replay.artifacts.ipfs.errors import CarRefused

MAX_ROOTS = 64
_MAX_HEADER = 8192
#: a version 1 CID in binary
_MAX_CID = 36
#: a version 2 file begins with the varint 10 and the dag-cbor of {"version": 2}
_PRAGMA = b"\xa1gversion\x02"
#: after it: 16 bytes of characteristics, then where the payload begins, its length, where the index begins
_WRAPPER = 40
_PIECE = 1 << 16


class Place(NamedTuple):
    """``at``: where the bytes that claim to be ``cid`` begin in the file."""

    cid: Cid
    at: int
    length: int


class Car:
    """``roots`` as the header names them, which proves nothing; iterate for the blocks.

    Raises ``CarRefused`` (cut short, not canonical, beyond the bounds), ``BlockMismatch`` and ``CidRefused``; what was
    read before is good.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._from = _Reader(source)
        header = self._from.exactly(self._from.length(_MAX_HEADER, "the header"))
        self.version = 1
        if header == _PRAGMA:
            self.version = 2
            self._unwrap()
            header = self._from.exactly(self._from.length(_MAX_HEADER, "the header"))
        self.roots = _decode_header(header)

    def __iter__(self) -> Iterator[Block]:
        for cid, _, length in self._sections():
            yield Block(cid, self._from.exactly(length))

    def places(self) -> Iterator[Place]:
        """Where blocks lie, their bytes passed over: who reads them there has to check them."""
        for place in self._sections():
            self._from.skip(place.length)
            yield place

    def _sections(self) -> Iterator[Place]:
        while not self._from.ended():
            length = self._from.length(MAX_BLOCK + _MAX_CID, "a section")
            cid = self._from.cid(min(length, _MAX_CID))
            size = length - len(cid.binary)
            if size > MAX_BLOCK:
                raise CarRefused(f"a block of {size} bytes, {MAX_BLOCK} allowed")
            yield Place(cid, self._from.at, size)

    def _unwrap(self) -> None:
        wrapper = self._from.exactly(_WRAPPER)
        start, length = (int.from_bytes(wrapper[at : at + 8], "little") for at in (16, 24))
        if start < self._from.at:
            raise CarRefused(f"its payload begins at {start}, within the wrapper")
        self._from.skip(start - self._from.at)
        self._from.limit(length)


class CarWriter:
    """A version 1 file, block by block; one that was written already is left out. ``length``: bytes written so far."""

    def __init__(self, into: BinaryIO, roots: Sequence[Cid]) -> None:
        self._into = into
        self._there: set[Cid] = set()
        header = _encode_header(roots)
        self.length = into.write(varint.encode(len(header)) + header)

    def add(self, block: Block) -> None:
        if block.cid not in self._there:
            self._there.add(block.cid)
            cid = block.cid.binary
            self.length += self._into.write(varint.encode(len(cid) + len(block.data)) + cid)
            self.length += self._into.write(block.data)


def write_car(into: BinaryIO, roots: Sequence[Cid], blocks: Iterable[Block]) -> int:
    """A whole version 1 file; gives the number of bytes written."""
    writer = CarWriter(into, roots)
    for block in blocks:
        writer.add(block)
    return writer.length


class _Reader:
    """Counts, and never asks for more than it may."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._end: int | None = None
        self._peeked = b""
        self.at = 0

    def limit(self, length: int) -> None:
        self._end = self.at + length

    def ended(self) -> bool:
        """Whether nothing follows."""
        if self._end is not None and self.at >= self._end:
            return True
        self._peeked = self._peeked or self._source.read(1)
        if not self._peeked and self._end is not None:
            raise CarRefused(f"it is cut short at byte {self.at}")
        return not self._peeked

    def exactly(self, count: int) -> bytes:
        if self._end is not None and self.at + count > self._end:
            raise CarRefused(f"its payload ends at byte {self._end}, within something")
        pieces = [self._peeked[:count]]
        self._peeked = self._peeked[count:]
        left = count - len(pieces[0])
        while left:
            piece = self._source.read(left)
            if not piece:
                raise CarRefused(f"it is cut short after byte {self.at + count - left}")
            pieces.append(piece)
            left -= len(piece)
        self.at += count
        return b"".join(pieces)

    def skip(self, count: int) -> None:
        while count:
            step = min(count, _PIECE)
            self.exactly(step)
            count -= step

    def cid(self, count: int) -> Cid:
        """The CID that begins the next ``count`` bytes, which it need not fill."""
        head = self.exactly(count)
        made, end = Cid.read(head)
        self._peeked = head[end:] + self._peeked
        self.at -= count - end
        return made

    def length(self, limit: int, what: str) -> int:
        """A varint from 1 to ``limit``."""
        spelled = b""
        while not spelled or spelled[-1] > 0x7F:
            if len(spelled) == varint.MAX_BYTES:
                break
            spelled += self.exactly(1)
        try:
            value, _ = varint.decode(spelled)
        except ValueError as error:
            raise CarRefused(f"{error}, at byte {self.at}") from error
        if not 1 <= value <= limit:
            raise CarRefused(f"{what} at byte {self.at} has {value} bytes, 1 to {limit} allowed")
        return value


def _encode_header(roots: Sequence[Cid]) -> bytes:
    """The one dag-cbor spelling of {"roots": [CIDs], "version": 1}; a link is tag 42 over a zero and the CID."""
    if len(roots) > MAX_ROOTS:
        raise CarRefused(f"{len(roots)} roots, {MAX_ROOTS} allowed")
    count = bytes((0x80 | len(roots),)) if len(roots) < 24 else bytes((0x98, len(roots)))
    links = b"".join(b"\xd8\x2a\x58" + bytes((len(root.binary) + 1, 0)) + root.binary for root in roots)
    return b"\xa2eroots" + count + links + b"gversion\x01"


def _decode_header(data: bytes) -> tuple[Cid, ...]:
    """Reads just that spelling: what it reads, encoded again, must be ``data``."""
    roots: list[Cid] = []
    at = len(b"\xa2eroots")
    at += 2 if data[at : at + 1] == b"\x98" else 1
    while data[at : at + 3] == b"\xd8\x2a\x58" and len(roots) < MAX_ROOTS:
        root, at = Cid.read(data, at + 5)
        roots.append(root)
    if _encode_header(roots) != data:
        raise CarRefused("the header is not the dag-cbor of roots and version 1")
    return tuple(roots)
