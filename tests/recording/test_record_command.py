"""`challenger record` against a served chain, and what `challenger replay` makes of the file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from challenger.chain.devnet.served import ServedDevnet
from challenger.sim import files
from challenger.sim.scenario import Knobs, plan
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyBench, kits
from challenger.sim.world import World
from tests.recording import written


@asynccontextmanager
async def served_world(folder: Path):
    async with ServedDevnet(count=20) as served:
        made = files.make(folder / "out")
        world = await World.open(
            served.devnet, made.path, plan(Knobs(tasks=6, round_size=6, seed=3)), kits(), ToyBench()
        )
        await world.play()
        for _ in range(2):
            await world.blocks.tick()
        key = folder / "no-such-key"
        where = world.deployment
        config = folder / "c.toml"
        config.write_text(
            f'[chain]\nrpc = ["{served.url}"]\nchain_id = 31337\nmarket = "{where.market}"\nanchor = "{where.anchor}"\n'
            f'start_block = {where.start_block}\nconfirmations = 1\n[signer]\nkey_file = "{key}"\n'
            f'[replay]\ncache = "{folder}/cache"\nroots = ["{folder}"]\n'
        )
        try:
            yield world, config
        finally:
            await world.close()


async def challenger(*argv: str) -> tuple[int, str, str]:
    """Code, output and errors of the command in a process of its own: the chain lives in this one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "challenger", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.slow
async def test_recorded_without_a_key_and_replayed_without_the_chain(tmp_path) -> None:
    recording = str(tmp_path / "world.tar")
    async with served_world(tmp_path) as (world, config):
        code, out, err = await challenger("record", "-c", str(config), "-o", recording, "--json")
        assert (code, err) == (0, "")
        told = json.loads(out)
        labels = world.labels
        assert told["commitments"] == len(labels)
        assert told["away"] == sum(label.truth is Truth.WITHHELD for label in labels)
        assert all("model" in line for line in told["left_out"]), "the toy models have no files"
        code, _, err = await challenger("record", "-c", str(config), "-o", recording)
        assert (code, err.count("\n")) == (1, 1)
        assert "is there already" in err
        for wrong in (("--from", "900000"), ("--from", "-1"), ("--from", "20", "--to", "10")):
            code, _, err = await challenger("record", "-c", str(config), "-o", str(tmp_path / "x.tar"), *wrong)
            assert code == 2
            assert "Traceback" not in err
    code, out, err = await challenger("replay", recording, "--json", "-c", str(config))
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["commitments"] == len(labels)
    assert set(found["verdicts"]) <= {"INCONCLUSIVE"}, "without its files no model is run"


@pytest.mark.parametrize("wrong", [("--every", "0"), ("--replay-seconds", "nan"), ("--every", "x"), ()])
async def test_rubbish_is_refused(tmp_path, wrong) -> None:
    code, _, err = await challenger("replay", *wrong, *([str(tmp_path)] if wrong else []))
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_a_replay_that_is_ended_leaves_nothing_behind(tmp_path, name) -> None:
    written.write(tmp_path / "chain.tar", tmp_path / "model", 2_000, tail=320)
    before = sorted(tmp_path.iterdir())
    command = ("replay", str(tmp_path / "chain.tar"), "--fresh", "--database", f"sqlite:///{tmp_path / 'kept.sqlite'}")
    environment = os.environ | {"CHALLENGER_REPLAY_CACHE": str(tmp_path / "model"), "TMPDIR": str(tmp_path / "model")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "challenger", *command),
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        # what was started in a shell's background ignores SIGINT, and so would whatever it starts
        preexec_fn=lambda: signal.signal(name, signal.SIG_DFL),
    )
    async with asyncio.timeout(60):
        while not (tmp_path / "kept.sqlite-wal").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        process.send_signal(name)
        _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (130, "challenger: interrupted\n")
    assert sorted(tmp_path.iterdir()) == before
