"""What the parts of the service are handed to speak with: metrics, alerts and health, all always there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from challenger.domain import State
from challenger.telemetry.alerts import Alerts
from challenger.telemetry.health import Health
from challenger.telemetry.metrics import MISSED, Metrics, Silent


class Case(Protocol):
    """A commitment's row, as far as it is told."""

    @property
    def commitment(self) -> bytes: ...
    @property
    def model(self) -> bytes: ...
    @property
    def provider(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Instruments:
    """Without arguments: no metrics, and alerts that are logged only."""

    metrics: Metrics = field(default_factory=Silent)
    alerts: Alerts = field(default_factory=Alerts)
    health: Health = field(default_factory=Health)

    def case(self, name: str, row: Case, **fields: Any) -> None:
        """Something happened to a case of ours: told with whose it is."""
        about = "0x" + row.commitment.hex()
        self.alerts.event(name, about=about, provider=row.provider, model=row.model, **fields)

    def missed(self, about: str, state: str, why: str) -> None:
        """A window closed over work in hand: counted by the ``state`` it was in, and said with what kept it back. Of what was
        only drawn nobody knows whether anything was missed: that is counted."""
        self.metrics.count(MISSED, state=state)
        if state != State.SAMPLED:
            self.alerts.alert("missed", about=about, state=state, why=why)
