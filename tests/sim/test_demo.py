"""The demonstration from end to end on the toy model, and its summary recomputed here by other means."""

from __future__ import annotations

import io
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from web3 import AsyncWeb3

from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.cli import main
from challenger.contracts import artifact
from challenger.domain import Committed, DisputeClosed
from challenger.errors import ConfigError
from challenger.recording import history
from challenger.recording.ranges import Range, record_range
from challenger.settings import Settings, load
from challenger.sim import demo, files, report, screen
from challenger.sim.scenario import Knobs
from challenger.sim.toy import ToyBench, kits
from replay.recording import open_recording
from tests.sim.watchman import posted

FEW = Knobs(tasks=16, round_size=8)


def console(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=False)


def text_of(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


async def played(
    devnet: EmbeddedDevnet, folder: Path, watching: demo.WatcherFactory, rate: float = 1.0, afterwards: Any = None
) -> tuple[demo.Outcome, str]:
    shown = console()
    with screen.PlainScreen(shown) as seen:
        stage = demo.Stage(devnet, kits(), ToyBench())
        made = files.make(folder / "out")
        outcome = await demo.play(stage, made, demo.Options(rate, FEW, afterwards), watching, seen)
    shown.print(screen.summary(outcome.report, outcome.window, [], []))
    return outcome, text_of(shown)


async def recomputed(devnet: EmbeddedDevnet, planted: dict[str, Any]) -> dict[str, Any]:
    """The summary from web3's own reading of the logs and from labels.json; nothing of the scoreboard is used."""
    web3 = AsyncWeb3(devnet.provider)
    market = web3.eth.contract(AsyncWeb3.to_checksum_address(planted["market"]), abi=artifact("InferenceMarket").abi)

    async def all_of(name: str) -> list[Any]:
        return [log async for log in _logs(market.events[name](), planted["start_block"])]

    truth = {row["job"]: row["truth"] for row in planted["labels"]}
    close = {"0x" + log["args"]["job"].hex(): log["args"]["windowEnd"] for log in await all_of("Committed")}
    fraud = {"0x" + log["args"]["job"].hex() for log in await all_of("JobClosed") if log["args"]["status"] == 2}
    slack, accused = [], defaultdict(int)
    for log in await all_of("Challenged"):
        job = "0x" + log["args"]["job"].hex()
        accused[job] += 1
        slack.append(close[job] - (await web3.eth.get_block(log["blockNumber"]))["timestamp"])
    paid = burnt = 0
    for log in await all_of("Settled") + await all_of("DemandClosed"):
        if log["args"]["outcome"] == (1 if log["event"] == "Settled" else 2):
            paid, burnt = paid + log["args"]["paid"], burnt + log["args"]["burnt"]
    return {
        "commitments": len(close),
        "caught": sum(truth[job] == "wrong" for job in fraud),
        "ended_by_demand": sum(truth[job] == "withheld" for job in fraud),
        "missed": sum(what != "honest" and job not in fraud for job, what in truth.items()),
        "false": sum(count for job, count in accused.items() if truth[job] != "wrong"),
        "challenges": sum(accused.values()),
        "slack_min": min(slack, default=None),
        "slack_median": statistics.median(slack) if slack else None,
        "to_challengers": str(paid),
        "burnt": str(burnt),
        "slashed": str(paid + burnt),
        "held": str(await web3.eth.get_balance(market.address)),
    }


async def _logs(event: Any, start: int) -> Any:
    for log in await event.get_logs(from_block=start):
        yield log


async def test_everything_is_caught_and_the_summary_is_what_another_count_finds(
    devnet: EmbeddedDevnet, tmp_path: Path
) -> None:
    outcome, said = await played(devnet, tmp_path, posted())
    assert outcome.report.holds
    counted = await recomputed(devnet, json.loads(outcome.labels.read_text()))
    summary = report.as_json(outcome.report, {})
    assert {**summary, **summary["money"]} | counted == {**summary, **summary["money"]}
    assert counted["caught"] == summary["wrong"] > 0
    assert counted["ended_by_demand"] == summary["withheld"] > 0
    assert (counted["missed"], counted["false"]) == (0, 0)
    assert counted["held"] == "0"  # every stake, fee and bond is out again
    assert "pause: several providers" in said
    assert "it agrees" in said


async def test_below_rate_one_what_was_not_drawn_may_slip_and_the_report_holds(
    devnet: EmbeddedDevnet, tmp_path: Path
) -> None:
    outcome, said = await played(devnet, tmp_path, posted(lambda job: job[0] % 3 == 0), rate=0.3)
    board = outcome.report.board
    assert outcome.report.holds
    assert outcome.report.undrawn == len(board.missed) > 0
    assert "none of them drawn" in said
    counted = await recomputed(devnet, json.loads(outcome.labels.read_text()))
    assert counted["missed"] == len(board.missed)


async def test_a_watcher_that_accuses_the_honest_breaks_the_report(devnet: EmbeddedDevnet, tmp_path: Path) -> None:
    outcome, said = await played(devnet, tmp_path, posted(mad=True))
    assert not outcome.report.holds
    assert len(outcome.report.board.false) == 1
    assert "BROKEN" in said
    assert (await recomputed(devnet, json.loads(outcome.labels.read_text())))["false"] == 1


async def test_a_watcher_that_sleeps_breaks_the_promise_of_rate_one(devnet: EmbeddedDevnet, tmp_path: Path) -> None:
    outcome, _ = await played(devnet, tmp_path, posted(lambda _job: False))
    assert any("not drawn" in line for line in outcome.report.broken)


def test_the_folder_is_new_and_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.make(None).path == tmp_path / "challenger-demo"
    assert files.make(None).path == tmp_path / "challenger-demo-2"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"not empty: name another with --out \(folder=mine\)"):
        files.make(Path("mine"))
    with pytest.raises(ConfigError, match="cannot be made"):
        files.make(Path("mine/thesis.txt/below"))


async def test_the_settings_file_is_what_the_watcher_ran_on(devnet: EmbeddedDevnet, tmp_path: Path) -> None:
    outcome, _ = await played(devnet, tmp_path, posted(), rate=0.25)
    made = files.Folder(tmp_path / "out")
    settings = load(made.config, {})
    assert settings.sampling.base == settings.sampling.newcomer == 250_000
    assert settings.chain.embedded
    assert made.config.with_name("watcher.key").stat().st_mode & 0o077 == 0
    assert outcome.labels.parent == made.path


def test_the_table_fits_eighty_columns() -> None:
    rows = [screen.Row("willow", "input truncated", 100, 100, 50, 50, 10, 10, 50, 50)]
    shown = console()
    shown.print(screen.table(rows))
    heading, row = text_of(shown).rstrip().splitlines()
    assert "accused" in heading
    assert "input truncated" in row


def test_the_live_screen_shows_phase_and_table() -> None:
    shown = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with screen.LiveScreen(shown) as seen:
        seen.phase("work", "providers answer")
        seen.note("pause: somebody looks")
        seen.show(screen.Frame(7, 84, [screen.Row("alder", "honest", 1, 1, 1, 0, 0, 0, 0, 0)]))
    text = text_of(shown)
    assert "providers answer" in text
    assert "somebody looks" in text
    assert "1 min 24 s" in text
    assert "alder" in text


@pytest.mark.parametrize("bad", [["--rate", "2"], ["--tasks", "0"], ["--rate", "often"]])
def test_options_that_make_no_sense_are_usage_errors(bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", *bad])
    assert stopped.value.code == 2
    assert "from 0 to 1" in capsys.readouterr().err or "--tasks" in bad


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("challenger.cli.demo._NEEDED", ("sklearn", "no_such_package_here"))
    assert main(["demo"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install '.[demo]'" in said
    assert "no_such_package_here" in said


async def test_its_chain_can_be_recorded_at_the_end(devnet: EmbeddedDevnet, tmp_path: Path) -> None:
    path = tmp_path / "demo.tar"

    async def recorded(settings: Settings) -> None:
        found = await record_range(settings, Range(data=False), path, rpc=devnet.rpc)
        assert found.commitments == FEW.tasks

    await played(devnet, tmp_path, posted(), afterwards=recorded)
    with open_recording(path) as recording:
        events = [event for _, found in history(recording) for event in found]
    assert sum(isinstance(event, Committed) for event in events) == FEW.tasks
    assert any(isinstance(event, DisputeClosed) for event in events)
