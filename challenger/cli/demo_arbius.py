"""What `challenger demo --protocol arbius` shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from challenger.cli.common import print_table
from challenger.sim.arbius import TOKEN
from challenger.sim.arbius_demo import Outcome, play

__all__ = ["as_json", "end", "play", "show"]


def as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "tasks": [asdict(line) for line in outcome.lines],
        "stakes": {name: {**asdict(one), "gained": one.gained} for name, one in outcome.stakes.items()},
    }


def show(outcome: Outcome) -> None:
    columns = ["scene", "task", "solution", "verdict", "the watcher", "in the end"]
    rows = [
        (
            line.scene,
            f"0x{line.task.hex()[:8]}…",
            "right" if line.right else "cheap",
            line.verdict,
            line.did,
            line.outcome,
        )
        for line in outcome.lines
    ]
    print_table("Tasks, each judged by itself", columns, rows, whole=2)
    print_table(
        "What it came to, in tokens: no event says so",
        ["who", "stake before", "after", "gained, with tokens in hand"],
        [
            (name, _tokens(one.before.staked), _tokens(one.after.staked), _tokens(one.gained))
            for name, one in outcome.stakes.items()
        ],
    )


def end(outcome: Outcome, config: str) -> None:
    if outcome.holds:
        print(
            "Every cheap solution was contested or voted on, no right one; a tie went to the accused, as it does there."
        )
    for command in ("commitments", "disputes"):
        print(f"challenger {command} -c {config}")


def _tokens(units: int) -> str:
    return f"{units / TOKEN:.3f}"
