"""What decoding remembers between calls: how many tokens went before, and each attention's keys and values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Kinds whose result depends on tokens seen before: they take a ``state``.
STATEFUL = frozenset({"attention", "position_rows", "rope"})


@dataclass
class State:
    """``position``: tokens before this call. ``kept``: operator's output name → what its backend keeps for it."""

    position: int = 0
    kept: dict[str, Any] = field(default_factory=dict)
