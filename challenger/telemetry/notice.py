"""What is told to people: the alerts there are, how bad each is, and one of them as it is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """``critical``: money or a deadline is at stake now; ``warning``: it will be if nobody looks; ``info``: good to know."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


#: name → how bad it is. ``words.py`` says what each means and what to do, ``docs/operators.md`` likewise; tests hold the
#: three together.
SEVERITY = {
    "fraud-found": Severity.WARNING,
    "filed": Severity.INFO,
    "won": Severity.INFO,
    "lost": Severity.CRITICAL,
    "no-ruling": Severity.WARNING,
    "slack-low": Severity.WARNING,
    "predicted-miss": Severity.CRITICAL,
    "missed": Severity.CRITICAL,
    "shed": Severity.WARNING,
    "gas-low": Severity.WARNING,
    "stalled": Severity.CRITICAL,
    "stale-head": Severity.CRITICAL,
    "disagreement": Severity.CRITICAL,
    "endpoint": Severity.WARNING,
    "false-logs": Severity.CRITICAL,
    "cut-off": Severity.CRITICAL,
    "paused": Severity.CRITICAL,
    "approval": Severity.CRITICAL,
    "selftest-missed": Severity.CRITICAL,
    "selftest-undecided": Severity.WARNING,
    "planted-filing": Severity.CRITICAL,
    "bug": Severity.CRITICAL,
    "crashed": Severity.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert as it is delivered. ``about``: what it is about (a commitment's id, an endpoint), may be empty;
    ``fields``: plain values, bytes as 0x hex; ``raised`` is this machine's clock, seconds."""

    name: str
    severity: Severity
    about: str
    fields: Mapping[str, Any]
    raised: float
