"""A server that did not answer, as a verdict's detail says it and as it is read back; and when that is withholding. Pure.

Silence is weaker than a refusal: our own line may be down, or lose requests. So it is kept apart from data that a server
said it does not have, or served falsely; and silence between whose failures another answered from one in which none did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from challenger.domain import Part, UnixTime, VerdictKind
from replay.artifacts.routes import host_of

_ALONE, _AMONG = "silent, ", "silent while "
_REFUSED, _REFUSED_AMONG = "refused, ", "refused while "


@dataclass(frozen=True, slots=True)
class Silence:
    """``where`` (an address without secrets) did not answer; ``meanwhile``: a host that did, empty where none is known."""

    where: str
    meanwhile: str

    def detail(self, part: Part) -> str:
        """The detail of an UNAVAILABLE verdict: up to the colon what is missing, as where it was said to be missing."""
        return f"{part.value}: {self}"

    def __str__(self) -> str:
        return f"{_AMONG + self.meanwhile + ' answered, ' if self.meanwhile else _ALONE}{self.where}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server answered, and gave neither the data nor the word that it is not there: ``why``. ``where`` and ``meanwhile`` as
    of ``Silence``: a portal of our own line refuses too. ``large``: what it would give is more than our settings allow."""

    why: str
    where: str
    meanwhile: str = ""
    large: bool = False

    def detail(self, part: Part) -> str:
        """As ``Silence.detail``."""
        return f"{part.value}: {self}"

    def __str__(self) -> str:
        how = _REFUSED_AMONG + self.meanwhile + " answered, " if self.meanwhile else _REFUSED
        return f"{how}{self.where} ({self.why})"


class Looks(NamedTuple):
    """What a run of looks at one part of a commitment came to, all of them in vain. ``silent``: no answer at all; ``refused``;
    ``among``: of both, those between which another server gave what it was asked for; ``said``: the server said that it has
    no such thing, or gave another. ``lasted``: seconds from the first of them to the last."""

    silent: int = 0
    among: int = 0
    refused: int = 0
    said: int = 0
    lasted: int = 0

    @property
    def all(self) -> int:
        return self.silent + self.refused + self.said

    @property
    def heard(self) -> int:
        """Looks at which our line was up, by what answered."""
        return self.among + self.said


#: Looks in vain, and of those with our line up, after which silence is taken for withholding.
ENOUGH = Looks(silent=12, among=6)
#: … and at the last look, when waiting longer would leave no time for a demand.
AT_LAST = Looks(silent=6, among=3)
#: Seconds that a server which starts anew, or our line, may be away for: nothing but its word counts before.
OUTAGE = 180


def looks(verdicts: Iterable[tuple[VerdictKind, str, UnixTime]]) -> Looks:
    """The latest run over kinds, details and times of all ``verdicts`` on a commitment, newest first: up to the first that does
    not say that this part was away, for then it was served, or something of ours was in the way."""
    silent = among = refused = said = 0
    part, first, last = None, 0, 0
    for kind, detail, time in verdicts:
        missing, _, told = detail.partition(": ")
        if kind is not VerdictKind.UNAVAILABLE or part not in (None, missing):
            break
        last = last if part else time
        part, first = missing, time
        if told.startswith((_ALONE, _AMONG)):
            silent += 1
        elif told.startswith((_REFUSED, _REFUSED_AMONG)):
            refused += 1
        else:
            said += 1
        among += told.startswith((_AMONG, _REFUSED_AMONG))
    return Looks(silent, among, refused, said, last - first)


def withheld(run: Looks, *, half: bool, last: bool, outage: int = OUTAGE, pause: int = 0) -> bool:
    """Whether what ``run`` looked for in vain is withheld. ``half``: half of the time for a demand has passed; ``last``:
    three quarters of it, or a demand fits only just twice; ``outage``: seconds that it has to have lasted; ``pause``: that two
    words of a server lie apart, unless it is ``last``: it may have been early.

    What a server says of itself counts the second time. A refusal, which may be its trouble, and silence, which may be our
    line's, get half of the time that there is; the rest is for whoever has to decide, and for the demand.
    """
    if run.said >= 2 and (last or run.lasted >= pause):
        return True
    if run.lasted < outage:
        return False
    if half and run.refused >= 2 and run.heard >= 2:
        return True
    if half and run.all >= ENOUGH.silent and run.heard >= ENOUGH.among:
        return True
    return last and run.all >= AT_LAST.silent


def unheard(run: Looks) -> bool:
    """Whether it may be our own line's doing: hardly any other server gave anything while it lasted."""
    return run.silent + run.refused > 0 and run.heard < AT_LAST.among and run.said < 2


def patient(detail: str) -> bool:
    """Whether what ``detail`` tells of may pass by itself: silence, or a refusal."""
    return detail.partition(": ")[2].startswith((_ALONE, _AMONG, _REFUSED, _REFUSED_AMONG))


def host_of_silence(detail: str) -> str:
    """The host that was silent or refused while no other was known to answer, empty for any other detail."""
    told = detail.partition(": ")[2]
    where = told.removeprefix(_ALONE).removeprefix(_REFUSED)
    return host_of(where.partition(" ")[0]) if where != told else ""


#: Beginnings of such details in SQL's LIKE.
UNHEARD = tuple(f"{part.value}: {how}%" for part in (Part.INPUT, Part.OUTPUT) for how in (_ALONE, _REFUSED))
