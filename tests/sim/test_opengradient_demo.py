"""`challenger demo --protocol opengradient`: what was planted is found, and a demonstration that is wrong says so."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from challenger.cli import main
from challenger.sim import files
from challenger.sim.opengradient import demo
from challenger.sim.opengradient.scenes import Played, Stage, on_declared_numerics


@pytest.mark.slow
def test_the_whole_demonstration(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "demo"
    assert main(["demo", "--protocol", "opengradient", "--json", "--out", str(folder)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["wrong"]) == (True, [])
    assert told["recorded"] == len(told["findings"]) >= 9
    assert {one["ground"] for one in told["findings"]} == {"proof", "distance", "absence"}
    assert {one["standing"] for one in told["inferences"]} >= {"equal", "within", "beyond", "wrong", "no-model"}
    # an ordinary run is never proof
    assert all(one["kind"] != "wrong-output" or one["facts"]["confirmed"] for one in told["findings"])
    with closing(sqlite3.connect(folder / "challenger.sqlite")) as base:
        assert base.execute("SELECT count(*) FROM findings").fetchone() == (told["recorded"],)
        assert base.execute("SELECT count(*) FROM transactions").fetchone() == (0,)
    assert main(["findings", "--json", "-c", str(folder / "challenger.toml")]) == 0
    assert len(json.loads(capsys.readouterr().out)["findings"]) == told["recorded"]
    assert main(["audit", "verify", "-c", str(folder / "challenger.toml")]) == 0
    assert "The record holds" in capsys.readouterr().out


async def test_a_scene_that_is_not_as_it_says_is_told(tmp_path: Path) -> None:
    async def lying(stage: Stage) -> Played:
        """A scene that expects what nobody did."""
        played = await on_declared_numerics(stage)
        return Played("a lie", played.ours, played.first, {"brief-0": frozenset({"no-result"})})

    outcome = await demo.play(files.make(tmp_path / "demo"), lambda *_: None, [lying])
    assert not outcome.holds
    assert outcome.wrong == [
        "brief-0: expected no-result, found nothing",
        "brief-1: expected nothing, found nothing",
        "brief-2: expected nothing, found wrong-output",
    ]


@pytest.mark.parametrize("option", [("--tasks", "3"), ("--rate", "0.5"), ("--record", "x.tar")])
def test_options_of_the_other_demonstration_are_refused(option: tuple[str, str], capsys, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--protocol", "opengradient", "--out", str(tmp_path / "demo"), *option])
    assert stop.value.code == 2
    assert f"{option[0]} is for the demonstration of the reference protocol" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
