"""From bytes to the CID that ``ipfs add`` gives them, and to the blocks behind it.

A file is cut into chunks, by default of 262,144 bytes; a node links at most so many of them, by default 174, and so on upwards (the
balanced layout). A file of one chunk is that chunk's block alone. Checked against another implementation in tests/replay/test_ipfs_build.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from replay.artifacts.ipfs import dagpb, unixfs
from replay.artifacts.ipfs.cid import DAG_PB, RAW, Cid
from replay.artifacts.ipfs.dagpb import MAX_BLOCK, MAX_LINKS, MAX_NAME, Link
from replay.artifacts.ipfs.errors import NameRefused
from replay.artifacts.ipfs.unixfs import Entry, Kind

#: Takes each block once it is made, children before parents; the same block may come again.
Sink = Callable[[Cid, bytes], None]

#: bytes of a directory from which on `ipfs add` shards it, which gives another CID
SHARDING = 256 << 10


@dataclass(frozen=True, slots=True)
class Profile:
    """The choices that decide a CID. ``version`` is of the nodes' CIDs; raw leaves have version 1 always. ``whole_block``:
    whether a directory's size, which decides on sharding, is that of its block, or of its names and CIDs alone."""

    version: int = 0
    raw_leaves: bool = False
    chunk: int = 256 << 10
    links: int = 174
    whole_block: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.chunk <= MAX_BLOCK and 2 <= self.links <= MAX_LINKS):
            raise ValueError(f"chunks of 1 to {MAX_BLOCK} bytes, 2 to {MAX_LINKS} links")


#: unixfs-v0-2015 of IPIP-499, what `ipfs add` does unless its node is set to something else
KUBO = Profile()
#: `ipfs add --raw-leaves`
KUBO_RAW = Profile(0, raw_leaves=True)
#: `ipfs add --cid-version=1`
KUBO_V1 = Profile(1, raw_leaves=True)
#: unixfs-v1-2025 of IPIP-499, which nodes may be set to since kubo 0.40
KUBO_2025 = Profile(1, raw_leaves=True, chunk=1 << 20, links=1024, whole_block=True)


@dataclass(frozen=True, slots=True)
class Built:
    """``size``: bytes of content; ``dag``: bytes of all blocks below and this one, each as often as it is linked (Tsize)."""

    cid: Cid
    size: int
    dag: int


def file_cid(source: bytes | BinaryIO, profile: Profile = KUBO, sink: Sink | None = None) -> Cid:
    """The CID of a file's content; a file is read once and a chunk at a time."""
    return build_file(source, profile, sink).cid


def directory_cid(
    entries: Mapping[str, bytes | BinaryIO | Built], profile: Profile = KUBO, sink: Sink | None = None
) -> Cid:
    """The CID of a directory of files, as ``ipfs add --wrap-with-directory`` makes it. Raises ``NameRefused``."""
    return build_directory(entries, profile, sink).cid


def build_file(source: bytes | BinaryIO, profile: Profile = KUBO, sink: Sink | None = None) -> Built:
    """As ``file_cid``, with sizes: what a directory's link needs."""
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    tree = _Tree(profile, sink)
    for piece in _chunks(opened, profile.chunk):
        tree.add(_leaf(piece, profile, sink))
    return tree.root()


def build_directory(
    entries: Mapping[str, bytes | BinaryIO | Built], profile: Profile = KUBO, sink: Sink | None = None
) -> Built:
    """``entries``: a name's content, or what was built of it (a directory inside, say). Raises ``NameRefused`` for a name that no
    directory can have, and for so many names that ``ipfs add`` would shard."""
    for name in entries:
        _check(name)
    built = {name: one if isinstance(one, Built) else build_file(one, profile, sink) for name, one in entries.items()}
    links = [Link(one.cid, name, one.dag) for name, one in built.items()]
    block = dagpb.encode(links, unixfs.encode(Entry(Kind.DIRECTORY)))
    names = sum(len(name.encode()) + len(one.cid.binary) for name, one in built.items())
    if (len(block) if profile.whole_block else names) >= SHARDING:
        raise NameRefused(f"{len(built)} names are more than one block takes; `ipfs add` would shard them")
    return _node(block, sum(one.size for one in built.values()), sum(one.dag for one in built.values()), profile, sink)


def rebuilds(source: BinaryIO, cid: Cid) -> bool:
    """Whether one of the usual ways to cut the file gives it ``cid``. A file cut in another way is not told from a wrong one."""
    if cid.codec == RAW:  # one block, however large blocks get
        return file_cid(source, Profile(1, raw_leaves=True, chunk=MAX_BLOCK)) == cid
    for profile in (KUBO, KUBO_RAW) if cid.version == 0 else (KUBO_V1, KUBO_2025, Profile(1)):
        source.seek(0)
        if file_cid(source, profile) == cid:
            return True
    return False


class _Tree:
    """The balanced layout, grown as chunks arrive: ``_levels[k]`` holds what the next node of height k + 1 links."""

    def __init__(self, profile: Profile, sink: Sink | None) -> None:
        self._profile = profile
        self._sink = sink
        self._levels: list[list[Built]] = []

    def add(self, child: Built, level: int = 0) -> None:
        if level == len(self._levels):
            self._levels.append([])
        waiting = self._levels[level]
        if len(waiting) == self._profile.links:
            self._levels[level] = []
            self.add(self._parent(waiting), level + 1)
        self._levels[level].append(child)

    def root(self) -> Built:
        level = 0
        while level < len(self._levels) - 1:
            self.add(self._parent(self._levels[level]), level + 1)
            level += 1
        top = self._levels[level]
        return top[0] if len(top) == 1 else self._parent(top)

    def _parent(self, children: list[Built]) -> Built:
        size = sum(one.size for one in children)
        entry = Entry(Kind.FILE, b"", size, tuple(one.size for one in children))
        block = dagpb.encode([Link(one.cid, "", one.dag) for one in children], unixfs.encode(entry))
        return _node(block, size, sum(one.dag for one in children), self._profile, self._sink)


def _leaf(piece: bytes, profile: Profile, sink: Sink | None) -> Built:
    if not profile.raw_leaves:
        return _node(dagpb.encode((), unixfs.encode(Entry(Kind.FILE, piece, len(piece)))), len(piece), 0, profile, sink)
    cid = Cid.of(piece, RAW)
    if sink is not None:
        sink(cid, piece)
    return Built(cid, len(piece), len(piece))


def _node(block: bytes, size: int, below: int, profile: Profile, sink: Sink | None) -> Built:
    cid = Cid.of(block, DAG_PB, profile.version)
    if sink is not None:
        sink(cid, block)
    return Built(cid, size, below + len(block))


def _chunks(source: BinaryIO, size: int) -> Iterator[bytes]:
    """All full but the last; an empty file has one, which is empty. A read may give less than was asked for."""
    first = True
    while True:
        piece = source.read(size)
        while piece and len(piece) < size and (more := source.read(size - len(piece))):
            piece += more
        if not piece and not first:
            return
        yield piece
        first = False
        if len(piece) < size:
            return


def _check(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise NameRefused(f"{name!a}")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise NameRefused(f"{name!a} is not Unicode") from error
    if length > MAX_NAME:
        raise NameRefused(f"{name[:40]!a}… has {length} bytes, {MAX_NAME} allowed")
