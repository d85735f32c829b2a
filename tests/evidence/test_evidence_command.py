"""`challenger evidence` over bundles of a real watcher's life."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from lives import checked, failing, life

from challenger.cli import main
from challenger.domain import Hash32
from challenger.errors import BundleRefused
from challenger.evidence.seal import decode, encode
from challenger.sim.scoreboard import Truth


async def test_the_command_verifies_shows_and_refuses(tmp_path, capsys):
    async with life(tmp_path) as one:
        job = one.job(Truth.WRONG)
        raw = await one.bundle(job)
    file = tmp_path / "evidence.json"
    file.write_bytes(raw)
    assert await _main("evidence", "verify", str(file)) == 1, "it holds, and was not reproduced"
    said = capsys.readouterr().out
    assert "not run: the bundle does not hold the model" in said
    assert "nothing in the bundle speaks against it, and it was NOT reproduced here" in said
    assert await _main("evidence", "show", str(file)) == 0
    assert "0x" + job.hex() in capsys.readouterr().out
    assert await _main("evidence", "show", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "FRAUD"
    assert await _main("evidence", "verify", str(file), "--model", str(tmp_path)) == 2
    assert "--model must be a folder with a manifest.json" in capsys.readouterr().err
    file.write_bytes(raw.replace(b"FRAUD", b"VALID", 1))
    assert await _main("evidence", "verify", str(file)) == 1
    assert "its digest is not that of its body" in capsys.readouterr().err
    assert await _main("evidence", "verify", str(tmp_path / "away.json")) == 1
    assert "No such file" in capsys.readouterr().err


async def _main(*words: str) -> int:
    return await asyncio.to_thread(main, list(words))


async def test_what_a_bundle_says_is_never_a_terminals_command(tmp_path, capsys):
    async with life(tmp_path) as one:
        evidence = decode(await one.bundle(one.job(Truth.WRONG))).evidence
    said = evidence.of(evidence.verdict)
    evil = said._replace(detail="\x1b[2J\x1b[HFRAUD output: reproduced here, bit for bit.")
    others = tuple(row for row in evidence.verdicts if row.id != said.id)
    file = tmp_path / "evil.json"
    file.write_bytes(encode(replace(evidence, verdicts=(*others, evil)), None))
    for word in ("verify", "show"):
        await _main("evidence", word, str(file))
        assert "\x1b" not in capsys.readouterr().out
    with pytest.raises(BundleRefused, match="is no verdict"):
        decode(encode(replace(evidence, verdicts=(*others, said._replace(kind="PROVEN FRAUD"))), None))
    for wrong in (
        replace(evidence, input=evidence.input._replace(root=Hash32(bytes(32)))),
        replace(evidence, output=evidence.output._replace(root=Hash32(bytes(32)))),
        replace(evidence, observed=evidence.observed._replace(state_root=Hash32(bytes(32)))),
    ):
        assert failing(await checked(encode(wrong, None)))


async def test_another_market_than_one_insists_on_is_refused(tmp_path, capsys):
    async with life(tmp_path) as one:
        raw = await one.bundle(one.job(Truth.WRONG))
    (tmp_path / "e.json").write_bytes(raw)
    market = decode(raw).evidence.market
    await _main("evidence", "verify", str(tmp_path / "e.json"), "--market", market)
    assert "market       DOES NOT HOLD" not in capsys.readouterr().out
    assert await _main("evidence", "verify", str(tmp_path / "e.json"), "--market", "0x" + "11" * 20) == 1
    assert "market       DOES NOT HOLD" in capsys.readouterr().out
