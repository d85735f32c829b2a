"""Track records: what is counted, and what is said of it."""

from __future__ import annotations

import asyncio
import json

from challenger.audit.records import FATES, track_records
from challenger.cli import main
from challenger.domain import ONE, Address, Millionths, ModelId, State, VerdictKind
from challenger.store.records import Tally
from tests.recording import written
from tests.recording.test_chain_replay import HereWorkers, replayed

ONE_OF_THEM, ANOTHER = Address("0x" + "01" * 20), Address("0x" + "02" * 20)
MODEL, OTHER = ModelId(b"m" * 32), ModelId(b"n" * 32)
BASE = Millionths(50_000)
K = VerdictKind


def tally(
    answers, verdict=None, *, drawn=True, base=True, closed=True, confirmed=False, state=State.FINALISED, model=MODEL
):
    return Tally(ONE_OF_THEM, model, state, closed, drawn, base, verdict, confirmed, answers)


def test_whatever_was_drawn_and_not_found_valid_is_bad() -> None:
    rows = [
        tally(400, K.VALID),
        tally(1, K.FRAUD, confirmed=True),
        tally(2, K.FRAUD),
        tally(3, K.UNAVAILABLE),
        tally(4, K.INCONCLUSIVE),
        tally(5, None, state=State.SHED),
        tally(6, None),
        tally(7_000, drawn=False, base=False),
    ]
    (record,) = track_records(rows, BASE)
    assert dict(record.fates) == dict(zip(FATES, (400, 1, 3, 6, 5, 0, 6), strict=True))
    assert (record.answers, record.sampled, record.closed) == (7_421, 421, 7_421)
    assert (record.looked, record.bad) == (421, 21)
    assert record.most > 7_421 * 21 // 421


def test_what_the_policy_added_and_what_is_open_does_not_count_in_the_bound() -> None:
    rows = [
        tally(412, K.VALID),
        tally(7_828, drawn=False, base=False),
        tally(5, K.FRAUD, base=False, confirmed=True),
        tally(9, K.VALID, closed=False),
        tally(2, None, closed=False),
        tally(3, None, drawn=None, base=False),
    ]
    (record,) = track_records(rows, BASE)
    assert (record.closed, record.looked, record.bad) == (8_245, 412, 0)
    assert (record.fates["open"], record.fates["fraud"], record.fates["valid"]) == (2, 5, 421)
    assert record.sentence() == (
        "0 of 412 drawn not found right: at most 0.776 % of 8245 answers, at one-sided 95 %, whenever one looks"
    )


def test_nothing_is_said_of_what_nobody_could_see() -> None:
    (early,) = track_records([tally(3, K.VALID, closed=False)], BASE)
    assert early.sentence() == "no answer's window is over yet"
    (unseen,) = track_records([tally(3, drawn=False, base=False)], BASE)
    assert (unseen.most, unseen.sentence()) == (
        3,
        "none of 3 answers was drawn at the base rate: nothing can be said of them",
    )


def test_each_model_has_its_own_where_there_are_several() -> None:
    rows = [tally(5, K.VALID), tally(3, K.FRAUD, confirmed=True, model=OTHER)]
    records = track_records(rows, ONE)
    assert [(record.model, record.answers, record.most) for record in records] == [
        (None, 8, 3),
        (MODEL, 5, 0),
        (OTHER, 3, 3),
    ]


async def test_the_command_over_a_watchers_database(tmp_path, monkeypatch, capsys) -> None:
    """Five providers; every tenth answer is wrong, so one of the five gave all four frauds of forty."""
    jobs = written.write(tmp_path / "chain.tar", tmp_path / "model", 40, cheat=10, providers=5, tail=320)
    cheats = {"0x" + job.provider.hex() for job in jobs if not job.honest}
    monkeypatch.chdir(tmp_path)
    assert await asyncio.to_thread(main, ["providers"]) == 1
    assert "there is no such file" in capsys.readouterr().err
    async with replayed(
        tmp_path / "chain.tar", tmp_path / "a", HereWorkers(), database="sqlite:///all.sqlite"
    ) as watch:
        await watch.play()
    monkeypatch.setenv("CHALLENGER_STORE_URL", "sqlite:///all.sqlite")
    assert await asyncio.to_thread(main, ["providers", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["base_rate_millionths"] == ONE
    assert {one["provider"] for one in told["providers"]} == {"0x" + job.provider.hex() for job in jobs}
    for one in told["providers"]:
        frauds = 4 if one["provider"] in cheats else 0
        assert (one["answers"], one["sampled"], one["valid"], one["fraud"], one["bad_at_most"]) == (
            8,
            8,
            8 - frauds,
            frauds,
            frauds,
        )
        assert one["commit_seconds"]["answers"] == 8
        assert (one["commit_seconds"]["median"], one["commit_seconds"]["p95"]) == (0, 0), "in one block"
        assert one["judged_seconds"]["answers"] == 8
        assert sum(period["answers"] for period in one["periods"]) == 8
        assert one["change"] is None
    assert await asyncio.to_thread(main, ["providers", "--by", "day", "--json"]) == 0
    days = json.loads(capsys.readouterr().out)
    assert (days["by"], {one["periods"][0]["start"] % 86_400 for one in days["providers"]}) == ("day", {0})
    assert await asyncio.to_thread(main, ["providers"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "4 of 8 drawn not found right: at most 50 % of 8 answers" in out
    (cheat,) = cheats
    assert await asyncio.to_thread(main, ["providers", cheat]) == 0
    out = capsys.readouterr().out
    assert "│ all" in out
    assert "By week of commitment, the last 1 of 1" in out
    assert "one week alone was looked at: no change can be told" in out
    assert max(map(len, (line for line in out.splitlines() if line.startswith(("│", "┃"))))) <= 100
    assert await asyncio.to_thread(main, ["providers", "0x" + "99" * 20]) == 0
    assert capsys.readouterr().out == "No answer of theirs is in the index.\n"
