"""`challenger demo --protocol arbius`: played to its end, and a demonstration that went wrong says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from challenger.cli import main
from challenger.domain import TaskId
from challenger.sim.arbius_demo import EXPECTED, Line, wrong

TASK = TaskId(b"\x07" * 32)


@pytest.mark.slow
def test_the_demo_holds_and_leaves_a_record(tmp_path, capsys):
    folder = tmp_path / "demo"
    assert main(["demo", "--protocol", "arbius", "--json", "--out", str(folder)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"]
    assert told["wrong"] == []
    by_scene = {}
    for line in told["tasks"]:
        by_scene.setdefault(line["scene"], []).append((line["verdict"], line["did"], line["outcome"]))
    assert by_scene == {
        "bulk": [("VALID", "nothing", "stands")] * 5,
        "cheap": [("FRAUD", "contested", "won")],
        "beside": [("FRAUD", "voted yea", "won")],
        "asleep": [("FRAUD", "contested", "lost")],
    }
    stakes = told["stakes"]
    assert int(stakes["a voter"]["gained"]) > 0
    assert int(stakes["watcher"]["after"]["staked"]) < int(stakes["watcher"]["before"]["staked"]), "a slash was lost"
    config = str(folder / "challenger.toml")
    assert main(["commitments", "-c", config, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert "FRAUD" in json.dumps(rows)
    assert main(["disputes", "-c", config]) == 0
    assert "amounts in tokens" in capsys.readouterr().out
    assert main(["audit", "verify", "-c", config]) == 0


def lines() -> list[Line]:
    return [
        Line(TASK, scene, scene == "bulk", "VALID" if scene == "bulk" else "FRAUD", *EXPECTED[scene])
        for scene in EXPECTED
    ]


def test_what_went_wrong_is_named():
    assert wrong(lines()) == []
    for number, scene in enumerate(EXPECTED):
        told = lines()
        told[number] = replace(told[number], outcome="won" if told[number].outcome != "won" else "lost")
        (said,) = wrong(told)
        assert said.startswith(f"{scene}: task 0x07070707")
        (said,) = wrong([line for line in lines() if line.scene != scene])
        assert said == f"scene {scene} did not take place"


def test_options_of_the_other_demonstration_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--protocol", "arbius", "--tasks", "3", "--out", str(tmp_path / "demo")])
    assert ended.value.code == 2
    assert "--tasks is for the demonstration of the reference protocol" in capsys.readouterr().err
