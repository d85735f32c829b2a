"""How an aggregate is named where the name is text: in the journal, in a transaction's key, in a pause.

``0x…`` hex of the id; what belongs to a commitment adds parts after it (``0x…/output/0``), so that everything about
one commitment shares its prefix.
"""

from __future__ import annotations


def subject_of(identity: bytes | int, *parts: str | int) -> str:
    """``0x…`` for bytes, decimal for a number, each of ``parts`` after a slash."""
    head = str(identity) if isinstance(identity, int) else "0x" + identity.hex()
    return "/".join((head, *map(str, parts)))


def prefix_range(identity: bytes) -> tuple[str, str]:
    """``low ≤ s < high`` holds for the subjects of ``identity`` and its parts, and no others of this length."""
    head = subject_of(identity)
    return head, head + "0"  # "/" sorts right before "0"


def hex_range(digits: str) -> tuple[bytes, bytes]:
    """``low ≤ id ≤ high`` holds for the 32-byte ids that begin with these hex digits (64 at most), and no others."""
    return bytes.fromhex(digits.ljust(64, "0")), bytes.fromhex(digits.ljust(64, "f"))
