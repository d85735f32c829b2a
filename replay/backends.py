"""The backends by name, and which of them are independent of each other. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

#: Backend → the family whose kernel code it shares. One family's word is not proof.
FAMILIES: Mapping[str, str] = {
    "torch": "torch",
    "torch-int8": "torch",
    "native": "torch",
    "native-int8": "torch",
    "numpy": "numpy",
}
BACKENDS = tuple(FAMILIES)


def unrelated(one: str, other: str) -> bool:
    """Whether two backends share no kernel code."""
    return FAMILIES.get(one, one) != FAMILIES.get(other, other)


def second_opinion(backend: str) -> str:
    """A backend that shares no kernel code with this one."""
    return next(name for name in BACKENDS if unrelated(name, backend))
