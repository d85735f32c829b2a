"""From blocks back to bytes: pure; says which block it wants next, takes it, gives what it adds to the file.

Every size that a block states is held against its parent's word and its own parts before anything below it is asked for, so
that a file is never larger than its root said, and no walk longer than its bounds. Cycles cannot be made: a block would have to
hold its own hash. What a link says of the size behind it (Tsize) is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from replay.artifacts.ipfs import dagpb, unixfs
from replay.artifacts.ipfs.cid import RAW, Block, Cid
from replay.artifacts.ipfs.errors import BlockRefused, DagRefused, DagTooLarge, NoSuchEntry
from replay.artifacts.ipfs.unixfs import Entry, Kind

#: 256 GiB in chunks of the usual size, 4 GiB in chunks of 4 KiB
MAX_BLOCKS = 1 << 20
#: 174 links a node reach a terabyte at depth 4; other layouts go deeper
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class _Wanted:
    cid: Cid
    size: int | None
    depth: int


class FileWalk:
    """One file, in the order of its bytes. ``size`` is None until the root was given."""

    def __init__(self, root: Cid, *, max_bytes: int, max_blocks: int = MAX_BLOCKS, max_depth: int = MAX_DEPTH) -> None:
        self._max_bytes = max_bytes
        self._left = max_blocks
        self._max_depth = max_depth
        self._stack = [_Wanted(root, None, 0)]
        self.size: int | None = None

    @property
    def wanted(self) -> Cid | None:
        """The block to give next; None once the file is whole."""
        return self._stack[-1].cid if self._stack else None

    def upcoming(self, count: int) -> list[Cid]:
        """The next blocks, each once, as far as they are known; at most ``count``."""
        return list(dict.fromkeys(one.cid for one in reversed(self._stack[-count:])))

    def give(self, block: Block) -> bytes | memoryview:
        """The bytes that ``block`` adds to the file. Raises ``DagRefused`` and what the decoders raise."""
        wanted = self._stack.pop()
        if block.cid != wanted.cid:
            raise DagRefused(f"{block.cid} was given, {wanted.cid} is next")
        self._left -= 1
        if self._left < 0:
            raise DagRefused("the file has more blocks than are read")
        if wanted.cid.codec == RAW:
            self._hold(wanted, len(block.data))
            return block.data
        links, entry = _read(block)
        if entry.kind is Kind.DIRECTORY:
            raise DagRefused(f"{wanted.cid} is a directory; name a file in it")
        if len(links) != len(entry.blocksizes):
            raise DagRefused(f"{wanted.cid} has {len(links)} links and {len(entry.blocksizes)} block sizes")
        size = len(entry.data) + sum(entry.blocksizes)
        if entry.filesize not in (None, size):
            raise DagRefused(f"{wanted.cid} states {entry.filesize} bytes and has {size}")
        self._hold(wanted, size)
        if links and wanted.depth == self._max_depth:
            raise DagRefused(f"the file is deeper than {self._max_depth} blocks")
        if 0 in entry.blocksizes:
            raise DagRefused(f"{wanted.cid} links an empty part")
        below = [_Wanted(cid, part, wanted.depth + 1) for cid, part in zip(links, entry.blocksizes, strict=True)]
        self._stack += reversed(below)
        return entry.data

    def _hold(self, wanted: _Wanted, size: int) -> None:
        if wanted.size not in (None, size):
            raise DagRefused(f"{wanted.cid} has {size} bytes, and what links to it says {wanted.size}")
        if wanted.size is None:
            self.size = size
            if size > self._max_bytes:
                raise DagTooLarge(f"{size} bytes, {self._max_bytes} allowed")


def entries(block: Block) -> dict[str, Cid]:
    """What the directory in ``block`` holds. Raises ``DagRefused`` for a file or a name that stands twice."""
    if block.cid.codec == RAW:
        raise DagRefused(f"{block.cid} is a file, not a directory")
    node = dagpb.decode(block.data)
    entry = _entry(block, node)
    if entry.kind is not Kind.DIRECTORY:
        raise DagRefused(f"{block.cid} is a file, not a directory")
    found = {link.name or "": link.cid for link in node.links}
    if len(found) != len(node.links):
        raise DagRefused(f"a name stands twice in the directory {block.cid}")
    return found


def child(block: Block, name: str) -> Cid:
    """The entry ``name`` of a directory. Raises as ``entries``, and ``NoSuchEntry``, which the block proves."""
    found = entries(block).get(name)
    if found is None:
        raise NoSuchEntry(f"{name[:80]!a} in {block.cid}")
    return found


def read_file(root: Cid, get: Callable[[Cid], Block], into: BinaryIO, max_bytes: int) -> int:
    """Write the file to ``into`` from blocks that are at hand; gives its size. Raises as ``FileWalk.give`` and ``get``."""
    walk = FileWalk(root, max_bytes=max_bytes)
    while (cid := walk.wanted) is not None:
        into.write(walk.give(get(cid)))
    assert walk.size is not None
    return walk.size


def _read(block: Block) -> tuple[list[Cid], Entry]:
    node = dagpb.decode(block.data)
    return [link.cid for link in node.links], _entry(block, node)


def _entry(block: Block, node: dagpb.Node) -> Entry:
    if node.data is None:
        raise BlockRefused(f"UnixFS: {block.cid} has none")
    return unixfs.decode(node.data)
