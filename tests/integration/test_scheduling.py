"""The scheduler in the whole watcher: what comes first, what is put aside and comes back, what is too late."""

from __future__ import annotations

from sqlalchemy import select

from challenger.domain import State, VerdictKind
from challenger.pipeline.clock import ChainClock
from challenger.pipeline.learned import action_of
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.store.schema import journal
from challenger.telemetry.instruments import Instruments
from tests.integration.test_watcher import scene


async def drawn(s, app) -> None:
    """Until every commitment of the world is drawn, without any replay."""
    for _ in range(8):
        await app.step()
        await s.world.blocks.tick()
    assert (await s.states(app))[State.SAMPLED] == 10


async def learned(app, rows, times: int, seconds: float) -> None:
    """That many replays of each row's model took so long."""
    async with app.store.begin(await app.clock()) as unit:
        for model in {row.model for row in rows}:
            for _ in range(times):
                await app.learned.add(unit, action_of("replay", model, "torch"), seconds)


async def entries(app, kind: str) -> list:
    async with app.store.read() as view:
        return (await view.connection.execute(select(journal).where(journal.c.kind == kind))).all()


async def test_a_backlog_sheds_the_least_valuable_and_takes_it_up_again(tmp_path):
    async with scene(tmp_path, cheats=()) as s, s.watcher() as app:
        await s.world.play()
        await drawn(s, app)
        async with app.store.read() as view:
            rows = await view.work.waiting([State.SAMPLED])
        now = await app.clock()
        await learned(app, rows, 20, (min(row.closes for row in rows) - now) / 6)
        await app.investigate()
        states = await s.states(app)
        assert states[State.SHED] >= 1
        assert states[State.REPLAYED] == 1
        assert ("shed", "") in app.telemetry.alerts.active()
        await app.telemetry.alerts.deliver()
        assert [e for e in await entries(app, "alert") if "shed" in e.payload]
        await learned(app, rows, 1_000, 0.01)  # replays are fast again, and the slow samples are forgotten
        await s.until_quiet(app)
        assert (await s.states(app))[State.REPLAYED] == 10
        assert app.telemetry.alerts.active() == []


async def test_what_was_shed_and_is_late_by_prediction_is_tried_while_nothing_else_waits(tmp_path):
    """Found by a simulated world: predictions had grown under slow endpoints, and what was shed then stayed so with
    all workers idle until its window was over."""
    async with scene(tmp_path, cheats=()) as s, s.watcher() as app:
        await s.world.play()
        await drawn(s, app)
        async with app.store.read() as view:
            rows = await view.work.waiting([State.SAMPLED])
        now = await app.clock()
        soon = min(row.closes for row in rows)
        slow = (soon - now) / 6
        await learned(app, rows, 20, slow)
        await app.investigate()
        assert (await s.states(app))[State.SHED] >= 1
        await s.world.blocks.travel(soon - int(slow) // 2)
        await s.until_quiet(app)
        assert (await s.states(app))[State.REPLAYED] == 10


async def test_after_a_long_absence_what_can_be_saved_comes_first_and_what_cannot_is_recorded(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,), cheating=100) as s:
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            await drawn(s, app)
            async with app.store.read() as view:
                rows = await view.work.waiting([State.SAMPLED])
        closes = sorted(row.closes for row in rows)
        await s.world.blocks.travel(closes[-1] - 400)
        async with s.watcher(correlated_providers=100) as app:
            await s.until_quiet(app)
            accused = await s.accused()
            assert set(accused) <= s.jobs(Truth.WRONG)
            assert max(accused.values(), default=0) <= 1
            async with app.store.read() as view:
                verdicts = [v.commitment for row in rows for v in await view.verdicts.of(row.commitment)]
            filed = await entries(app, "slack")
            assert {e.subject for e in filed} >= {"0x" + job.hex() for job in accused}
            assert len(verdicts) >= len(rows) - sum(row.closes <= closes[-1] - 400 for row in rows)
        await s.world.blocks.travel(closes[-1] + 10)
        async with s.watcher(correlated_providers=100) as app:
            await s.until_quiet(app)
            states = await s.states(app)
            assert states[State.SAMPLED] == states[State.OBSERVED] == 0


async def test_windows_that_closed_while_away_expire_and_the_miss_is_said(tmp_path):
    async with scene(tmp_path, cheats=()) as s:
        async with s.watcher() as app:
            await s.world.play()
            await drawn(s, app)
            async with app.store.read() as view:
                closes = max(row.closes for row in await view.work.waiting([State.SAMPLED]))
        await s.world.blocks.travel(closes - 5)
        async with s.watcher() as app:
            await app.step()
            await app.gather()
            for _ in range(3):
                await app.investigate()
            assert ("predicted-miss", "") not in app.telemetry.alerts.active(), "few are said one by one"
            assert any(name == "predicted-miss" for name, _ in app.telemetry.alerts.active())
        await s.world.blocks.travel(closes + 5)
        async with s.watcher() as app:
            await app.step()
            await app.investigate()
            states = await s.states(app)
            assert states[State.EXPIRED] >= 1
            assert states[State.SAMPLED] == 0
            expired = await entries(app, "expired")
            assert len(expired) == states[State.EXPIRED]


async def test_an_idle_round_reads_nothing_and_a_new_block_wakes_it(tmp_path):
    async with scene(tmp_path, cheats=()) as s, s.watcher() as app:
        await s.world.play()
        await s.until_quiet(app)
        for _ in range(4):
            await app.step()
            await app.investigate()
        changes, before = app.store.changes, app._quiet
        assert before is not None
        assert not await app.step()
        assert app._quiet == before
        assert app.store.changes == changes
        await s.world.blocks.tick()
        await app.step()
        assert app._quiet != before


async def test_a_commitment_without_a_finding_waits_for_its_window_unread(tmp_path):
    async with scene(tmp_path, cheats=()) as s, s.watcher() as app:
        await s.world.play()
        await s.until_quiet(app)
        async with app.store.read() as view:
            assert await view.work.waiting([State.REPLAYED]) == []
            kinds = {(await view.verdicts.get(i.work.verdict)).kind for i in await view.work.listing()}
        assert kinds == {VerdictKind.VALID}
        assert (await s.states(app))[State.REPLAYED] == 10


async def test_chain_time_never_runs_back_and_a_stale_head_alerts(tmp_path):
    async with scene(tmp_path, cheats=()) as s:
        head = await s.devnet.rpc.block("latest")
        telemetry, wall = Instruments(), [float(head.time)]
        clock = ChainClock(s.devnet.rpc, telemetry, stale=60, wall=lambda: wall[0])
        assert clock.seen(head.time + 30) == head.time + 30
        assert await clock() == head.time + 30, "an endpoint that lags turns no clock back"
        assert telemetry.alerts.active() == []
        wall[0] += 100
        await clock()
        assert telemetry.alerts.active() == [("stale-head", "")]
        clock.seen(head.time + 99)
        assert telemetry.alerts.active() == []
