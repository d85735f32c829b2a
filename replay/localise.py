"""Where two runs part: the first committed leaf that differs."""

from __future__ import annotations

from collections.abc import Sequence


def first_difference(mine: Sequence[bytes], theirs: Sequence[bytes]) -> int | None:
    """Index of the first state leaf that differs (0 is the input, the last the output), None when all agree.

    Where one list goes on after the other ended, that is where they differ.
    """
    for index, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            return index
    return None if len(mine) == len(theirs) else min(len(mine), len(theirs))
