"""``kill -9`` at every crash point of one commitment's life, and at every pair: one challenge, none missed.

The README's test takes the moments around the money, with SQLite in a thread as a watcher has it; ``slow`` every point
and a sample of pairs, and in the lives in which more happens what is theirs alone; ``full`` every pair, and every point of those lives.
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
#: The lives in which more happens (``stories.py``), and what is crossed there alone: the watcher dies before each and after.
REORGANISED = {
    "DROPPED": "index:rewind,work:filed->filing",
    "KEPT": "rewound,taken-back",
    "UNSEALED": "tx:reverted",
    "UNCOMMITTED": "orphaned,restored",
    "REDRAWN": "draw-orphaned",
}
PUT_BACK = {"OLD-COPY": "adopted", "OLD-COPY-WAITING": "adopted", "OLD-COPY-WISHED": "tx:abandoned"}
CONTESTED = {
    "RIVAL": "work:filing->confirmed,work:confirmed->filed_by_other",
    "OVERTAKEN": "tx:reverted",
    "STUCK": "tx:replaced",
    "HELD-UP": "tx:sent#5",
}
ATTENDED = {
    "CONFIRM": "decided",
    "CORRELATED": "paused,resumed",
    "ANSWERED": "chain-window-extended,work:disputing->sampled",
    "LONGER": "epoch-revealed",
}
MORE = REORGANISED | PUT_BACK | CONTESTED | ATTENDED
#: Names that no life crosses, and why the matrix may do without: none of them is followed by a signature of its own, and
#: each is one transaction like all others.
NEVER = {
    "needs endpoints that contradict each other (tests/integration/test_endpoints_disagree.py)": {"endpoints-disagree"},
    "needs workers that rest (tests/integration/test_selftest.py)": {"selftest-planted", "selftest-ended"},
    "is no watcher's, and one transaction alone (tests/integration/test_audit_replay.py)": {"audit-verdict"},
    "is no watcher's either (tests/integration/test_report.py)": {"finding", "reported"},
}
#: Ends in which nothing was filed, or nothing was won: no money moves on these arrows.
UNSPENT = frozenset(
    {
        *(State.SKIPPED, State.SHED, State.INCONCLUSIVE, State.FINALISED, State.FILED_BY_OTHER, State.EXPIRED),
        *(State.LOST, State.UNAVAILABLE, State.SAMPLED),
    }
)


def stage(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.crash.stage", str(folder), *arguments]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [f"{one['story']}: {one['error']}" for one in found if one["error"]]
    assert not wrong, "\n".join(wrong)
    return found


def crossed(found: list[dict[str, Any]]) -> set[str]:
    return {name for one in found for names, _ in one.get("crossed", ()) for name in names}


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


@pytest.mark.slow
@pytest.mark.parametrize("lives", [REORGANISED, PUT_BACK, CONTESTED, ATTENDED], ids=lambda lives: next(iter(lives)))
def test_killed_where_more_happens(tmp_path: Path, lives: dict[str, str]) -> None:
    found = stage(tmp_path, *(f"{story}={points}" for story, points in lives.items()), "--both", "--in-turn")
    deaths = {(one["story"], name, one["first"][1]) for one in found if "first" in one for name in one["first"][0]}
    for story, points in lives.items():
        for point in points.split(","):
            assert {(story, point.partition("#")[0], moment) for moment in ("before", "after")} <= deaths


@pytest.mark.slow
def test_what_stands_still_leaves_what_a_death_leaves(tmp_path: Path) -> None:
    """Second deaths by SIGKILL, and copies made where the watcher stands still, go on through the same crossings."""

    def then(seconds: str) -> dict[tuple[int, int], Any]:
        (tmp_path / seconds).mkdir()
        found = stage(tmp_path / seconds, "NUDGE", "--points", "work:filing->filed", "--seconds", seconds, "--in-turn")
        return {tuple(one["number"]): one["then"] for one in found if "second" in one}

    killed, copied = then("8"), then("all")
    assert len(killed) == 8
    assert killed.items() <= copied.items()


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_pair(tmp_path: Path, kind: str) -> None:
    """Every pair of crossings that leave different states: a death before a commit leaves what the one before it left. The
    second deaths are copies of what is there while the watcher stands still; those of the samples above are real."""
    part, parts = PART
    found = stage(tmp_path, kind, "--seconds", "all", "--jobs", "3", "--in-turn", "--part", f"{part}/{parts}")
    pairs = sum("second" in one for one in found)
    print(f"{kind}: {len(found) - 1 - pairs} points, {pairs} pairs")
    # a part has every N-th point, with all of its pairs: some have fewer than others
    assert pairs * parts >= (2_000 if parts == 1 else 1_500)


@pytest.mark.full
@pytest.mark.parametrize("story", MORE)
def test_killed_at_every_point_where_more_happens(tmp_path: Path, story: str) -> None:
    """By copies: real deaths around what happens there alone are above."""
    part, parts = PART
    found = stage(tmp_path, story, "--copies", "--in-turn", "--part", f"{part}/{parts}")
    print(f"{story}: {len(found) - 1} points")
    assert len(found) - 1 >= 60 // parts


@pytest.mark.slow
def test_every_name_is_crossed_or_excused(tmp_path: Path) -> None:
    seen = crossed(stage(tmp_path, *KINDS, "--points", "none", "--in-turn"))
    seen |= {point.partition("#")[0] for points in MORE.values() for point in points.split(",")}  # killed at, above
    arrows = {f"work:{old}->{new}" for old, news in TRANSITIONS.items() for new in news if new in UNSPENT}
    arrows |= {f"work:{old}->{State.WON}" for old in (State.FILED, State.UNAVAILABLE)}
    arrows |= {"work:expired->withdrawn", "work:inconclusive->filed_by_other", "work:filing->unavailable"}
    excused = set().union(*NEVER.values())
    assert seen <= every_name(), "a transition without a name in the list"
    assert every_name() - seen <= excused | arrows, "a name that no life crosses and nothing excuses"
    assert not seen & excused, "excused, and crossed all the same"
