"""``kill -9`` at every crash point of one commitment's life, and at every pair: one challenge, none missed.

The README's test takes the moments around the money, with SQLite in a thread as a watcher has it; ``slow`` every point
and a sample of pairs; ``full`` every pair.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from challenger.domain import TRANSITIONS, State
from challenger.store.crossing import every_name

ROOT = Path(__file__).parents[2]
#: The whole takes hours: ``CHALLENGER_TEST_PART=K/N`` takes the K-th of N parts, which together are all of it.
PART = tuple(map(int, os.environ.get("CHALLENGER_TEST_PART", "1/1").split("/")))
KINDS = ("NUDGE", "WITHHOLD")
#: Around the money: intent, signature, hand-over, and the chain's answer.
MONEY = {
    "NUDGE": "work:confirmed->filing,tx:signed,broadcast,work:filing->filed",
    "WITHHOLD": "work:unavailable->filing,broadcast",
}
#: Names that neither life crosses, and why the matrix may do without: none of them is followed by a signature of its own,
#: and each is one transaction like all others.
NEVER = {
    "needs a person, an alert or a lost dispute": {"alert", "decided", "paused", "resumed"},
    "needs a reorganisation (tests/integration/test_watcher.py, tests/store/test_store_reorgs.py)": {
        *("orphaned", "restored", "draw-orphaned", "taken-back", "rewound", "index:rewind"),
        *("work:filed->filing", "work:filing->confirmed"),
    },
    "needs endpoints that contradict each other (tests/integration/test_endpoints_disagree.py)": {"endpoints-disagree"},
    "needs an old copy of the database (tests/integration/test_old_copy.py)": {"adopted"},
    "needs a transaction that fails (tests/chain/test_sender_crashes.py)": {
        "tx:abandoned",
        "tx:replaced",
        "tx:reverted",
    },
    "needs workers that rest (tests/integration/test_selftest.py)": {"selftest-planted", "selftest-ended"},
    "is no watcher's, and one transaction alone (tests/integration/test_audit_replay.py)": {"audit-verdict"},
    "is no watcher's either (tests/integration/test_report.py)": {"finding", "reported"},
    "needs an answered demand or a longer life": {"chain-window-extended", "epoch-revealed"},
}
#: Ends in which nothing was filed, or nothing was won: no money moves on these arrows.
UNSPENT = frozenset(
    {
        *(State.SKIPPED, State.SHED, State.INCONCLUSIVE, State.FINALISED, State.FILED_BY_OTHER, State.EXPIRED),
        *(State.LOST, State.UNAVAILABLE, State.SAMPLED),
    }
)


def stage(folder: Path, kind: str, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.crash.stage", str(folder), kind, *options]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [one["error"] for one in found if one["error"]]
    assert not wrong, "\n".join(wrong)
    return found


def crossed(found: list[dict[str, Any]]) -> set[str]:
    return {name for names, _ in found[0]["crossed"] for name in names}


@pytest.mark.parametrize("kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_killed_around_the_money(tmp_path: Path, kind: str) -> None:
    found = stage(tmp_path, kind, "--points", MONEY[kind])
    assert len(found) == 1 + len(MONEY[kind].split(","))
    assert crossed(found) <= every_name()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_point_and_at_some_pairs(tmp_path: Path, kind: str) -> None:
    found = stage(tmp_path, kind, "--seconds", "1", "--jobs", "2", "--in-turn")
    pairs = sum("second" in one for one in found)
    print(f"{kind}: {len(found) - 1 - pairs} points, {pairs} pairs")
    assert len(found) - 1 - pairs >= 60
    assert pairs >= 55


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_pair(tmp_path: Path, kind: str) -> None:
    """Every pair of crossings that leave different states: a death before a commit leaves what the one before it left."""
    part, parts = PART
    found = stage(tmp_path, kind, "--seconds", "all", "--jobs", "2", "--in-turn", "--part", f"{part}/{parts}")
    pairs = sum("second" in one for one in found)
    print(f"{kind}: {len(found) - 1 - pairs} points, {pairs} pairs")
    # a part has every N-th point, with all of its pairs: some have fewer than others
    assert pairs * parts >= (2_000 if parts == 1 else 1_500)


@pytest.mark.slow
def test_every_name_is_crossed_or_excused(tmp_path: Path) -> None:
    seen = set()
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        seen |= crossed(stage(tmp_path / kind, kind, "--points", "setting", "--in-turn"))
    arrows = {f"work:{old}->{new}" for old, news in TRANSITIONS.items() for new in news if new in UNSPENT}
    arrows |= {f"work:{old}->{State.WON}" for old in (State.FILED, State.UNAVAILABLE)}
    arrows |= {"work:expired->withdrawn", "work:inconclusive->filed_by_other", "work:filing->unavailable"}
    excused = set().union(*NEVER.values()) | arrows
    assert seen <= every_name(), "a transition without a name in the list"
    assert every_name() - seen <= excused, "a name that no life crosses and nothing excuses"
