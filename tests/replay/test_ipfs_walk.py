"""Files out of blocks, and blocks that lie about the file they make."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipfs_blocks import SMALL, Shelf

from replay.artifacts.ipfs import dagpb, unixfs
from replay.artifacts.ipfs.build import Profile
from replay.artifacts.ipfs.cid import DAG_PB, RAW, Block, Cid
from replay.artifacts.ipfs.dagpb import Link
from replay.artifacts.ipfs.errors import (
    BlockMismatch,
    DagRefused,
    DagTooLarge,
    IpfsError,
    NoSuchEntry,
    UnsupportedUnixfs,
)
from replay.artifacts.ipfs.protobuf import number
from replay.artifacts.ipfs.unixfs import Entry, Kind
from replay.artifacts.ipfs.walk import FileWalk, child, entries, read_file


def read(shelf, root, max_bytes=1 << 30):
    into = io.BytesIO()
    assert read_file(root, shelf.__getitem__, into, max_bytes) == len(into.getvalue())
    return into.getvalue()


@given(st.binary(max_size=300), st.integers(1, 9), st.integers(2, 4), st.booleans(), st.integers(0, 1))
def test_what_was_built_is_read_again(data, chunk, links, raw, version):
    shelf = Shelf()
    assert read(shelf, shelf.file(data, Profile(version, raw_leaves=raw, chunk=chunk, links=links))) == data


@given(st.binary(min_size=1, max_size=60), st.data())
def test_any_byte_of_any_block_changed_is_refused(data, draw):
    shelf = Shelf()
    shelf.file(data)
    block = draw.draw(st.sampled_from(list(shelf)))
    damaged = bytearray(block.data)
    damaged[draw.draw(st.integers(0, len(damaged) - 1))] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(BlockMismatch):
        Block(block.cid, bytes(damaged))


def test_a_right_block_in_the_wrong_place_is_refused():
    shelf = Shelf()
    root, other = shelf.file(b"one"), shelf.file(b"two")
    with pytest.raises(DagRefused, match="is next"):
        FileWalk(root, max_bytes=9).give(shelf[other])


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=5), st.data())
def test_nodes_that_say_anything_give_what_the_root_said_or_nothing(layers, draw):
    """However nodes are wired and whatever they claim, a file that is read is as large as its root claimed."""
    shelf = Shelf()
    made = [(shelf.raw(b"abc"), 3), (shelf.file(b"xy"), 2)]
    for picks in layers:
        parts = [made[pick % len(made)] for pick in picks]
        lie = draw.draw(st.sampled_from([0, 0, 0, 1, -1]))
        sizes = [max(0, size + (lie if place == 0 else 0)) for place, (_, size) in enumerate(parts)]
        claimed = sum(sizes) + draw.draw(st.sampled_from([0, 0, 0, 5]))
        made.append((shelf.node([cid for cid, _ in parts], sizes, filesize=claimed), claimed))
    walk, into = FileWalk(made[-1][0], max_bytes=1000), b""
    try:
        while (cid := walk.wanted) is not None:
            into += walk.give(shelf[cid])
    except DagRefused:
        return
    assert len(into) == walk.size == made[-1][1]


def test_lies_about_sizes_are_found():
    shelf = Shelf()
    leaf = shelf.raw(b"abc")
    for root, why in [
        (shelf.node([leaf], [3], filesize=4), "states 4 bytes and has 3"),
        (shelf.node([leaf], [4], filesize=4), "has 3 bytes, and what links to it says 4"),
        (shelf.node([leaf, leaf], [3], filesize=3), "2 links and 1 block sizes"),
        (shelf.node([], [3], filesize=3), "0 links and 1 block sizes"),
        (shelf.node([], [], data=b"abc", filesize=1 << 60), "states"),
        (shelf.node([shelf.file(b"")], [0], filesize=0), "empty part"),
        (shelf.node([leaf], [3], kind=Kind.DIRECTORY), "is a directory"),
    ]:
        with pytest.raises(DagRefused, match=why):
            read(shelf, root)


def test_what_a_link_says_of_the_size_behind_it_changes_nothing():
    shelf = Shelf()
    leaf = shelf.raw(b"abc")
    assert read(shelf, shelf.node([leaf], [3], filesize=3, tsize=(1 << 63) - 1)) == b"abc"
    assert read(shelf, shelf.node([leaf], [3], tsize=None)) == b"abc"


def test_a_few_blocks_that_stand_for_endless_bytes_end_at_the_bound():
    shelf = Shelf()
    cid, size = shelf.raw(b"x" * 64), 64
    for _ in range(15):  # 2⁵¹ bytes in 16 blocks
        cid, size = shelf.node([cid] * 8, [size] * 8, filesize=8 * size), 8 * size
    with pytest.raises(DagTooLarge, match="1000 allowed"):
        read(shelf, cid, 1000)
    walk = FileWalk(cid, max_bytes=1 << 62, max_blocks=100)
    with pytest.raises(DagRefused, match="more blocks"):
        while (wanted := walk.wanted) is not None:
            walk.give(shelf[wanted])


def test_deep_and_long_walks_end():
    shelf = Shelf()
    cid = shelf.raw(b"x")
    for _ in range(40):
        cid = shelf.node([cid], [1], filesize=1)
    with pytest.raises(DagRefused, match="deeper than 32"):
        read(shelf, cid)
    walk = FileWalk(shelf.file(bytes(100)), max_bytes=100, max_blocks=3)
    with pytest.raises(DagRefused, match="more blocks"):
        while (wanted := walk.wanted) is not None:
            walk.give(shelf[wanted])


def test_data_beside_links_comes_first():
    shelf = Shelf()
    assert read(shelf, shelf.node([shelf.raw(b"cd")], [2], data=b"ab", filesize=4)) == b"abcd"
    assert read(shelf, shelf.node([], [], data=b"old", kind=Kind.RAW)) == b"old"


@pytest.mark.parametrize(("kind", "named"), [(4, "symbolic link"), (5, "HAMT")])
def test_shards_and_links_are_refused_by_name(kind, named):
    shelf = Shelf()
    block = dagpb.encode((), number(1, kind))
    cid = Cid.of(block)
    shelf(cid, block)
    with pytest.raises(UnsupportedUnixfs, match=named):
        read(shelf, cid)
    with pytest.raises(UnsupportedUnixfs, match=named):
        entries(shelf[cid])


def test_directories():
    shelf = Shelf()
    root = shelf.directory({"b": b"two", "a": b"one"})
    assert list(entries(shelf[root])) == ["a", "b"]
    assert read(shelf, child(shelf[root], "b")) == b"two"
    with pytest.raises(NoSuchEntry, match="'c'"):
        child(shelf[root], "c")
    with pytest.raises(DagRefused, match="is a directory"):
        read(shelf, root)
    for file in (shelf.file(b"x"), shelf.raw(b"x")):
        with pytest.raises(DagRefused, match="is a file"):
            entries(shelf[file])


def test_a_name_that_stands_twice_and_a_node_that_is_nothing():
    shelf = Shelf()
    leaf = shelf.raw(b"x")
    block = dagpb.encode([Link(leaf, "a"), Link(leaf, "a")], unixfs.encode(Entry(Kind.DIRECTORY)))
    with pytest.raises(DagRefused, match="stands twice"):
        entries(Block(Cid.of(block), block))
    bare = dagpb.encode([Link(leaf, "a")], None)
    with pytest.raises(IpfsError, match="has none"):
        entries(Block(Cid.of(bare), bare))


def test_what_comes_next_is_known_as_far_as_the_blocks_given_tell():
    shelf = Shelf()
    root = shelf.file(bytes(range(40)), Profile(0, raw_leaves=True, chunk=4, links=3))
    walk = FileWalk(root, max_bytes=40)
    assert walk.upcoming(8) == [root]
    walk.give(shelf[root])
    assert len(walk.upcoming(8)) == 2
    seen = walk.upcoming(1)
    assert seen == [walk.wanted]
    same = FileWalk(shelf.file(bytes(64), Profile(0, raw_leaves=True, chunk=4, links=32)), max_bytes=64)
    same.give(shelf[same.wanted])
    assert same.upcoming(8) == [Cid.of(bytes(4), RAW)]


def test_small_profile_is_deep():
    shelf = Shelf()
    assert read(shelf, shelf.file(bytes(range(200)), SMALL)) == bytes(range(200))
    assert sum(1 for block in shelf if block.cid.codec == DAG_PB) > 90
