"""The nodes' outputs beside ours: equal, at a distance within what was stated, or beyond it.

Nodes run ordinary kernels, whose last bits differ between machines: such a difference is a distance and never proof. Only
where a model is declared to be run on the canonical numerics is another float32 a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from challenger.protocols.opengradient.numbers import Distance, Floats, carried, distance, within
from challenger.protocols.opengradient.replaying import paired
from replay.layout import Array


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Stated before anything is compared: each place may lie ``absolute + relative·|ours|`` away."""

    absolute: float
    relative: float

    def __str__(self) -> str:
        return f"{self.absolute:g} + {self.relative:g}·|ours|"


class Outcome(StrEnum):
    EQUAL = "equal"
    WITHIN = "within"
    BEYOND = "beyond"
    INCOMPARABLE = "incomparable"


@dataclass(frozen=True, slots=True)
class Compared:
    """``said``: the distance of each output by name, or why there is none; ``beyond``: of those that are beyond alone."""

    outcome: Outcome
    said: str
    beyond: str = ""


def compare(theirs: Mapping[str, Floats], ours: Mapping[str, Array], tolerance: Tolerance) -> Compared:
    """All outputs of numbers together; one that is beyond puts the whole there."""
    held = paired(list(theirs), list(ours))
    if held is None:
        named = f"they hold {list(theirs)!r}, the model has {list(ours)!r}"
        return Compared(Outcome.INCOMPARABLE, f"outputs: {named}"[:300])
    names = list(theirs)
    told, beyond, differs = [], [], False
    for (name, raw), at in zip(ours.items(), held, strict=True):
        mine, other = np.asarray(raw, np.float32), theirs[names[at]]
        if not np.isfinite(mine).all():
            return Compared(
                Outcome.INCOMPARABLE, f"outputs: {name!r} is not finite here, which the protocol cannot say"
            )
        if _bare(mine) != _bare(other):
            told.append(f"{name!r} has shape {list(other.shape)}, ours {list(mine.shape)}")
            beyond.append(told[-1])
            continue
        other = carried(other.reshape(mine.shape), mine)
        apart: Distance = distance(other, mine)
        told.append(f"{name!r}: {apart}")
        differs |= apart.differing > 0
        if not within(other, mine, tolerance.absolute, tolerance.relative):
            beyond.append(told[-1])
    outcome = Outcome.BEYOND if beyond else Outcome.WITHIN if differs else Outcome.EQUAL
    return Compared(outcome, "; ".join(told), "; ".join(beyond))


def _bare(array: Array) -> tuple[int, ...]:
    """The shape without its ones, which clients add and drop."""
    return tuple(size for size in array.shape if size != 1)
