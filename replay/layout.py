"""Bytes and hashes of tensors, bundles and trees (spec version 1). Pure: numpy and hashlib, no state.

SHA-256 throughout; the first byte hashed says what is hashed. A tile is 1,024 bytes of one row (a row runs along the
last dimension): little-endian elements of 4 bytes (float32, int32), 8 (int64) or 1 (bool: 0 or 1), padded with zeros
at the row's end. Trees are binary and
padded to the next power of two with 32 zero bytes; one leaf is its own root. ``docs/numerics.md`` has the table.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.errors import LayoutError

__all__ = [
    "BORDER_RANK",
    "MAX_TENSORS",
    "PAD_LEAF",
    "TAG_OPERATOR",
    "TAG_PROGRAM",
    "TILE_BYTES",
    "Array",
    "LayoutError",
    "Tree",
    "border",
    "bundle_root",
    "check_tensor",
    "decode_bundle",
    "encode_bundle",
    "hash_tile",
    "merkle_path",
    "merkle_root",
    "node_hash",
    "tensor_hash",
    "tensor_root",
    "tile_bytes",
    "tile_count",
    "tile_elements",
    "tile_hashes",
    "verify_path",
]

Array = npt.NDArray[Any]

TILE_BYTES = 1024
PAD_LEAF = bytes(32)
MAX_TENSORS = 8
MAX_NAME = 32
#: Dimensions of a tensor in a bundle, and of a value inside a program.
BORDER_RANK, MAX_RANK = 6, 8
MAX_DIM = 2**32 - 1

TAG_TILE, TAG_NODE, TAG_TENSOR, TAG_BUNDLE, TAG_PROGRAM, TAG_OPERATOR = (bytes([tag]) for tag in range(6))

_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<i4"), 3: np.dtype("<i8"), 4: np.dtype("?")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_BORDER = (1, 2, 3)
_CHUNK_TILES = 8192


# ---- trees -----------------------------------------------------------------------------------------------------------


class Tree:
    """A binary Merkle tree over ``leaves`` (each 32 bytes, at least one); every level is kept, so paths are cheap."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise LayoutError("a tree needs at least one leaf")
        if any(len(leaf) != 32 for leaf in leaves):
            raise LayoutError("a leaf is 32 bytes long")
        self.size = len(leaves)
        self._levels = [b"".join(leaves)]
        for level in range((self.size - 1).bit_length()):
            below = self._levels[-1]
            if len(below) % 64:
                below += _pad(level)
            self._levels.append(b"".join([_node(below[i : i + 64]) for i in range(0, len(below), 64)]))

    @property
    def root(self) -> bytes:
        return self._levels[-1]

    @property
    def depth(self) -> int:
        return len(self._levels) - 1

    def leaf(self, index: int) -> bytes:
        self._check(index)
        return self._levels[0][32 * index : 32 * index + 32]

    def node(self, level: int, index: int) -> bytes:
        """Node ``index`` of ``level`` (0: leaves), padding included. Raises ``LayoutError``."""
        if not 0 <= level <= self.depth or not 0 <= index < 1 << (self.depth - level):
            raise LayoutError(f"node {index} of level {level} is outside a tree of {self.size} leaves")
        held = self._levels[level][32 * index : 32 * index + 32]
        if held:
            return held
        return _pad(level)

    def path(self, index: int) -> tuple[bytes, ...]:
        """Siblings of leaf ``index`` from the leaf level upwards."""
        self._check(index)
        siblings = []
        for level, nodes in enumerate(self._levels[:-1]):
            at = 32 * ((index >> level) ^ 1)
            siblings.append(nodes[at : at + 32] or _pad(level))
        return tuple(siblings)

    def _check(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise LayoutError(f"leaf {index} is outside a tree of {self.size} leaves")


def _node(pair: bytes) -> bytes:
    return sha256(b"\x01" + pair).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two nodes."""
    return _node(left + right)


@lru_cache(maxsize=64)
def _pad(level: int) -> bytes:
    """Root of a subtree of ``level`` levels that holds pad leaves only."""
    return PAD_LEAF if level == 0 else _node(_pad(level - 1) * 2)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root of the tree over ``leaves`` (≥ 1, each 32 bytes)."""
    return Tree(leaves).root


def merkle_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Siblings of leaf ``index`` from the leaf level upwards, ⌈log₂ n⌉ of them."""
    return Tree(leaves).path(index)


def verify_path(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether ``leaf`` stands at ``index`` of the tree of ``size`` leaves with this root. Total: never raises."""
    if size < 1 or not 0 <= index < size or len(path) != (size - 1).bit_length() or len(leaf) != 32:
        return False
    node = leaf
    for level, sibling in enumerate(path):
        if len(sibling) != 32:
            return False
        node = _node(sibling + node if index >> level & 1 else node + sibling)
    return node == root


# ---- tensors ---------------------------------------------------------------------------------------------------------


def tile_elements(dtype: Any) -> int:
    """How many elements of this dtype a tile holds."""
    return TILE_BYTES // int(np.dtype(dtype).itemsize)


def tile_count(shape: Sequence[int], dtype: Any = np.float32) -> int:
    """How many tiles a tensor of this shape and dtype has."""
    return math.prod(shape[:-1]) * (-(-shape[-1] // tile_elements(dtype)))


def _blocks(array: Array) -> Iterator[Array]:
    """The tiles of a checked tensor, in order, as uint8 blocks [≤ 8192, 1 + 1024]; column 0 is the domain tag."""
    width = array.shape[-1]
    rows = np.ascontiguousarray(array).reshape(-1, width).view(np.uint8)
    per_row = -(-width // tile_elements(array.dtype))
    step = max(1, _CHUNK_TILES // per_row)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        block = np.zeros((len(part), per_row, 1 + TILE_BYTES), np.uint8)
        whole = width * array.dtype.itemsize // TILE_BYTES
        block[:, :whole, 1:] = part[:, : whole * TILE_BYTES].reshape(len(part), whole, TILE_BYTES)
        if whole < per_row:
            rest = part[:, whole * TILE_BYTES :]
            block[:, whole, 1 : 1 + rest.shape[1]] = rest
        yield block.reshape(-1, 1 + TILE_BYTES)


def tile_hashes(array: Array) -> list[bytes]:
    """``H_tile`` of each tile of a tensor, in order (about 1 GB/s)."""
    check_tensor(array)
    hashes: list[bytes] = []
    for block in _blocks(array):
        data = block.tobytes()
        hashes += [sha256(data[i : i + 1025]).digest() for i in range(0, len(data), 1025)]
    return hashes


def tile_bytes(array: Array, index: int) -> bytes:
    """Tile ``index`` (1,024 bytes) of a tensor."""
    check_tensor(array)
    elements, count = tile_elements(array.dtype), tile_count(array.shape, array.dtype)
    row, column = divmod(index, -(-array.shape[-1] // elements))
    if not 0 <= index < count:
        raise LayoutError(f"tile {index} is outside a tensor of {count} tiles")
    part = np.ascontiguousarray(array).reshape(-1, array.shape[-1])[row]
    data: bytes = part[column * elements : (column + 1) * elements].tobytes()
    return data.ljust(TILE_BYTES, b"\0")


def hash_tile(tile: bytes) -> bytes:
    """``H_tile`` of one tile of exactly 1,024 bytes."""
    if len(tile) != TILE_BYTES:
        raise LayoutError(f"a tile is {TILE_BYTES} bytes long, not {len(tile)}")
    return sha256(TAG_TILE + tile).digest()


def tensor_hash(array: Array, tiles: bytes) -> bytes:
    """``H_tensor`` of a tensor shaped like ``array`` whose tiles have the root ``tiles``."""
    return sha256(TAG_TENSOR + _shape_header(array) + tiles).digest()


def tensor_root(array: Array) -> bytes:
    """``H_tensor`` of an array of rank 1 to 8. Bits are hashed, so −0 and +0 differ."""
    return tensor_hash(array, merkle_root(tile_hashes(array)))


def check_tensor(array: Array) -> int:
    """The code of its dtype, once the array is known to have a root. Raises ``LayoutError``."""
    code = _CODES.get(array.dtype)
    if code is None:
        raise LayoutError(f"a tensor is float32, int32, int64 or bool, not {array.dtype}")
    if not 1 <= array.ndim <= MAX_RANK:
        raise LayoutError(f"a tensor has 1 to {MAX_RANK} dimensions, not {array.ndim}")
    if not all(1 <= dim <= MAX_DIM for dim in array.shape):
        raise LayoutError(f"each dimension is at least 1 and below 2³², not {array.shape}")
    return code


def _shape_header(array: Array) -> bytes:
    code = check_tensor(array)
    return struct.pack(f">BB{array.ndim}I", code, array.ndim, *array.shape)


# ---- bundles ---------------------------------------------------------------------------------------------------------


def _name_header(name: str) -> bytes:
    if not 1 <= len(name) <= MAX_NAME or not all("!" <= sign <= "~" for sign in name):
        raise LayoutError(f"a tensor's name is 1 to {MAX_NAME} printable ASCII characters, not {name[:48]!r}")
    return bytes([len(name)]) + name.encode("ascii")


def border(array: Array) -> Array:
    """The array as it crosses a program's border: a bool becomes int32, 0 or 1. (A row of one byte would cost whoever
    must post it on chain a tile a byte.) Raises ``LayoutError`` for more dimensions than a bundle may have."""
    if array.ndim > BORDER_RANK:
        raise LayoutError(f"a tensor in a bundle has at most {BORDER_RANK} dimensions, not {array.ndim}")
    return array.astype(np.int32) if array.dtype == np.bool_ else array


def _check_count(count: int) -> bytes:
    if not 1 <= count <= MAX_TENSORS:
        raise LayoutError(f"a bundle holds 1 to {MAX_TENSORS} tensors, not {count}")
    return bytes([count])


def encode_bundle(tensors: Mapping[str, Array]) -> bytes:
    """Canonical bytes of named tensors, in the mapping's order. Raises ``LayoutError``."""
    parts = [_check_count(len(tensors))]
    for name, given in tensors.items():
        array = border(given)
        parts += [_name_header(name), _shape_header(array), np.ascontiguousarray(array).tobytes()]
    return b"".join(parts)


def decode_bundle(data: bytes) -> dict[str, Array]:
    """The tensors of a bundle, in order. Total and strict: whatever ``encode_bundle`` could not have written raises
    ``LayoutError``; nothing is allocated beyond the size of ``data``."""
    reader = _Reader(data)
    count = reader.take(1)[0]
    _check_count(count)
    tensors: dict[str, Array] = {}
    for _ in range(count):
        name = reader.take(reader.take(1)[0]).decode("latin-1")
        _name_header(name)
        if name in tensors:
            raise LayoutError(f"the name {name!r} stands twice")
        code, rank = reader.take(2)
        if code not in _BORDER or not 1 <= rank <= BORDER_RANK:
            raise LayoutError(f"tensor {name!r} has dtype {code} and rank {rank}")
        dims = struct.unpack(f">{rank}I", reader.take(4 * rank))
        elements = 1
        for dim in dims:
            elements *= dim
        if elements == 0:
            raise LayoutError(f"tensor {name!r} has a dimension of 0")
        raw = reader.take(_DTYPES[code].itemsize * elements)
        tensors[name] = np.frombuffer(raw, _DTYPES[code]).reshape(dims)
    if reader.left:
        raise LayoutError(f"{reader.left} bytes follow the bundle")
    return tensors


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise LayoutError(f"the bundle ends early: {count} bytes wanted at {self._at}, {self.left} left")
        self._at += count
        return self._data[self._at - count : self._at]


def bundle_root(bundle: Mapping[str, Array] | bytes, root: Callable[[Array], bytes] = tensor_root) -> bytes:
    """``H_bundle`` of named tensors or of their canonical bytes. ``root``: what computes ``tensor_root``. Raises
    ``LayoutError``."""
    tensors = decode_bundle(bundle) if isinstance(bundle, bytes) else bundle
    parts = [TAG_BUNDLE, _check_count(len(tensors))]
    for name, array in tensors.items():
        parts += [_name_header(name), root(border(array))]
    return sha256(b"".join(parts)).digest()
