"""The scheduler in the whole watcher: what comes first, what is put aside and comes back, what is too late."""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import select

from challenger.domain import State, VerdictKind
from challenger.pipeline.clock import ChainClock
from challenger.pipeline.learned import SAFETY, action_of
from challenger.settings import Settings
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.store.schema import journal
from challenger.store.subjects import subject_of
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import LEAST_SLACK, PREDICTED_MISSES, SLACK_AT_FILING
from tests.integration.test_watcher import scene


async def drawn(s, app) -> None:
    """Until every commitment of the world is drawn, without any replay."""
    for _ in range(8):
        await app.step()
        await s.world.blocks.tick()
    await app.gather()
    assert (await s.states(app))[State.SAMPLED] == 10


async def learned(app, rows, times: int, seconds: float) -> None:
    """That many replays of each row's model took so long."""
    async with app.store.begin(await app.clock()) as unit:
        for model in {row.model for row in rows}:
            for _ in range(times):
                await app.learned.add(unit, action_of("replay", model, "torch"), seconds)


async def crowded(s, app) -> list:
    """More is drawn than fits its windows, by what replays are known to take, and is put aside; all of it."""
    await s.world.play()
    await drawn(s, app)
    async with app.store.read() as view:
        rows = await view.work.waiting([State.SAMPLED])
    now = await app.clock()
    await learned(app, rows, 20, (min(row.closes for row in rows) - now) / 6)
    await app.investigate()
    return rows


async def entries(app, kind: str) -> list:
    async with app.store.read() as view:
        wanted = select(journal).where(journal.c.kind == kind).order_by(journal.c.seq)
        return (await view.connection.execute(wanted)).all()


async def test_a_backlog_sheds_the_least_valuable_and_takes_it_up_again(tmp_path):
    async with scene(tmp_path, cheats=()) as s, s.watcher() as app:
        rows = await crowded(s, app)
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


async def test_what_was_shed_says_so_to_the_end(tmp_path):
    async with scene(tmp_path, cheats=()) as s, s.watcher() as app:
        await crowded(s, app)
        async with app.store.read() as view:
            shed = [item.work.commitment for item in await view.work.items([State.SHED])]
        assert shed
        await s.world.blocks.travel(s.world.last_window())
        await s.world.finish()
        for _ in range(4):
            await app.step()
            await s.world.blocks.tick()
        async with app.store.read() as view:
            told = [(item.work.state, item.work.detail) for item in await view.work.some(shed)]
        assert set(told) == {(State.FINALISED, "the job is final; before that, the backlog exceeds the slack")}


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


async def test_after_an_absence_what_has_least_slack_is_replayed_first_and_what_is_late_last(tmp_path):
    """Not what was committed first: one model's confirmations were slow, so that its replays have to be over sooner."""
    async with scene(tmp_path, cheats=(), round_size=2) as s:
        async with s.watcher() as app:
            await s.world.play()
            await drawn(s, app)
            async with app.store.read() as view:
                rows = await view.work.waiting([State.SAMPLED])
            committed = [row.commitment for row in sorted(rows, key=lambda row: row.closes)]
            slow = next(row.model for row in rows if row.commitment == committed[-1])
            async with app.store.begin(await app.clock()) as unit:
                for _ in range(20):
                    await app.learned.add(unit, action_of("confirm", slow, "numpy"), 200.0)
            await app.learned.refresh()
            begins = sorted(row.closes - app.learned.now.ahead(row.model).total() for row in rows)
        await s.world.blocks.travel(int(begins[2]) + 1)  # too late for some, by prediction, though every window is open
        async with s.watcher() as app:
            await app.step()
            await app.gather()
            now = await app.clock()
            while await app.investigate():
                pass
            assert await app.clock() == now < min(row.closes for row in rows)
            left = {subject_of(r.commitment): r.closes - now - app.learned.now.ahead(r.model).total() for r in rows}
            replayed = [entry.subject for entry in await entries(app, "replayed")]
            assert (await s.states(app))[State.REPLAYED] == len(replayed) == len(rows) == len(left)
        saved = [one for one in replayed if left[one] >= 0]
        assert replayed[: len(saved)] == saved, "what is late by prediction waits for all that is not"
        assert 0 < len(saved) < len(replayed)
        for part in (saved, replayed[len(saved) :]):
            assert [left[one] for one in part] == sorted(left[one] for one in part)
        assert saved != [subject_of(one) for one in committed if subject_of(one) in saved]


async def test_a_reorganisation_that_was_lived_through_is_reckoned_with_afterwards(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,), tasks=5, round_size=5) as s:
        async with s.watcher() as app:
            await s.world.blocks.tick(20)
            while await app.step():
                pass
            await app.investigate()
            model = next(iter(s.world.models.values()))
            before = app.learned.now.ahead(model)
            await s.devnet.reorg(4, keep=True)
            while await app.step():
                pass
            await app.investigate()
            lived = 4 * 12
            async with app.store.read() as view:
                assert (await view.latencies.all())["depth"] == (1, lived)
            assert SAFETY * lived > before.depth
            assert app.learned.now.ahead(model) == replace(before, depth=SAFETY * lived)
        async with s.watcher() as app:  # what was learned is no secret of a process
            await s.world.play()
            while not await s.accused():
                await s.turn(app, people=False)
            (filed,) = [json.loads(entry.payload) for entry in await entries(app, "slack")]
            assert filed["depth"] == int(SAFETY * lived)


async def test_slack_at_filing_is_measured(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE, Kind.OLDER), tasks=6, round_size=3) as s:
        s.settings = measured(s.settings)
        async with s.watcher(correlated_providers=100) as app:
            metrics = app.telemetry.metrics
            assert metrics.value(SLACK_AT_FILING, "_count", action="challenge") == 0
            assert metrics.value(LEAST_SLACK) is None
            await s.world.play()
            while (await s.states(app))[State.DISPUTING] < len(s.jobs(Truth.WRONG)):
                await s.turn(app, people=False)
            told = [json.loads(entry.payload)["seconds"] for entry in await entries(app, "slack")]
            assert len(told) == len(s.jobs(Truth.WRONG)) > 1
            assert min(told) > 0
            assert metrics.value(SLACK_AT_FILING, "_count", action="challenge") == len(told)
            assert metrics.value(SLACK_AT_FILING, "_sum", action="challenge") == sum(told)
            assert metrics.value(LEAST_SLACK) == min(told)
            assert metrics.value(PREDICTED_MISSES) == 0


def measured(settings: Settings) -> Settings:
    """With metrics, on a port that is free."""
    return replace(settings, telemetry=replace(settings.telemetry, metrics="127.0.0.1:0"))


async def test_windows_that_closed_while_away_expire_and_the_miss_is_said(tmp_path):
    async with scene(tmp_path, cheats=()) as s:
        s.settings = measured(s.settings)
        async with s.watcher() as app:
            await s.world.play()
            await drawn(s, app)
            async with app.store.read() as view:
                rows = await view.work.waiting([State.SAMPLED])
            closes = max(row.closes for row in rows)
            await app.investigate()
            assert app.telemetry.metrics.value(PREDICTED_MISSES) == 0
        await s.world.blocks.travel(closes - 5)
        async with s.watcher() as app:
            await app.step()
            await app.gather()
            for _ in range(3):
                await app.investigate()
            assert ("predicted-miss", "") not in app.telemetry.alerts.active(), "few are said one by one"
            foretold = [about for name, about in app.telemetry.alerts.active() if name == "predicted-miss"]
            assert app.telemetry.metrics.value(PREDICTED_MISSES) == len(foretold) > 0
        await s.world.blocks.travel(closes + 5)
        async with s.watcher() as app:
            await app.step()
            await app.investigate()
            states = await s.states(app)
            assert states[State.EXPIRED] >= 1
            assert states[State.SAMPLED] == 0
            expired = await entries(app, "expired")
            assert len(expired) == states[State.EXPIRED]
            assert app.telemetry.metrics.value(PREDICTED_MISSES) == 0


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
