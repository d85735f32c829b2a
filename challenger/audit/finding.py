"""What an audit of the record finds, and how a value is shown in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from challenger.store.journal import canonical

GONE = "the journal tells of it, and the row is not there"
ALIEN = "the journal tells nothing of it"


@dataclass(frozen=True, slots=True)
class Finding:
    """What does not hold of the row ``about`` of ``table``."""

    table: str
    about: str
    what: str


def differences(
    table: str, about: str, values: Mapping[str, Any], said: Mapping[str, Any], by: str = "the journal says"
) -> list[Finding]:
    """A finding for each of ``values`` that is not what is ``said`` of it."""
    plain = json.loads(canonical(values))
    return [
        Finding(table, about, f"{name} is {short(value)}, {by} {short(said.get(name))}")
        for name, value in plain.items()
        if value != said.get(name)
    ]


def short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"
