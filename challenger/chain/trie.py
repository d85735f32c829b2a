"""RLP and Ethereum's Merkle-Patricia trie, as far as a block's receipts need them: roots, and proofs of one value.

Formats: Ethereum yellow paper, appendices B (RLP), C (hex-prefix) and D (trie).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, Union

import rlp as codec

from challenger.chain.hashing import keccak

#: Bytes, or a sequence of items.
Item: TypeAlias = Union[bytes, "Sequence[Item]"]
_Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]


def rlp(item: Item) -> bytes:
    """Integers are handed in as ``integer`` makes them."""
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _length(len(item), 0x80) + item
    body = b"".join(map(rlp, item))
    return _length(len(body), 0xC0) + body


def integer(value: int) -> bytes:
    """Big endian without leading zeros; zero is empty."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _length(size: int, base: int) -> bytes:
    if size < 56:
        return bytes([base + size])
    digits = integer(size)
    return bytes([base + 55 + len(digits)]) + digits


def ordered_root(values: Sequence[bytes]) -> bytes:
    """32 bytes: the root of the trie that maps rlp(i) to ``values[i]``; no value is empty."""
    pairs = sorted((_nibbles(rlp(integer(index))), value) for index, value in enumerate(values))
    return keccak(rlp(_node(pairs, 0) if pairs else b""))


def branch(values: Sequence[bytes], index: int) -> list[bytes]:
    """The nodes from the root to ``values[index]``, those that their parents hold by hash: what ``followed`` wants."""
    pairs = sorted((_nibbles(rlp(integer(at))), value) for at, value in enumerate(values))
    key, depth = _nibbles(rlp(integer(index))), 0
    nodes: list[bytes] = []
    while True:
        # the node that leads on from here, made of what lies below it
        node = _node([pair for pair in pairs if pair[0][:depth] == key[:depth]], depth)
        if not nodes or len(rlp(node)) >= 32:
            nodes.append(rlp(node))
        if len(node) == 2:
            path, leaf = _unprefixed(node[0])
            if leaf:
                return nodes
            depth += len(path)
        elif depth == len(key):
            return nodes
        else:
            depth += 1


def followed(root: bytes, index: int, nodes: Sequence[bytes]) -> bytes:
    """The value at ``index`` of the trie with this root, by the ``nodes`` on the way. ``ValueError`` says what does not fit."""
    key, left = _nibbles(rlp(integer(index))), list(nodes)
    node = _opened(root, left)
    while True:
        if len(node) == 17:
            if not key:
                return _ended(node[16], left)
            link, key = node[key[0]], key[1:]
        elif len(node) == 2 and isinstance(node[0], bytes) and node[0]:
            spent, leaf = _unprefixed(node[0])
            if key[: len(spent)] != spent or (leaf and len(key) != len(spent)):
                raise ValueError("the proof leads to another key")
            if leaf:
                return _ended(node[1], left)
            link, key = node[1], key[len(spent) :]
        else:
            raise ValueError("a node of the proof is none")
        if link == b"":
            raise ValueError("the trie has nothing at this key")
        node = _opened(link, left) if isinstance(link, bytes) else link


def _opened(digest: bytes, left: list[bytes]) -> Any:
    """The next node, whose hash its parent (or the header) holds."""
    if not left:
        raise ValueError("the proof ends early")
    encoded = left.pop(0)
    if keccak(encoded) != digest:
        raise ValueError("a node of the proof does not hash to what holds it")
    try:
        node = codec.decode(encoded)
    except Exception:  # noqa: BLE001 - the library has no common error, and warns of none
        raise ValueError("a node of the proof is not RLP") from None
    if not isinstance(node, list | tuple):
        raise ValueError("a node of the proof is none")  # noqa: TRY004 - hostile data, not a caller's mistake
    return node


def _ended(value: Any, left: list[bytes]) -> bytes:
    if not isinstance(value, bytes) or not value:
        raise ValueError("the trie has nothing at this key")
    if left:
        raise ValueError("the proof goes on after its value")
    return value


def _unprefixed(path: Any) -> tuple[bytes, bool]:
    """The nibbles of a hex-prefix, and whether it is a leaf's."""
    nibbles = _nibbles(path)
    if nibbles[0] > 3:
        raise ValueError("a path of the proof is none")
    return nibbles[2 - nibbles[0] % 2 :], nibbles[0] >= 2


def _node(pairs: _Pairs, depth: int) -> Item:
    """The node over ``pairs`` (keys in nibbles, ascending, distinct), whose first ``depth`` nibbles are spent."""
    first, last = pairs[0][0], pairs[-1][0]
    if len(pairs) == 1:
        return [_hex_prefix(first[depth:], leaf=True), pairs[0][1]]
    shared = depth
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    if shared > depth:
        return [_hex_prefix(first[depth:shared], leaf=False), _link(_node(pairs, shared))]
    children: list[Item] = [b""] * 17
    if len(first) == depth:
        children[16], pairs = pairs[0][1], pairs[1:]
    for nibble in range(16):
        below = [pair for pair in pairs if pair[0][depth] == nibble]
        if below:
            children[nibble] = _link(_node(below, depth + 1))
    return children


def _link(node: Item) -> Item:
    """A node as its parent holds it: itself when it is short, else its hash."""
    encoded = rlp(node)
    return node if len(encoded) < 32 else keccak(encoded)


def _nibbles(key: bytes) -> bytes:
    return bytes(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _hex_prefix(nibbles: bytes, *, leaf: bool) -> bytes:
    flag = 2 if leaf else 0
    odd = len(nibbles) % 2
    padded = bytes([flag + odd]) + nibbles if odd else bytes([flag, 0]) + nibbles
    return bytes(padded[i] << 4 | padded[i + 1] for i in range(0, len(padded), 2))
