"""Values on which the number codec is held against the protocol's own client, and what both answer, as text.

``python opengradient_cases.py`` asks the installed client (``pip install --no-deps opengradient==1.1.4``) and writes
``opengradient_numbers_v1.json``: a digest of its answers for each chunk, against which the codec is held everywhere.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import random
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

VERSION = "1.1.4"
DIGESTS = Path(__file__).with_name("opengradient_numbers_v1.json")
CHUNKS, CHUNK = 12, 10_000
REFUSED = "refused"
#: What is encoded (True: a float or an integer) or decoded (False: a pair).
Case = tuple[bool, Any]


def cases(chunk: int) -> Iterator[Case]:
    """``CHUNK`` of them, the same on every machine."""
    draw = random.Random(f"opengradient numbers {chunk}")
    for _ in range(CHUNK // 8):
        yield True, np.uint32(draw.getrandbits(32)).view(np.float32)
        # as probabilities and logits are: around one
        yield True, np.float32(draw.getrandbits(24) / 2 ** draw.randrange(8, 40))
        yield True, float(np.float32(draw.getrandbits(24) * 2.0 ** -draw.randrange(30)))
        yield True, draw.randrange(-(10**9), 10**9) / 10 ** draw.randrange(12)
        yield True, draw.getrandbits(draw.randrange(1, 64)) * draw.choice((1, -1))
        yield False, (draw.getrandbits(draw.randrange(1, 128)) * draw.choice((1, -1)), draw.randrange(19))
        yield False, (draw.randrange(-(10**9), 10**9), draw.randrange(19))
        yield False, (draw.randrange(-999, 999), draw.randrange(-38, 19))


def told(case: Case, encode: Callable[[Any], Any], decode: Callable[[int, int], Any], refusals: Any) -> str:
    """One answer: the pair, or the float32's bits with −0.0 as 0.0."""
    encoding, given = case
    try:
        if encoding:
            value, decimals = encode(given)
            return f"{value}/{decimals}"
        return f"{int((decode(*given) + np.float32(0)).view(np.uint32)):08x}"
    except refusals:
        return REFUSED


def digest(answers: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(answers).encode()).hexdigest()


class Client:
    """The protocol's own client. What it would hand on and nodes would refuse counts as refused."""

    def __init__(self) -> None:
        found = distribution("opengradient")
        if found.version != VERSION:
            raise ImportError(f"opengradient {found.version} is installed, {VERSION} was measured")
        root = Path(str(found.locate_file("opengradient")))
        # its packages import much that the codec does not need: they are stood in for
        for name, place in (("opengradient", root), ("opengradient.client", root / "client")):
            package = types.ModuleType(name)
            package.__path__ = [str(place)]
            sys.modules[name] = package
        self._codec = importlib.import_module("opengradient.client._conversions")

    def encode(self, number: Any) -> tuple[int, int]:
        value, decimals = self._codec.convert_to_fixed_point(number)
        if decimals > 18 or not -(1 << 127) <= value < 1 << 127:
            raise ValueError
        return value, decimals

    def decode(self, value: int, decimals: int) -> Any:
        with np.errstate(over="ignore"):
            got = self._codec.convert_to_float32(value, decimals)
        if not math.isfinite(got):
            raise ValueError
        return got

    def tensors(self, given: dict[str, Any]) -> Any:
        return self._codec.convert_to_model_input(given)

    def answers(self, chunk: int) -> Iterator[str]:
        return (told(case, self.encode, self.decode, (ValueError, TypeError)) for case in cases(chunk))


def main() -> None:
    client = Client()
    digests = [digest(client.answers(chunk)) for chunk in range(CHUNKS)]
    facts = {"client": f"opengradient {VERSION}", "values": CHUNKS * CHUNK, "digests": digests}
    DIGESTS.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
