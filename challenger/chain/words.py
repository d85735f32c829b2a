"""One number of what several endpoints say: where two are honest, a third one moves it neither up nor down.

Of two that differ nobody knows which one lies. The caller chooses the side on which a false word can be made good: what
would only cost gas, or be found out, rather than what would keep a filing back.
"""

from __future__ import annotations

from collections.abc import Sequence


def lower(words: Sequence[int]) -> int:
    """The middle one; of two in the middle the lower."""
    return sorted(words)[(len(words) - 1) // 2]


def upper(words: Sequence[int]) -> int:
    """The middle one; of two in the middle the higher."""
    return sorted(words)[len(words) // 2]
