"""A server that did not answer, as a verdict's detail says it and as it is read back. Pure.

Silence is weaker than a refusal: our own line may be down, or lose requests. So it is kept apart from data that a server
said it does not have, or served falsely; and silence between whose failures another answered from one in which none did.
"""

from __future__ import annotations

from dataclasses import dataclass

from challenger.domain import Part
from replay.artifacts.routes import host_of

_ALONE, _AMONG = "silent, ", "silent while "


@dataclass(frozen=True, slots=True)
class Silence:
    """``where`` (an address without secrets) did not answer; ``meanwhile``: a host that did, empty where none is known."""

    where: str
    meanwhile: str

    def detail(self, part: Part) -> str:
        """The detail of an UNAVAILABLE verdict: up to the colon what is missing, as where it was said to be missing."""
        return f"{part.value}: {_AMONG + self.meanwhile + ' answered, ' if self.meanwhile else _ALONE}{self.where}"


def silent(detail: str) -> bool:
    """Whether ``detail`` tells of silence, be it the server's: a line that loses every third request answers for others."""
    return detail.partition(": ")[2].startswith((_ALONE, _AMONG))


def unheard(detail: str) -> bool:
    """Whether ``detail`` tells of silence that may be ours."""
    return detail.partition(": ")[2].startswith(_ALONE)


def host_of_silence(detail: str) -> str:
    """The host that was silent, empty for any other detail."""
    told = detail.partition(": ")[2]
    return host_of(told.removeprefix(_ALONE)) if told.startswith(_ALONE) else ""


#: Beginnings of such details in SQL's LIKE.
UNHEARD = tuple(f"{part.value}: {_ALONE}%" for part in (Part.INPUT, Part.OUTPUT))
