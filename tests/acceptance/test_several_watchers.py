"""One process, several watchers: each with its own chain, settings and record."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from challenger.chain.devnet.served import ServedDevnet
from challenger.cli.run import apart
from challenger.errors import ConfigError
from challenger.settings import build
from challenger.sim.deploy import MarketParams, deploy
from challenger.sim.wallet import Wallet
from challenger.store import migrate
from tests.acceptance.test_two_watchers import PATIENCE, Watcher


def write(folder: Path, url: str, market: str, chain: int = 31337) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{folder.name}.toml"
    file.write_text(
        f'[chain]\nrpc = ["{url}"]\nchain_id = {chain}\nmarket = "{market}"\nembedded = true\npoll = 0.1\n'
        f'[store]\nurl = "sqlite:///{folder}/w.sqlite"\nheads = "{folder}/heads.jsonl"\nevidence = "{folder}/evidence"\n'
        f'[replay]\ncache = "{folder}/cache"\n'
    )
    return file


@asynccontextmanager
async def chains(folder: Path, *, second_chain: int = 31337):
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        files = []
        for name, chain in (("one", 31337), ("two", second_chain)):
            served = await stack.enter_async_context(ServedDevnet())
            accounts = served.devnet.accounts
            wallet = Wallet(served.devnet.rpc, accounts[0].key, "deployer")
            where = await deploy(served.devnet.rpc, wallet, [accounts[1].address], MarketParams(quorum=1))
            files.append(write(folder / name, served.url, where.market, chain))
            await migrate.upgrade(f"sqlite:///{folder / name}/w.sqlite")
        command = (sys.executable, "-m", "challenger", "run", "-c", str(files[0]), "--also", str(files[1]))
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        watcher = Watcher(process)
        try:
            yield watcher
        finally:
            await watcher.end()


async def test_both_watch_and_both_stop(tmp_path):
    async with chains(tmp_path) as watcher:
        await watcher.says("watcher=one/reference/31337")
        for name in ("one", "two"):
            await started(watcher, name)
        watcher.process.send_signal(signal.SIGTERM)
        assert await watcher.process.wait() == 0
        stopped = [line for line in watcher.said if "action=stopped" in line]
        assert len(stopped) == 2


async def test_one_that_cannot_start_takes_no_other_with_it(tmp_path):
    async with chains(tmp_path, second_chain=5) as watcher:
        await watcher.says("action=watcher-ended watcher=two/reference/5")
        await started(watcher, "one")
        watcher.process.send_signal(signal.SIGTERM)
        assert await watcher.process.wait() == 1
        (ended,) = [line for line in watcher.said if "action=watcher-ended" in line]
        assert "another chain" in ended


async def started(watcher: Watcher, name: str) -> None:
    await watcher.says(f"action=started watcher={name}/")


@pytest.mark.parametrize(
    ("what", "mine", "other"),
    [
        ("[store] url", {"store": {"url": "sqlite:///a"}}, {"store": {"url": "sqlite:///a", "heads": "b"}}),
        ("[store] heads", {"store": {"url": "sqlite:///a"}}, {"store": {"url": "sqlite:///b"}}),
        (
            "[telemetry] metrics",
            {"store": {"url": "sqlite:///a", "heads": "a"}, "telemetry": {"metrics": "127.0.0.1:9000"}},
            {"store": {"url": "sqlite:///b", "heads": "b"}, "telemetry": {"metrics": "127.0.0.1:9000"}},
        ),
    ],
)
def test_what_two_watchers_may_not_share_is_named(what, mine, other):
    with pytest.raises(ConfigError) as caught:
        apart([build(mine, {}, "-"), build(other, {}, "-")])
    assert f"the same {what}" in str(caught.value)
    apart([build(mine, {}, "-")])
