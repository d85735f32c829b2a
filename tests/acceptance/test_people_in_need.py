"""What a person says in an outage: the commands that stop filing, or let it go on, hang on no single endpoint."""

from __future__ import annotations

import asyncio
import json

from challenger.cli import main
from challenger.domain import UnixTime
from challenger.settings import load
from challenger.store.engine import open_store
from challenger.store.keep import EVERYTHING
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


async def test_resume_names_each_pause_that_it_lifts_and_each_that_stays(tmp_path, capsys):
    async with place(tmp_path) as p:
        path = p.settings_file()

        async def paused() -> None:
            async with open_store(load(path, {}).store.url) as store, store.begin(UnixTime(1_700_000_000)) as unit:
                await unit.approvals.pause("person", EVERYTHING, "by ada: upgrade")
                await unit.approvals.pause("correlated", MODEL, "2 providers accused")

        async def said(*words: str) -> str:
            assert await asyncio.to_thread(main, ["resume", *words, "-c", str(path)]) == 0
            return capsys.readouterr().out

        await paused()
        out = await said()
        assert "Lifted 2 pauses." in out
        assert "person, all filing: by ada: upgrade (since 2023-11-14 22:13:20 UTC)" in out
        assert f"correlated, model {MODEL}: 2 providers accused (since 2023-11-14 22:13:20 UTC)" in out
        assert "still" not in out
        await paused()
        out = await said(EVERYTHING)  # only what a person stopped: the accusations are still to be looked at
        assert "Lifted 1 pause." in out
        before, _, after = out.partition("Still paused:")
        assert "by ada: upgrade" in before
        assert "2 providers accused" not in before
        assert f"correlated, model {MODEL}: 2 providers accused" in after
        told = json.loads(await said(MODEL, "--json"))
        assert (told["lifted"], told["still_in_force"]) == (1, [])
        (one,) = told["pauses"]
        assert (one["reason"], one["subject"], one["detail"], one["opened_at"]) == (
            "correlated", MODEL, "2 providers accused", 1_700_000_000,
        )  # fmt: skip


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
