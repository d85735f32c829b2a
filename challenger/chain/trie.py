"""RLP and the root of Ethereum's Merkle-Patricia trie, as far as a block's receipts need them: encoding only.

Formats: Ethereum yellow paper, appendices B (RLP), C (hex-prefix) and D (trie).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, Union

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
