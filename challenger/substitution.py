"""What lay at an address in place of what was committed, as a verdict's detail says it and as it is read back. Pure.

It is what this watcher was served: another may be served other bytes, and nobody can check it afterwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from challenger.domain import Hash32, Part

_SAID = re.compile(r"([a-z]+): substituted, ([0-9]{1,20}) bytes of sha256 0x([0-9a-f]{64}) at (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Substitution:
    """``size`` bytes of SHA-256 ``digest`` were served at ``where`` (an address without secrets)."""

    size: int
    digest: Hash32
    where: str

    def __str__(self) -> str:
        return f"{self.size} bytes of sha256 0x{self.digest.hex()} at {self.where}"

    def detail(self, part: Part) -> str:
        """The detail of an UNAVAILABLE verdict: up to the colon what is missing, as where nothing was served."""
        return f"{part.value}: substituted, {self}"

    @classmethod
    def read(cls, detail: str) -> tuple[Part, Self] | None:
        """What ``detail`` wrote; None for any other text."""
        found = _SAID.fullmatch(detail)
        if found is None or found[1] not in set(Part):
            return None
        return Part(found[1]), cls(int(found[2]), Hash32(bytes.fromhex(found[3])), found[4])
