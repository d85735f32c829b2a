"""A task's input, found in the call data of the transaction that submitted it. Pure, bounded, never a guess.

The engine stores the CID of the input and not the input. So wherever bytes are found, directly or inside the call data of
a router, a batch or a wallet, they are the input if and only if their CID is the one stored.
"""

from __future__ import annotations

from collections.abc import Iterator

from challenger.protocols.arbius.cid import MAX_INPUT, input_cid

#: Bytes hashed per transaction: an input is found at its first place, and call data made to be slow is given up on.
_MOST_HASHED = 16 << 20
_EMPTY = input_cid(b"")


def find_input(call_data: bytes, cid: bytes) -> bytes | None:
    """The input with this CID among the byte strings that ``call_data`` may hold; None when there is none."""
    if cid == _EMPTY:
        return b""
    hashed = 0
    for candidate in _byte_strings(call_data):
        hashed += len(candidate) + 64
        if hashed > _MOST_HASHED:
            return None
        if input_cid(candidate) == cid:
            return candidate
    return None


def _byte_strings(data: bytes) -> Iterator[bytes]:
    """What stands in ``data`` as the ABI writes ``bytes``: a word of length, and so many bytes. At every fourth byte: four
    of a selector stand before each nested call, twenty of a packed address before a forwarded one. Nothing is asked of
    the padding, which a caller may leave out."""
    for at in range(0, len(data) - 31, 4):
        if data[at : at + 28] != _ZEROS:
            continue
        length = int.from_bytes(data[at + 28 : at + 32], "big")
        if 0 < length <= MAX_INPUT and at + 32 + length <= len(data):
            yield data[at + 32 : at + 32 + length]


_ZEROS = bytes(28)
