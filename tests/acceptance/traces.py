"""Where a secret may have left a trace: the spellings it may have, and the private files it comes from."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path


def forms(secret: bytes) -> list[bytes]:
    """As it may be written: raw, hex of either case, base64 of either alphabet, a number, numbers, escapes; and its hex
    likewise, should somebody show the text of a file as bytes."""
    found = []
    for one in (secret, secret.hex().encode()):
        coded = [base64.b64encode(one), base64.urlsafe_b64encode(one)]
        numbers = [separator.join(map(str, one)).encode() for separator in (", ", ",")]
        text = [one.hex().encode(), one.hex().upper().encode(), str(int.from_bytes(one)).encode()]
        found += [one, *text, *(code.rstrip(b"=") for code in coded), *numbers, repr(one)[2:-1].encode()]
    return found


def traces(needles: Iterable[bytes], written: bytes) -> list[bytes]:
    """Those of the needles that are there."""
    return [needle for needle in needles if needle in written]


def private(path: Path, content: str) -> Path:
    """A file of its owner alone."""
    path.touch(mode=0o600)
    path.write_text(content)
    return path
