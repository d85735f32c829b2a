"""DAGs for tests: honest ones from the builder, and ones that lie."""

from __future__ import annotations

from replay.artifacts.ipfs import dagpb, unixfs
from replay.artifacts.ipfs.build import Profile, build_directory, build_file
from replay.artifacts.ipfs.cid import DAG_PB, RAW, Block, Cid
from replay.artifacts.ipfs.dagpb import Link
from replay.artifacts.ipfs.unixfs import Entry, Kind

#: deep trees from few bytes
SMALL = Profile(0, raw_leaves=False, chunk=4, links=2)


class Shelf:
    """Blocks by CID, as a sink of the builder and as what a walk reads from."""

    def __init__(self):
        self.blocks = {}

    def __call__(self, cid, data):
        self.blocks[cid] = Block(cid, data)

    def __getitem__(self, cid):
        return self.blocks[cid]

    def __iter__(self):
        return iter(self.blocks.values())

    def file(self, data, profile=SMALL):
        return build_file(data, profile, self).cid

    def directory(self, entries, profile=SMALL):
        return build_directory(entries, profile, self).cid

    def raw(self, data):
        cid = Cid.of(data, RAW)
        self(cid, data)
        return cid

    def node(self, cids, sizes, *, data=b"", filesize=None, kind=Kind.FILE, tsize=0):
        """A node that says what it is told to."""
        message = unixfs.encode(Entry(kind, data, filesize, tuple(sizes)))
        block = dagpb.encode([Link(cid, "", tsize) for cid in cids], message)
        cid = Cid.of(block, DAG_PB, 0)
        self(cid, block)
        return cid
