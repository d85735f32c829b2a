"""Bytes and roots: against the frozen vectors, against a plain second implementation, and against junk."""

from __future__ import annotations

import json
import math
import struct
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.layout import (
    PAD_LEAF,
    LayoutError,
    Tree,
    bundle_root,
    decode_bundle,
    encode_bundle,
    hash_tile,
    merkle_path,
    merkle_root,
    node_hash,
    tensor_root,
    tile_bytes,
    tile_count,
    tile_hashes,
    verify_path,
)

VECTORS = json.loads(Path(__file__).with_name("vectors_v1.json").read_text(encoding="utf-8"))["layout"]


def plain_root(leaves):
    """The tree as its definition reads."""
    size = 1
    while size < len(leaves):
        size *= 2
    row = list(leaves) + [PAD_LEAF] * (size - len(leaves))
    while len(row) > 1:
        row = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row), 2)]
    return row[0]


def plain_tensor(array):
    code = {"float32": 1, "int32": 2, "int64": 3, "bool": 4}[array.dtype.name]
    leaves = []
    for row in array.reshape(-1, array.shape[-1]):
        raw = row.tobytes()
        leaves += [sha256(b"\0" + raw[at : at + 1024].ljust(1024, b"\0")).digest() for at in range(0, len(raw), 1024)]
    head = bytes([2, code, array.ndim]) + b"".join(struct.pack(">I", dim) for dim in array.shape)
    return sha256(head + plain_root(leaves)).digest()


@st.composite
def tensors(draw):
    rank = draw(st.integers(1, 6))
    widths = st.sampled_from([1, 3, 127, 129, 255, 256, 257, 600, 1025])
    shape = [draw(st.integers(1, 5 if rank < 5 else 2)) for _ in range(rank - 1)] + [draw(widths)]
    dtype = np.dtype(draw(st.sampled_from([np.float32, np.int32, np.int64])))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return np.frombuffer(random.bytes(dtype.itemsize * math.prod(shape)), dtype).reshape(shape)


names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32)
bundles = st.dictionaries(names, tensors(), min_size=1, max_size=8)


@given(tensors())
def test_tensor_root_is_the_definition(array):
    assert tensor_root(array) == plain_tensor(array)
    assert len(tile_hashes(array)) == tile_count(array.shape, array.dtype)


@given(tensors(), st.data())
def test_a_tile_opens_against_its_tensor(array, data):
    hashes = tile_hashes(array)
    index = data.draw(st.integers(0, len(hashes) - 1))
    assert hash_tile(tile_bytes(array, index)) == hashes[index]


@given(st.integers(1, 40), st.data())
def test_paths_verify_and_nothing_else_does(size, data):
    leaves = [sha256(bytes([i])).digest() for i in range(size)]
    index = data.draw(st.integers(0, size - 1))
    root, path = merkle_root(leaves), merkle_path(leaves, index)
    assert root == plain_root(leaves)
    assert len(path) == (size - 1).bit_length()
    assert verify_path(leaves[index], index, size, path, root)
    assert not verify_path(PAD_LEAF, index, size, path, root)
    assert not verify_path(leaves[index], index, size, (*path, PAD_LEAF), root)
    assert not verify_path(leaves[index], size, size, path, root)
    assert not verify_path(leaves[index], -1, size, path, root)
    if size > 1:
        assert not verify_path(leaves[index], (index + 1) % size, size, path, root)
        assert not verify_path(leaves[index], index, size, (path[0][:31], *path[1:]), root)


@given(bundles)
def test_bundles_come_back(bundle):
    data = encode_bundle(bundle)
    back = decode_bundle(data)
    assert list(back) == list(bundle)
    assert encode_bundle(back) == data
    assert bundle_root(data) == bundle_root(bundle)
    head = b"\x03" + bytes([len(bundle)])
    parts = [bytes([len(name)]) + name.encode() + plain_tensor(array) for name, array in bundle.items()]
    assert bundle_root(data) == sha256(head + b"".join(parts)).digest()


@given(bundles, st.data())
def test_damaged_bundles_are_refused_or_differ(bundle, data):
    raw = bytearray(encode_bundle(bundle))
    at = data.draw(st.integers(0, len(raw) - 1))
    cut = data.draw(st.booleans())
    if cut:
        del raw[at:]
    else:
        raw[at] ^= data.draw(st.integers(1, 255))
    try:
        back = decode_bundle(bytes(raw))
    except LayoutError:
        return
    assert not cut
    assert encode_bundle(back) == bytes(raw)
    assert bundle_root(back) != bundle_root(bundle)


@given(st.binary(max_size=200))
def test_junk_is_refused_or_canonical(data):
    try:
        back = decode_bundle(data)
    except LayoutError:
        return
    assert encode_bundle(back) == data


@pytest.mark.parametrize(
    "bundle",
    [
        {},
        {f"t{i}": np.zeros(1, np.float32) for i in range(9)},
        {"": np.zeros(1, np.float32)},
        {"x" * 33: np.zeros(1, np.float32)},
        {"é": np.zeros(1, np.float32)},
        {"a b": np.zeros(1, np.float32)},
        {"x": np.zeros(1, np.float64)},
        {"x": np.zeros(1, np.uint32)},
        {"x": np.zeros((), np.float32)},
        {"x": np.zeros((1,) * 7, np.float32)},
        {"x": np.zeros((2, 0), np.float32)},
    ],
)
def test_what_no_bundle_can_hold(bundle):
    with pytest.raises(LayoutError):
        encode_bundle(bundle)
    with pytest.raises(LayoutError):
        bundle_root(bundle)


def test_a_name_stands_once_and_nothing_follows():
    one = encode_bundle({"x": np.zeros(1, np.float32)})
    with pytest.raises(LayoutError, match="twice"):
        decode_bundle(b"\x02" + one[1:] * 2)
    with pytest.raises(LayoutError, match="follow"):
        decode_bundle(one + b"\0")


def test_a_huge_claim_allocates_nothing():
    head = b"\x01\x01x\x01\x04" + b"\xff" * 16
    with pytest.raises(LayoutError, match="ends early"):
        decode_bundle(head)


def test_vectors():
    leaves = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
    assert {str(n): merkle_root(leaves[:n]).hex() for n in range(1, 10)} == VECTORS["roots"]
    assert [node.hex() for node in merkle_path(leaves, 6)] == VECTORS["path_6_of_9"]
    assert tensor_root(np.arange(300, dtype=np.int32).reshape(1, 300)).hex() == VECTORS["tensor_int32_1x300_arange"]
    assert bundle_root(bytes.fromhex(VECTORS["bundle"])).hex() == VECTORS["bundle_root"]
    assert bundle_root({"nonfinite": np.array([3, 17], np.int32)}).hex() == VECTORS["nonfinite_3_17"]


def test_a_bool_crosses_the_border_as_int32():
    inside = np.array([[True, False, True]])
    assert tensor_root(inside) == plain_tensor(inside)
    data = encode_bundle({"x": inside})
    assert data == encode_bundle({"x": inside.astype(np.int32)})
    assert bundle_root({"x": inside}) == bundle_root(data)
    with pytest.raises(LayoutError, match="dtype 4"):
        decode_bundle(b"\x01\x01x\x04\x01\0\0\0\1\1")


@given(tensors(), st.data())
def test_any_node_of_a_tree_can_be_opened(array, data):
    tree = Tree(tile_hashes(array))
    level = data.draw(st.integers(0, tree.depth))
    index = data.draw(st.integers(0, (1 << (tree.depth - level)) - 1))
    if level:
        assert tree.node(level, index) == node_hash(
            tree.node(level - 1, 2 * index), tree.node(level - 1, 2 * index + 1)
        )
    else:
        assert tree.node(0, index) == (tree.leaf(index) if index < tree.size else PAD_LEAF)
    assert tree.node(tree.depth, 0) == tree.root
    with pytest.raises(LayoutError):
        tree.node(level, 1 << (tree.depth - level))


def test_zero_has_two_signs():
    plus, minus = np.zeros(3, np.float32), np.full(3, -0.0, np.float32)
    assert tensor_root(plus) != tensor_root(minus)


@pytest.mark.parametrize("index", [-1, 3, 10**9])
def test_leaves_and_tiles_have_bounds(index):
    with pytest.raises(LayoutError):
        Tree([PAD_LEAF] * 3).path(index)
    with pytest.raises(LayoutError):
        tile_bytes(np.zeros((3, 4), np.float32), index)
    with pytest.raises(LayoutError):
        merkle_root([])
