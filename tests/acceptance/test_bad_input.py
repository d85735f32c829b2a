"""Rubbish from outside, through the command line: one clear line each, an exit code, nothing lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from challenger.chain.devnet.served import ServedDevnet
from challenger.sim.deploy import MarketParams, deploy
from challenger.sim.wallet import Wallet

FRESH = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/tmp")}


def challenger(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "challenger", *argv]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=FRESH | env, cwd=Path(__file__).parents[2], check=False
    )


def one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0], lines[0]


def config(folder: Path, **changes: str) -> str:
    values = {
        "rpc": '["http://127.0.0.1:1"]',
        "chain_id": "31337",
        "market": f'"0x{"11" * 20}"',
        "url": f'"sqlite:///{folder}/x.sqlite"',
    } | changes
    path = folder / "c.toml"
    path.write_text(
        f"[chain]\nrpc = {values['rpc']}\nchain_id = {values['chain_id']}\nmarket = {values['market']}\n"
        f'[store]\nurl = {values["url"]}\n[replay]\ncache = "{folder}/cache"\n'
    )
    return str(path)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_an_unreachable_endpoint(tmp_path, closed_port):
    path = config(tmp_path, rpc=f'["http://user:hush@127.0.0.1:{closed_port}/v3/secretkey"]')
    done = challenger("run", "-c", path)
    one_line(done, 1, "cannot connect", str(closed_port))
    assert "hush" not in done.stderr
    assert "secretkey" not in done.stderr


def test_a_configuration_that_cannot_be_read(tmp_path):
    one_line(challenger("run", "-c", str(tmp_path / "none.toml")), 2, "no such file", "challenger init")
    bad = tmp_path / "bad.toml"
    bad.write_text("rpc = [")
    one_line(challenger("status", "-c", str(bad)), 2, "is not TOML")
    one_line(challenger("run", "-c", config(tmp_path, chain_id="0")), 2, "chain_id is missing")


def test_a_database_that_is_none(tmp_path):
    path = config(tmp_path)
    one_line(challenger("status", "-c", path), 1, "challenger db upgrade")
    (tmp_path / "x.sqlite").write_bytes(b"this is no database" * 100)
    one_line(challenger("status", "-c", path), 1, "not an SQLite database")
    one_line(challenger("status", "-c", config(tmp_path, url='"mysql://x"')), 2, "only SQLite and PostgreSQL")


def test_a_key_that_is_none(tmp_path):
    key = tmp_path / "key"
    key.write_text("not a key")
    key.chmod(0o600)
    done = challenger("check", "-c", config(tmp_path), "--no-replay", CHALLENGER_SIGNER_KEY_FILE=str(key))
    assert done.returncode == 1
    assert "64 hex digits" in "".join(done.stdout.split("│")).replace("\n", " ") or "hex" in done.stdout
    assert "not a key" not in done.stdout + done.stderr


@pytest.mark.slow
async def test_another_chain_and_another_contract(tmp_path):
    import asyncio

    async with ServedDevnet() as served:
        wrong = config(tmp_path, rpc=f'["{served.url}"]', chain_id="5")
        one_line(
            await asyncio.to_thread(challenger, "run", "-c", wrong), 2, "another chain", "wanted=5", "served=31337"
        )
        path = config(tmp_path, rpc=f'["{served.url}"]')
        one_line(await asyncio.to_thread(challenger, "run", "-c", path), 2, "there is no contract")
        accounts = served.devnet.accounts
        wallet = Wallet(served.devnet.rpc, accounts[0].key, "deployer")
        where = await deploy(served.devnet.rpc, wallet, [accounts[1].address], MarketParams(quorum=1))
        path = config(tmp_path, rpc=f'["{served.url}"]', market=f'"{where.adjudicator}"')
        one_line(await asyncio.to_thread(challenger, "run", "-c", path), 2, "is not InferenceMarket")
        path = config(tmp_path, rpc=f'["{served.url}"]', market=f'"{where.market}"')
        one_line(await asyncio.to_thread(challenger, "run", "-c", path), 1, "challenger db upgrade")
        done = await asyncio.to_thread(challenger, "db", "upgrade", "-c", path)
        assert done.returncode == 0, done.stderr
        done = await asyncio.to_thread(challenger, "check", "-c", path, "--no-replay")
        assert done.returncode == 0, done.stdout
