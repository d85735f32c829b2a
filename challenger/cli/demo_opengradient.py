"""What `challenger demo --protocol opengradient` shows."""

from __future__ import annotations

from typing import Any

from challenger.cli import report
from challenger.sim.opengradient.demo import Outcome, play

__all__ = ["as_json", "end", "play", "show"]


def as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "recorded": outcome.recorded,
        "inferences": [report.inference_as_json(one) for one in outcome.checked],
        "findings": [report.finding_as_json(one) for one in outcome.found],
    }


def show(outcome: Outcome) -> None:
    report.print_report(outcome.checked, outcome.unjoined, outcome.found)


def end(outcome: Outcome, config: str) -> None:
    if outcome.holds:
        print("Everything that was planted was found, and nothing else.")
    print(f"{outcome.recorded} findings recorded; nothing is filed: challenger findings -c {config}")
