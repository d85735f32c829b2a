"""Contract, plain Python and ``replay.layout`` agree on every bundle, and on what is none."""

from __future__ import annotations

import math

import numpy as np
import plain_layout as plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_evm import CallReverted, Evm
from market_world import TILE_LEAVES, TILES, World

from replay import layout
from replay.errors import LayoutError

WORLD = World()
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=32)


def on_chain(data: bytes) -> bytes | int:
    """The root, or the offset at which the contract says that ``data`` is no bundle."""
    evm: Evm = WORLD.evm
    outcome = evm.send(bytes(20), WORLD.market, "bundleRoot", data)
    if outcome.ok:
        return outcome.output
    assert outcome.error == "MalformedBundle", f"{outcome.error} instead of the parser's own error"
    return int(outcome.error_args[0])


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    rank = draw(st.integers(1, 6))
    dims = [draw(st.integers(1, 3 if rank < 5 else 2)) for _ in range(rank - 1)]
    return (*dims, draw(st.sampled_from([1, 2, 3, 255, 256, 257, 300, 512, 700])))


@st.composite
def bundles(draw: st.DrawFn) -> dict[str, np.ndarray]:
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    tensors = {}
    for name in names:
        shape = draw(shapes())
        seed = draw(st.integers(0, 2**32 - 1))
        dtype = np.dtype(draw(st.sampled_from([np.float32, np.int32, np.int64])))
        bits = np.random.default_rng(seed).bytes(dtype.itemsize * math.prod(shape))
        tensors[name] = np.frombuffer(bits, dtype).reshape(shape)
    return tensors


def plainly(tensors: dict[str, np.ndarray]) -> dict[bytes, plain.Tensor]:
    codes = {np.dtype(np.float32): 1, np.dtype(np.int32): 2, np.dtype(np.int64): 3}
    return {
        k.encode(): (codes[v.dtype], v.shape, v.astype(v.dtype.newbyteorder("<")).tobytes()) for k, v in tensors.items()
    }


@given(bundles())
@settings(max_examples=40)
def test_all_three_compute_the_same_root(tensors: dict[str, np.ndarray]) -> None:
    data = layout.encode_bundle(tensors)
    assert data == plain.bundle(plainly(tensors))
    root = plain.bundle_root(plainly(tensors))
    assert layout.bundle_root(data) == root
    assert on_chain(data) == root


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 17, 33])
def test_trees_of_every_size(count: int) -> None:
    array = np.arange(count * 3, dtype=np.int32).reshape(count, 3)
    assert on_chain(layout.encode_bundle({"rows": array})) == layout.bundle_root({"rows": array})


def check_verdict(data: bytes) -> None:
    """Accepted by all with one root, or by none; the contract's only refusal is its own error."""
    found = on_chain(data)
    if isinstance(found, bytes):
        assert found == layout.bundle_root(data)
    else:
        assert 0 <= found <= len(data)
        with pytest.raises(LayoutError):
            layout.bundle_root(data)


@given(st.binary(max_size=200))
@settings(max_examples=150)
def test_arbitrary_bytes_get_one_verdict(data: bytes) -> None:
    check_verdict(data)


@given(bundles(), st.data())
@settings(max_examples=150)
def test_damaged_bundles_get_one_verdict(tensors: dict[str, np.ndarray], data: st.DataObject) -> None:
    first = next(iter(tensors))
    raw = bytearray(layout.encode_bundle({first: tensors[first].reshape(-1)[:6]}))
    how = data.draw(st.sampled_from(["cut", "grow", "flip", "splice"]))
    place = data.draw(st.integers(0, len(raw) - 1))
    if how == "cut":
        del raw[place:]
    elif how == "grow":
        raw += data.draw(st.binary(min_size=1, max_size=40))
    elif how == "flip":
        raw[place] ^= data.draw(st.integers(1, 255))
    else:
        raw[place:place] = data.draw(st.binary(min_size=1, max_size=8))
    check_verdict(bytes(raw))


HEAD = b"\x01\x01x"  # one tensor called x
BAD = {
    "empty": b"",
    "no tensors": b"\x00",
    "nine tensors": b"\x09",
    "nothing after the count": b"\x01",
    "a name of no length": b"\x01\x00\x01\x01" + b"\0\0\0\1" + bytes(4),
    "a name of 33": b"\x01\x21" + b"n" * 33 + b"\x01\x01\0\0\0\1" + bytes(4),
    "a name that ends early": b"\x01\x05ab",
    "a space in the name": b"\x01\x01 \x01\x01\0\0\0\1" + bytes(4),
    "a name beyond ASCII": b"\x01\x01\x80\x01\x01\0\0\0\1" + bytes(4),
    "dtype 0": HEAD + b"\x00\x01\0\0\0\1" + bytes(4),
    "dtype 4": HEAD + b"\x04\x01\0\0\0\1" + bytes(4),
    "rank 0": HEAD + b"\x01\x00" + bytes(4),
    "rank 7": HEAD + b"\x01\x07" + b"\0\0\0\1" * 7 + bytes(4),
    "no rank": HEAD + b"\x01",
    "dims that end early": HEAD + b"\x01\x02\0\0\0\1\0\0",
    "a dimension of 0": HEAD + b"\x01\x02\0\0\0\1\0\0\0\0",
    "0 rows": HEAD + b"\x01\x02\0\0\0\0\0\0\0\1",
    "data that ends early": HEAD + b"\x01\x01\0\0\0\2" + bytes(7),
    "2^128 elements": HEAD + b"\x01\x04" + b"\xff" * 16 + bytes(64),
    "2^192 elements": HEAD + b"\x03\x06" + b"\xff" * 24 + bytes(64),
    "int64 that ends early": HEAD + b"\x03\x01\0\0\0\2" + bytes(15),
    "products that would wrap": HEAD + b"\x01\x04" + b"\x80\0\0\0" * 4 + bytes(64),
    "something behind": HEAD + b"\x01\x01\0\0\0\1" + bytes(5),
    "a name twice": b"\x02" + 2 * (b"\x01x\x01\x01\0\0\0\1" + bytes(4)),
    "one tensor too few": b"\x03" + b"\x01x\x01\x01\0\0\0\1" + bytes(4) + b"\x01y\x01\x01\0\0\0\1" + bytes(4),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_bundle(data: bytes) -> None:
    assert isinstance(on_chain(data), int)
    check_verdict(data)


def test_the_longest_name_and_eight_tensors() -> None:
    tensors = {chr(ord("a") + i) * 32: np.full((1,), i, np.int32) for i in range(8)}
    assert on_chain(layout.encode_bundle(tensors)) == layout.bundle_root(tensors)


def test_the_longest_bundle_by_uri_can_be_posted_whatever_its_shape() -> None:
    """A demand that nobody could answer would cost an honest party its money: 2^24 gas is the most for a transaction."""
    most = WORLD.view("MAX_POSTED")
    rows = (most - 16) // 4
    data = layout.encode_bundle({"x": np.full((rows, 1), 0x01010101, np.int32)})
    assert most - 4 <= len(data) <= most
    outcome = WORLD.evm.send(bytes(20), WORLD.market, "bundleRoot", data)
    assert outcome.output == layout.bundle_root(data)
    # 21,000, 16 a byte of calldata, 8 a byte of the event, and 200,000 for the rest of ``answer``
    assert outcome.gas + 21_000 + 24 * len(data) + 200_000 < 2**24


def test_paths_agree() -> None:
    tensor = np.frombuffer(b"".join(TILES), np.float32).reshape(6, 256)
    leaves = layout.tile_hashes(tensor)
    assert leaves == TILE_LEAVES
    for index in range(6):
        assert list(layout.merkle_path(leaves, index)) == plain.path(leaves, index)
    assert layout.merkle_root(leaves) == plain.root(leaves)


def test_a_view_of_a_malformed_bundle_reverts() -> None:
    with pytest.raises(CallReverted, match="MalformedBundle"):
        WORLD.view("bundleRoot", b"\x01")
