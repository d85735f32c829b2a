"""What a person says in an outage: the commands that stop filing, or let it go on, hang on no single endpoint."""

from __future__ import annotations

import asyncio

from challenger.cli import main
from challenger.domain import UnixTime
from challenger.settings import load
from challenger.store.engine import open_store
from tests.acceptance.test_check import MODEL, place

DEAD = "http://127.0.0.1:1"


async def pauses(path) -> list:
    async with open_store(load(path, {}).store.url) as store, store.read() as view:
        return await view.approvals.active()


async def test_filing_is_paused_and_resumed_while_no_endpoint_answers(tmp_path, capsys):
    async with place(tmp_path) as p:
        p.values["rpc"] = f'["{DEAD}"]'
        path = p.settings_file()
        assert await asyncio.to_thread(main, ["pause", "--reason", "outage", "-c", str(path)]) == 0
        assert [pause.detail.partition(": ")[2] for pause in await pauses(path)] == ["outage"]
        capsys.readouterr()
        assert await asyncio.to_thread(main, ["pause", "--reason", "another", "-c", str(path)]) == 0
        told = capsys.readouterr().out
        assert "paused already" in told, "a reason that is not taken is not passed over in silence"
        assert "outage" in told
        assert await asyncio.to_thread(main, ["resume", "-c", str(path)]) == 0
        assert await pauses(path) == []
        assert "Lifted 1 pause." in capsys.readouterr().out


async def test_a_dead_endpoint_before_one_that_answers_is_passed_over(tmp_path, capsys):
    async with place(tmp_path) as p:
        p.values["rpc"] = f'["{DEAD}", "{p.served.url}"]'
        path = p.settings_file()
        async with open_store(load(path, {}).store.url) as store, store.begin(UnixTime(1)) as unit:
            await unit.approvals.pause("correlated", MODEL, "two providers")
        assert await asyncio.to_thread(main, ["resume", MODEL, "-c", str(path)]) == 0
        async with open_store(load(path, {}).store.url) as store, store.read() as view:
            (pause,) = await view.approvals.all()
        head = await p.served.devnet.rpc.block("latest")
        assert pause.resumed_at == head.time, "chain time, as that endpoint has it"
        for command in (["approvals"], ["audit", "sampling"]):
            assert await asyncio.to_thread(main, [*command, "-c", str(path)]) == 0
        p.values["rpc"] = f'["{DEAD}"]'
        assert await asyncio.to_thread(main, ["approvals", "-c", str(p.settings_file())]) == 1
        assert "none answers" in capsys.readouterr().err
