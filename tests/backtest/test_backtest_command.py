"""`challenger backtest` as a person runs it."""

from __future__ import annotations

import asyncio
import json
import sys
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from challenger.cli import main
from tests.recording import written
from tests.recording.test_chain_replay import HereWorkers, replayed


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    written.write(folder / "chain.tar", folder / "model", 40, tail=320)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """An empty folder without settings, and with no key anywhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.png").mkdir()
    (tmp_path / "chain.tar").symlink_to(made / "chain.tar")
    return tmp_path


def backtest(*argv: str) -> int:
    return main(["backtest", "--recording", "chain.tar", "--draws", "3", *argv])


def test_a_table_and_a_bar_for_each_policy(here, capsys) -> None:
    assert (
        backtest("--policy", "half:base=500000", "--policy", "rich:sampling.base=1000000,correlated_providers=99") == 0
    )
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "recording chain.tar, blocks 10 to 340: 40 commitments"
    assert lines[1].startswith("4 wrong, 0 withheld, 0 right, 36 unknown")
    for word in ("current", "half", "rich", "caught, of 4 frauds", "deadlines missed", "won, ether", "least slack"):
        assert word in out
    assert max(map(len, lines)) <= 80
    assert "rich                 " + "█" * 40 in lines


def test_the_same_words_give_the_same_numbers_and_other_seeds_others(here, capsys) -> None:
    told = []
    for seed in ("a", "a", "b"):
        assert backtest("--json", "--seed", seed) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1] != told[2]
    assert [policy["name"] for policy in told[0]["policies"]] == ["current", "everything", "least"]
    everything = told[0]["policies"][1]
    assert everything["drawn"] == {"mean": 40.0, "low": 40, "high": 40}
    assert everything["undrawn"]["high"] == 0
    assert told[0]["truth"] == {"right": 0, "wrong": 4, "withheld": 0, "unknown": 36}
    assert told[0]["assumed"] == {"gas_price": 20 * 10**9, "approval": 900, "ruling": 3_600}


def test_figures(here, capsys) -> None:
    for name in ("a.png", "a.svg", "b.svg"):
        assert backtest("--plot", name) == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()
    texts = {node.text for node in ET.parse("a.svg").iter("{http://www.w3.org/2000/svg}text")}
    assert {"current", "everything", "least", "caught", "undrawn", "won"} <= {text.strip() for text in texts if text}
    assert sorted(path.name for path in here.iterdir()) == ["a.png", "a.svg", "b.svg", "chain.tar", "d.png"]
    capsys.readouterr()


def digest(name: str) -> bytes:
    return sha256(Path(name).read_bytes()).digest()


async def test_a_database_is_read_and_not_touched(here, capsys, monkeypatch) -> None:
    async with replayed(Path("chain.tar"), here / "a", HereWorkers(), database="sqlite:///all.sqlite") as watch:
        await watch.play()
    monkeypatch.setenv("CHALLENGER_STORE_URL", "sqlite:///all.sqlite")
    before = digest("all.sqlite")
    assert await asyncio.to_thread(main, ["backtest", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["truth"]["wrong"] == 4
    assert told["truth"]["right"] > 0
    assert digest("all.sqlite") == before


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--policy", "base=5"], 2, "a policy is NAME:key=value"),
        (["--policy", "a:based=5"], 2, "a policy changes one of base, newcomer"),
        (["--policy", "a:replay.base=5"], 2, "a policy changes one of"),
        (["--policy", "a:base"], 2, "a policy changes one of"),
        (["--policy", "a:base=many"], 2, "[sampling] base must be an integer"),
        (["--policy", "a:base=2000000"], 2, "base must be 0 to 1000000"),
        (["--policy", "a:workers=0"], 2, "[replay] workers must be 1 to 64"),
        (["--policy", "a:base=1", "--policy", "a:base=2"], 2, "two policies of one name"),
        (["--policy", "no.toml"], 2, "no such file"),
        (["--policy", "a:base=1,base=2"], 2, "a policy names a key twice"),
        (["--policy", "a\x1b[1m:base=1"], 2, "a policy is NAME:key=value"),
        (["--policy", "a:base=-1"], 2, "policy a:"),
        (["--plot", "."], 2, "a figure is a file named"),
        (["--plot", "d.png"], 2, "there is a folder of this name"),
        (["--from", "1000"], 2, "there is nothing in this range (first=1000, last=340, known=10 to 340)"),
        (["--plot", "a.jpg"], 2, "a figure is a file named"),
        (["--plot", "no/a.png"], 2, "there is no such folder"),
        (["--from", "20", "--to", "10"], 2, "the first block comes after the last"),
    ],
)
def test_rubbish_is_one_line(here, capsys, argv, code, said) -> None:
    assert backtest(*argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--recording", "no.tar"], 1, "no.tar"),
        ([], 1, "there is no such file"),
        (["--chain"], 2, "[chain] market is missing"),
    ],
)
def test_no_source_is_one_line(here, capsys, argv, code, said) -> None:
    assert main(["backtest", *argv]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1
    assert not Path("challenger.sqlite").exists()


def test_without_matplotlib_it_says_what_to_install(here, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert backtest("--plot", "a.png") == 2
    assert "pip install 'inference-challenger[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["--draws", "0"],
        ["--to", "9" * 40],
        ["--approval-seconds", "9" * 401],
        ["--gas-gwei", "nan"],
        ["--replay-seconds", "-1"],
        ["--ours", "me"],
    ],
)
def test_usage(here, capsys, argv) -> None:
    with pytest.raises(SystemExit) as left:
        backtest(*argv)
    assert left.value.code == 2
    assert argv[0] in capsys.readouterr().err
