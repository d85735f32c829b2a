"""What a person is told of cases, money and a chain that is not read: by a whole watcher, in order and in the journal."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace

from challenger.app import opened
from challenger.domain import DisputeOutcome, Mode, Wei
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from tests.integration.test_watcher import scene

CASES = ("fraud-found", "filed", "won", "lost", "no-ruling")


class Kept:
    def __init__(self) -> None:
        self.notices = []
        self.came = asyncio.Event()

    async def take(self, notice) -> None:
        self.notices.append(notice)
        self.came.set()

    def named(self, name: str) -> list:
        return [notice for notice in self.notices if notice.name == name]

    def of(self, about: str) -> list[str]:
        return [notice.name for notice in self.notices if notice.about == about and notice.name in CASES]


def kept_of(app) -> Kept:
    kept = Kept()
    app.telemetry.alerts.send_to(kept)
    return kept


async def test_each_case_is_told_from_its_finding_to_its_end(tmp_path):
    async with scene(tmp_path, seed=3) as s, s.watcher(correlated_providers=100) as app:
        kept = kept_of(app)
        await s.world.play()
        await s.until_quiet(app)
        await s.world.blocks.travel(s.world.last_demand())
        await s.until_quiet(app)
        await app.telemetry.alerts.deliver()
        wrong, withheld = s.jobs(Truth.WRONG), s.jobs(Truth.WITHHELD)
        for job in wrong:
            assert kept.of("0x" + job.hex()) == ["fraud-found", "filed", "won"]
        for job in withheld:
            assert kept.of("0x" + job.hex()) == ["filed", "won"]
        assert len(kept.named("won")) == len(wrong) + len(withheld)
        (found, *_) = kept.named("fraud-found")
        assert 0 < found.fields["left"] <= app.adapter.params.window
        assert found.fields["provider"].startswith("0x")
        assert {n.fields["action"] for n in kept.named("filed")} == {"challenge", "demand"}
        assert not set(CASES) & {name for name, _ in app.telemetry.alerts.active()}, "what happened does not stand"
        async with app.store.read() as view:
            entries = [e for e in await view.journal.after(0, 100_000) if e.kind == "alert"]
        told = Counter(json.loads(entry.payload)["alert"] for entry in entries)
        assert (told["fraud-found"], told["won"]) == (len(wrong), len(wrong) + len(withheld))


async def test_a_watcher_without_a_key_tells_of_the_fraud_all_the_same(tmp_path):
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s, s.watcher(mode=Mode.WATCH) as app:
        kept = kept_of(app)
        await s.world.play()
        await s.until_quiet(app)
        await app.telemetry.alerts.deliver()
        assert {n.about for n in kept.named("fraud-found")} == {"0x" + job.hex() for job in s.jobs(Truth.WRONG)}
        assert not kept.named("filed")


async def test_a_lost_dispute_is_told_and_pauses_the_model(tmp_path):
    async with (
        scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s,
        s.watcher(correlated_providers=100) as app,
    ):
        kept = kept_of(app)
        await s.world.play()
        for signer in s.world._court.signers:  # a bench that errs
            signer._opinions |= dict.fromkeys(s.jobs(Truth.WRONG), False)
        await s.until_quiet(app)
        await app.telemetry.alerts.deliver()
        lost = kept.named("lost")
        assert lost
        assert {n.severity.value for n in lost} == {"critical"}
        assert all("was lost" in n.fields["why"] or "provider" in n.fields["why"] for n in lost)
        async with app.store.read() as view:
            paused = {pause.subject for pause in await view.approvals.active()}
        assert paused == {n.fields["model"] for n in lost}


async def test_a_dispute_that_nobody_decides_is_told(tmp_path):
    async with (
        scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s,
        s.watcher(correlated_providers=100) as app,
    ):
        kept = kept_of(app)
        await s.world.play()
        for signer in s.world._court.signers:  # a bench that cannot say
            signer._opinions |= dict.fromkeys(s.jobs(Truth.WRONG))
        await s.until_quiet(app)
        async with app.store.read() as view:
            open_ones = await view.chain.disputes(outcome=DisputeOutcome.OPEN)
        await s.world.blocks.travel(max(one.ruling_by for one in open_ones) + 1)
        await s.until_quiet(app)
        await app.telemetry.alerts.deliver()
        assert {n.about for n in kept.named("no-ruling")} == {"0x" + job.hex() for job in s.jobs(Truth.WRONG)}


async def test_little_time_to_spare_is_said_before_it_is_too_little(tmp_path):
    """Nobody approves: what waits for a person comes nearer to its close."""
    async with (
        scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s,
        s.watcher(mode=Mode.CONFIRM, correlated_providers=100) as app,
    ):
        await s.world.play()
        await s.until_quiet(app)
        wrong = {"0x" + job.hex() for job in s.jobs(Truth.WRONG)}
        assert wrong
        assert not standing(app, "slack-low") | standing(app, "predicted-miss")
        async with app.store.read() as view:
            cases = await view.work.some(sorted(s.jobs(Truth.WRONG)))
        closes = min(item.commitment.closes for item in cases)
        margin = s.settings.filing.safety_seconds
        async with app.store.read() as view:
            ahead = app.learned.now.ahead(cases[0].commitment.model)
        need = int(ahead.inclusion + ahead.depth) + margin
        await s.world.blocks.travel(closes - need - 200)
        await s.turn(app, people=False)
        assert standing(app, "slack-low") == wrong
        assert not standing(app, "predicted-miss")
        await s.world.blocks.travel(closes - need + 60)
        await s.turn(app, people=False)
        assert standing(app, "predicted-miss") == wrong
        assert not standing(app, "slack-low")


def standing(app, name: str) -> set[str]:
    return {about for there, about in app.telemetry.alerts.active() if there == name}


async def test_a_purse_that_does_not_last_is_told_by_a_live_watcher_only(tmp_path):
    async with scene(tmp_path, seed=3) as s:
        for filing, low in (({"keep_balance": Wei(10**30)}, True), ({"mode": Mode.DRY_RUN}, False), ({}, False)):
            async with s.watcher(**({"keep_balance": Wei(0)} | filing)) as app:
                await s.turn(app)
                assert (("gas-low", "") in app.telemetry.alerts.active()) is low


async def test_a_chain_that_is_not_read_is_told_and_taken_back(tmp_path):
    """The watch over the loops, while no loop comes to an end."""
    async with scene(tmp_path, seed=3) as s:
        now, stop = [0.0], asyncio.Event()
        settings = replace(s.settings, chain=replace(s.settings.chain, poll=0.01))
        more = {"rpc": s.devnet.rpc, "files": ToyFiles(), "workers": s.workers}
        async with opened(settings, **more, monotonic=lambda: now[0]) as app:
            kept = kept_of(app)
            async with asyncio.TaskGroup() as group:
                group.create_task(app._watch_over(stop))
                group.create_task(app.telemetry.alerts.run(stop))
                limit = max(settings.telemetry.stale_seconds, 5 * settings.chain.poll)
                now[0] = limit
                app.say_if_stalled()
                assert app.telemetry.alerts.active() == []
                now[0] = limit + 1
                await kept.came.wait()
                (told,) = kept.notices
                assert (told.name, told.fields) == ("stalled", {"seconds": limit + 1, "why": "it hangs"})
                app.telemetry.health.looked()
                app.say_if_stalled()
                assert app.telemetry.alerts.active() == []
                stop.set()
