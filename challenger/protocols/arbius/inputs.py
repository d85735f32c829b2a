"""A task's input, found in the call data of the transaction that submitted it. Pure, bounded, never a guess.

The engine stores the CID of the input and not the input. So wherever bytes are found, directly or inside the call data of
a router, a batch or a wallet, they are the input if and only if their CID is the one stored.
"""

from __future__ import annotations

from collections.abc import Iterator

from challenger.protocols.arbius.cid import MAX_INPUT, input_cid

#: Bytes hashed per transaction, however many tasks it submits: call data made to be slow is given up on.
MOST_HASHED = 16 << 20


class Inputs:
    """What may be an input in the call data of one transaction, by CID. Looked through once, as far as ``most`` bytes hashed
    lead; tens of milliseconds at worst."""

    def __init__(self, call_data: bytes, most: int = MOST_HASHED) -> None:
        self._data = call_data
        self._places: dict[bytes, tuple[int, int]] = {input_cid(b""): (0, 0)}
        self.hashed = 0
        for at, length in _byte_strings(call_data):
            if self.hashed + length + 64 > most:
                break
            self.hashed += length + 64
            self._places.setdefault(input_cid(call_data[at : at + length]), (at, length))

    def of(self, cid: bytes) -> bytes | None:
        """The input with this CID; None when it is not there."""
        place = self._places.get(cid)
        return None if place is None else self._data[place[0] : sum(place)]


def _byte_strings(data: bytes) -> Iterator[tuple[int, int]]:
    """Where in ``data``, and how long, what stands there as the ABI writes ``bytes``: a word of length, and so many bytes. At every fourth byte: four
    of a selector stand before each nested call, twenty of a packed address before a forwarded one. Nothing is asked of
    the padding, which a caller may leave out."""
    for at in range(0, len(data) - 31, 4):
        if data[at : at + 28] != _ZEROS:
            continue
        length = int.from_bytes(data[at + 28 : at + 32], "big")
        if 0 < length <= MAX_INPUT and at + 32 + length <= len(data):
            yield at + 32, length


_ZEROS = bytes(28)
