"""Unsigned varints as multiformats has them: seven bits a byte, the lowest first, shortest form, at most nine bytes."""

from __future__ import annotations

MAX_BYTES = 9


def encode(value: int) -> bytes:
    """``value`` must be 0 to 2⁶³ − 1; raises ValueError.

    >>> encode(300).hex()
    'ac02'
    """
    if not 0 <= value < 1 << 63:
        raise ValueError(f"{value} does not fit a varint")
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def decode(data: bytes | memoryview, at: int = 0) -> tuple[int, int]:
    """The number that begins at ``at``, and where the next byte is. Raises ValueError, which says why."""
    value = 0
    for place in range(MAX_BYTES):
        if at + place >= len(data):
            raise ValueError("a varint is cut short")
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if byte == 0 and place:
                raise ValueError("a varint is longer than need be")
            return value, at + place + 1
    raise ValueError(f"a varint is longer than {MAX_BYTES} bytes")
