"""The whole watcher on a real EVM with a toy model: what is filed, what is not, and what the record says of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest

from challenger.app import App, opened
from challenger.audit.journal import Recovered
from challenger.audit.sampling import audit_epoch
from challenger.chain.abi import signature
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.hashing import keccak
from challenger.chain.rpc import Rpc
from challenger.cli import main
from challenger.contracts import artifact
from challenger.domain import Action, DemandId, Mode, Part, State, UnixTime, VerdictKind
from challenger.errors import Expected, HeldElsewhere, StoreError, TakenOver
from challenger.protocols.reference_calls import MarketCalls
from challenger.settings import load
from challenger.sim import files
from challenger.sim.history import whole
from challenger.sim.scenario import CHEATS, Kind, Knobs, plan
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyBench, ToyFiles, ToyWorkers, kits
from challenger.sim.wallet import Wallet
from challenger.sim.world import WATCHER, World
from challenger.store import migrate, open_store
from challenger.store.engine import create_engine
from challenger.store.heads import FilePublisher, verify
from challenger.store.inline import passing


class Scene:
    """A small world, its settings, and a watcher on it that may be stopped and started again."""

    def __init__(self, devnet, folder, world, settings) -> None:
        self.devnet = devnet
        self.folder = folder
        self.world = world
        self.settings = settings
        self.workers = ToyWorkers()

    @asynccontextmanager
    async def watcher(self, stop=None, engine=passing, **filing):
        """``engine``: by default SQLite in the loop's own turn, which is a third cheaper than a thread of its own, and is not
        for a test in which another writes to the same file meanwhile: each would wait for the other."""
        settings = replace(self.settings, filing=replace(self.settings.filing, **filing))
        given = {"rpc": self.devnet.rpc, "files": ToyFiles(), "workers": self.workers}
        async with opened(settings, **given, stop=stop, engine=engine) as app:
            yield app

    async def turn(self, app: App, *, people: bool = True) -> bool:
        moved = await app.step()
        await app.gather()
        moved |= await app.investigate()
        moved |= await app.step()
        if people:
            moved |= await self.world.step()
        await self.world.blocks.tick()
        return moved

    async def until_quiet(self, app: App, **how) -> None:
        idle = 0
        for _ in range(150):
            idle = 0 if await self.turn(app, **how) else idle + 1
            if idle == 6:
                return
        raise AssertionError("the watcher never comes to rest")

    async def events(self) -> list:
        where = self.world.deployment
        return (await whole(self.devnet.rpc, (where.market, where.adjudicator), where.start_block)).events

    async def accused(self) -> Counter:
        return Counter(e.args["job"] for e in await self.events() if e.name == "Challenged")

    def jobs(self, truth: Truth) -> set[bytes]:
        return {label.job for label in self.world.labels if label.truth is truth}

    async def states(self, app: App) -> Counter:
        async with app.store.read() as view:
            return Counter(await view.work.counts())


@asynccontextmanager
async def scene(folder, **knobs):
    async with AsyncExitStack() as stack:
        devnet = await stack.enter_async_context(EmbeddedDevnet(count=20))
        scenario = plan(Knobs(**({"tasks": 10, "round_size": 10, "cheating": 100} | knobs)))
        made = files.make(folder / "out")
        world = await World.open(devnet, made.path, scenario, kits(), ToyBench())
        stack.push_async_callback(world.close)
        settings = made.write_config(world.deployment, devnet.accounts[WATCHER].key, 1.0)
        settings = replace(settings, replay=replace(settings.replay, retry_seconds=12))
        await migrate.upgrade(settings.store.url)
        yield Scene(devnet, made, world, settings)


async def test_every_kind_of_fraud_is_caught_and_nobody_else_is_accused(tmp_path):
    async with scene(tmp_path, seed=3) as s, s.watcher(correlated_providers=100, engine=create_engine) as app:
        await s.until_quiet(app)
        await s.world.play()
        await s.until_quiet(app)
        deadline = s.world.last_demand()
        assert deadline is not None, "withheld data is demanded"
        await s.world.blocks.travel(deadline)
        await s.until_quiet(app)
        assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
        states = await s.states(app)
        assert states[State.WITHDRAWN] == len(s.jobs(Truth.WRONG)) + len(s.jobs(Truth.WITHHELD)) == len(CHEATS)
        assert states[State.REPLAYED] == 4
        while (end := s.world.last_window()) is not None:
            await s.world.blocks.travel(end)
            await s.world.finish()
            await s.until_quiet(app)
        assert (await s.states(app))[State.FINALISED] == 4
        fresh = s.workers.asked.count(("numpy", True))
        assert fresh == len(s.jobs(Truth.WRONG)) + 3, "confirmed in fresh processes, one known answer a model"
        assert all(fresh == (backend == "numpy") or not fresh for backend, fresh in s.workers.asked)
        async with app.store.read() as view:
            rows = [e for e in await view.epochs.all() if e.revealed_at is not None]
            reports = [await audit_epoch(view, e, s.world.deployment.anchor, s.devnet.rpc, app.adapter) for e in rows]
        assert sum(report.commitments for report in reports) == 10
        assert all(report.holds for report in reports), [report.findings for report in reports]
        assert any(report.anchored and report.commitments and not report.before_anchor for report in reports)
        await app.publish((await s.devnet.rpc.block("latest")).time)
        verifier = Recovered()
        heads = await FilePublisher(s.settings.store.heads).published()
        journal = await verify(app.store, heads, verifier)
        assert journal.broken is None
        assert journal.bound == journal.entries > 0
        assert verifier.signers == {s.devnet.accounts[WATCHER].address}


@pytest.mark.parametrize("mode", [Mode.WATCH, Mode.DRY_RUN])
async def test_what_is_not_live_sends_nothing(tmp_path, mode):
    seen = tuple(kind for kind in CHEATS if kind is not Kind.WITHHOLD)
    async with scene(tmp_path, cheats=seen) as s, s.watcher(mode=mode, correlated_providers=100) as app:
        await s.world.play()
        await s.until_quiet(app)
        account = s.devnet.accounts[WATCHER].address
        assert await s.devnet.rpc.nonce(account) == 0
        assert not await s.accused()
        states = await s.states(app)
        waiting = states[State.CONFIRMED] if mode is Mode.WATCH else states[State.FILING]
        assert waiting >= len(s.jobs(Truth.WRONG))
        async with app.store.read() as view:
            intents = await view.transactions.counts()
        assert bool(intents) == (mode is Mode.DRY_RUN)


async def test_correlated_accusations_wait_for_a_person(tmp_path):
    knobs = {"cheats": (Kind.NUDGE, Kind.OLDER), "models": ("digits",)}
    async with scene(tmp_path, **knobs) as s, s.watcher(correlated_seconds=600) as app:
        await s.world.play()
        await s.until_quiet(app)
        before = await s.accused()
        for _ in range(60):  # time alone clears nobody: this is longer than the hour set above
            await s.turn(app)
        assert await s.accused() == before
        async with app.store.read() as view:
            pauses = await view.approvals.active()
        assert len(pauses) == 1
        assert len(before) < len(s.jobs(Truth.WRONG))
        assert await app.approve("", "tester", "looked at both") == 1
        await s.until_quiet(app)
        assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


@pytest.mark.slow
async def test_a_correlated_pause_outlives_the_process_and_the_hour(tmp_path):
    knobs = {"cheats": (Kind.NUDGE, Kind.OLDER), "models": ("digits",), "tasks": 6, "round_size": 6}
    async with scene(tmp_path, **knobs) as s:
        async with s.watcher(correlated_seconds=60) as app:
            await s.world.play()
            await s.until_quiet(app)
            before = await s.accused()
            assert len(before) < len(s.jobs(Truth.WRONG))
        await s.world.blocks.travel(await s.world.blocks.now() + 300)
        for _ in range(2):  # nothing was in memory, and time has cleared nobody
            async with s.watcher(correlated_seconds=60) as app:
                for _ in range(8):
                    await s.turn(app)
                assert await s.accused() == before
                async with app.store.read() as view:
                    assert [pause.reason for pause in await view.approvals.active()] == ["correlated"]
        async with s.watcher(correlated_seconds=60) as app:
            assert await app.approve("", "tester", "looked at both") == 1
            await s.until_quiet(app)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


async def test_a_backend_that_lies_alone_accuses_nobody(tmp_path):
    async with scene(tmp_path) as s, s.watcher(correlated_providers=100) as app:
        s.workers.lies = {"torch"}
        await s.world.play()
        await s.until_quiet(app)
        assert not await s.accused() or set(await s.accused()) <= s.jobs(Truth.WRONG)
        states = await s.states(app)
        assert states[State.INCONCLUSIVE] == 10, "its known answer fails, so it has no say"


async def test_confirmation_by_a_lying_second_backend_is_refused(tmp_path):
    async with scene(tmp_path) as s, s.watcher(correlated_providers=100) as app:
        s.workers.lies = {"numpy"}
        await s.world.play()
        await s.until_quiet(app)
        assert not await s.accused()
        assert (await s.states(app))[State.INCONCLUSIVE] == len(s.jobs(Truth.WRONG))


@pytest.mark.slow
async def test_a_worker_that_dies_is_tried_again_and_never_becomes_an_accusation(tmp_path):
    async with scene(tmp_path) as s, s.watcher(correlated_providers=100) as app:
        s.workers.fails = {"torch": 3, "numpy": 2}
        await s.world.play()
        for _ in range(60):  # each try waits longer than the one before
            await s.turn(app)
        await s.until_quiet(app)
        assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
        async with app.store.read() as view:
            kinds = Counter()
            for item in await view.work.listing():
                kinds.update(v.kind for v in await view.verdicts.of(item.work.commitment))
        assert kinds[VerdictKind.INCONCLUSIVE] >= 3


async def test_a_fraud_in_hand_outlasts_every_failure_of_the_second_backend(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s, s.watcher(correlated_providers=100) as app:
        await s.until_quiet(app)
        s.workers.fails = {"numpy": s.settings.replay.attempts + 2}
        await s.world.play()
        for _ in range(150):  # an outage longer than all tries that a first replay gets
            await s.turn(app)
            if set(await s.accused()) == s.jobs(Truth.WRONG):
                break
        assert s.workers.fails == {"numpy": 0}
        assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


async def test_a_reorg_under_the_filing_is_survived(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s, s.watcher(correlated_providers=100) as app:
        await s.until_quiet(app)
        await s.world.play()
        for _ in range(12):
            await s.turn(app)
            await s.devnet.reorg(2, keep=True)
        await s.until_quiet(app)
        assert set(await s.accused()) == s.jobs(Truth.WRONG)
        assert max((await s.accused()).values()) == 1


async def test_stopped_and_started_again_at_every_turn(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE, Kind.TRUNCATE)) as s:
        await s.world.play()
        idle = turns = 0
        while idle < 6:
            async with s.watcher(correlated_providers=100) as app:
                idle = 0 if await s.turn(app) else idle + 1
            turns += 1
            assert turns < 200, "the watcher never comes to rest"
        assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
        async with s.watcher() as app, app.store.read() as view:
            for job in s.jobs(Truth.WRONG):
                rows = await view.transactions.about(job)
                assert Counter(r.intent.action for r in rows)[Action.CHALLENGE] == 1


async def test_the_exposure_cap_bounds_all_bonds_outstanding(tmp_path):
    async with scene(tmp_path) as s:
        bond = s.world.deployment.params.challenge_bond
        async with s.watcher(correlated_providers=100, exposure=2 * bond) as app:
            await s.world.play()
            for _ in range(12):
                await s.turn(app, people=False)  # nobody rules, so nothing comes back
            open_ones = [e for e in await s.events() if e.name == "Challenged"]
            assert 1 <= len(open_ones) <= 2


async def test_a_second_watcher_on_the_same_account_is_refused_or_stands_by(tmp_path):
    async with scene(tmp_path) as s:
        async with s.watcher(correlated_providers=100) as first:
            await s.until_quiet(first)
            with pytest.raises(HeldElsewhere):
                async with s.watcher():
                    pass
        async with s.watcher(correlated_providers=100) as second:  # an orderly end leaves nothing to wait for
            await s.world.play()
            await s.until_quiet(second)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


async def test_who_stands_by_takes_over_and_files_what_the_first_left(tmp_path):
    async with scene(tmp_path) as s, AsyncExitStack() as stack:
        async with s.watcher(correlated_providers=100) as first:
            waiting = asyncio.create_task(
                stack.enter_async_context(s.watcher(asyncio.Event(), correlated_providers=100, lease_seconds=1.0))
            )
            await s.until_quiet(first)
            await s.world.play()
            await s.turn(first)
            assert not waiting.done()
        second = await waiting
        await s.until_quiet(second)
        assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
        stop = asyncio.Event()
        stop.set()
        with pytest.raises(HeldElsewhere, match="stood by"):
            async with s.watcher(stop):
                pass


async def test_whoever_is_taken_over_ends_and_writes_nothing_more(tmp_path):
    async with scene(tmp_path) as s, s.watcher(correlated_providers=100) as first:
        await s.until_quiet(first)
        await s.world.play()
        async with open_store(s.settings.store.url) as store, store.begin(UnixTime(0)) as unit:
            await unit.fences.claim(s.devnet.accounts[WATCHER].address, "another")
        async with first.store.read() as view:
            tip = await view.journal.tip()
        with pytest.raises(TakenOver):
            await first.step()
        with pytest.raises(ExceptionGroup) as caught:
            await first.run(asyncio.Event())
        assert caught.group_contains(TakenOver)
        async with first.store.read() as view:
            assert await view.journal.tip() == tip


async def test_the_commands_read_what_the_watcher_wrote(tmp_path, capsys):
    import json

    async with scene(tmp_path) as s:
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            await s.until_quiet(app)
            await app.publish((await s.devnet.rpc.block("latest")).time)
        config = str(s.folder.config)
        assert load(s.folder.config, {}).mode is Mode.LIVE

        def said(*argv: str):
            code = main([*argv, "-c", config, "--json"])
            return code, json.loads(capsys.readouterr().out)

        code, status = await asyncio.to_thread(said, "status")
        assert code == 0
        assert sum(status["commitments"].values()) == 10
        code, rows = await asyncio.to_thread(said, "commitments")
        assert len(rows) == 10
        code, one = await asyncio.to_thread(said, "commitments", rows[0]["id"][:18])
        assert one["commitment"]["commitment"] == rows[0]["id"]
        assert one["journal"][0]["kind"] == "observed"
        code, disputes = await asyncio.to_thread(said, "disputes")
        assert len(disputes["disputes"]) == len(s.jobs(Truth.WRONG))
        for command in ("disputes", "commitments", "status"):
            assert await asyncio.to_thread(main, [command, "-c", config]) == 0
            shown = capsys.readouterr().out
            assert "built-in" not in shown
            assert "object at" not in shown
        code, journal = await asyncio.to_thread(said, "audit", "journal")
        assert (code, journal["holds"]) == (0, True)
        code, audit = await asyncio.to_thread(said, "audit", "sampling", "--offline")
        assert (code, audit["holds"]) == (0, True)
        assert await asyncio.to_thread(main, ["commitments", "0xzz", "-c", config]) == 2


async def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    import resource

    async with scene(tmp_path) as s, s.watcher(correlated_providers=100) as app:
        await s.until_quiet(app)
        await s.world.play()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        wal = s.folder.database.with_name(s.folder.database.name + "-wal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 4096, hard))
        try:
            with pytest.raises(StoreError) as caught:
                for _ in range(5):
                    await app.step()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(caught.value)
        assert "disk" in str(caught.value) or "database" in str(caught.value)
        await s.until_quiet(app)
        assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


async def test_a_challenge_that_reverts_after_a_reorg_is_filed_again(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s:
        s.settings = replace(s.settings, chain=replace(s.settings.chain, confirmations=8))
        async with s.watcher() as app:
            await s.until_quiet(app)
            await s.world.play()
            while not await s.accused():
                await s.turn(app, people=False)
            # the same transactions in one block: there the challenge comes too early for its seal
            await s.devnet.reorg(4, keep=True)
            for _ in range(30):
                await s.turn(app)
            await s.until_quiet(app)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


async def test_data_that_somebody_else_demanded_and_got_is_replayed(tmp_path):
    async with scene(tmp_path, cheats=(Kind.WITHHOLD,)) as s, s.watcher() as app:
        await s.world.play()
        job = next(iter(s.jobs(Truth.WITHHELD)))
        friend = Wallet(s.devnet.rpc, s.devnet.accounts[18].key, "friend")
        calls = MarketCalls(s.world.deployment.market)
        bond = s.world.deployment.params.demand_bond
        await s.world.blocks.together([(friend, calls.demand(job, Part.OUTPUT, 0, bond))])
        index = next(number for number, label in enumerate(s.world.labels) if label.job == job)
        answer, _ = s.world._answers[index].result()
        await s.world.blocks.together([(friend, calls.answer(DemandId(1), answer.output))])
        for _ in range(20):
            await s.turn(app)
        async with app.store.read() as view:
            item = await view.work.item(job)
            verdict = (await view.verdicts.of(job))[-1]
        assert (item.work.state, verdict.kind) == (State.REPLAYED, VerdictKind.VALID)


class Behind:
    """An endpoint that does not know the newest job yet: every call to the market reverts there."""

    def __init__(self, inner) -> None:
        self._inner = inner
        self.behind = False

    async def make_request(self, method, params):
        if self.behind and method == "eth_call":
            return {"jsonrpc": "2.0", "id": 1, "result": "0x" + "00" * 32 * 16}
        return await self._inner.make_request(method, params)


async def test_an_endpoint_that_lags_stops_nothing(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s:
        view = Behind(s.devnet.provider)
        async with opened(s.settings, rpc=Rpc(view), files=ToyFiles(), workers=s.workers) as app:
            await s.world.play()
            view.behind = True
            for _ in range(8):
                with suppress(Expected):
                    await s.turn(app)
            view.behind = False
            for _ in range(10):
                await s.turn(app)
            await s.until_quiet(app)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


TASK_OPENED = next(
    keccak(signature(entry).encode())
    for entry in artifact("InferenceMarket").abi
    if entry["type"] == "event" and entry["name"] == "TaskOpened"
)


class Liar:
    """An endpoint that shows another input for every task: an honest answer to it would look wrong."""

    def __init__(self, inner) -> None:
        self._inner = inner

    async def make_request(self, method, params):
        answer = await self._inner.make_request(method, params)
        if method == "eth_getLogs":
            topic = "0x" + TASK_OPENED.hex()
            for log in answer["result"]:
                if log["topics"][0] == topic:
                    log["data"] = "0x" + "ab" * 32 + log["data"][66:]
        return answer


async def test_an_endpoint_that_lies_about_the_input_makes_no_accusation(tmp_path):
    async with scene(tmp_path, cheats=()) as s:
        chain = replace(s.settings.chain, rpc=("http://first", "http://second"))
        s.settings = replace(s.settings, chain=chain)
        witness = s.devnet.rpc
        parts = opened(
            s.settings, rpc=Rpc(Liar(s.devnet.provider)), others=[witness], files=ToyFiles(), workers=s.workers
        )
        async with parts as app:
            await s.world.play()
            for _ in range(25):
                await s.turn(app)
            assert not await s.accused()
            async with app.store.read() as view:
                items = await view.work.listing()
            assert not any(item.work.confirmation for item in items)
