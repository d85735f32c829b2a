"""What a person and the limits keep back, on a real EVM with the toy model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from challenger.domain import Action, Mode, State, TxState
from challenger.pipeline.approval import decide, terms_of, unapproved
from challenger.service import approve as lift
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.world import WATCHER
from challenger.store.keep import EVERYTHING
from tests.integration.test_watcher import scene


async def confirmed(app) -> list:
    async with app.store.read() as view:
        return await view.work.items([State.CONFIRMED], limit=100)


async def say(app, item, *, approved: bool):
    now = (await app.rpc.block("latest")).time
    async with app.store.begin(now) as unit:
        terms = await terms_of(unit, app.adapter, item)
        await decide(unit, item, terms, approved=approved, person="ada", note="looked at it")


async def test_in_mode_confirm_only_what_a_person_approved_is_filed(tmp_path):
    async with (
        scene(tmp_path, seed=3) as s,
        s.watcher(mode=Mode.CONFIRM, correlated_providers=100) as app,
    ):
        await s.world.play()
        await s.until_quiet(app)
        waiting = await confirmed(app)
        assert {item.work.commitment for item in waiting} == s.jobs(Truth.WRONG)
        assert all(item.work.detail.startswith("approval: a person must decide") for item in waiting)
        assert not await s.accused()
        standing = {name for name, _ in app.telemetry.alerts.active()}
        assert "approval" in standing
        yes, no = waiting[0], waiting[1]
        await say(app, yes, approved=True)
        await say(app, no, approved=False)
        await s.until_quiet(app)
        assert await s.accused() == Counter({yes.work.commitment: 1}), (
            "and it is followed to its end without asking again"
        )
        async with app.store.read() as view:
            assert (await view.work.item(yes.work.commitment)).work.state == State.WITHDRAWN
            kept = (await view.work.item(no.work.commitment)).work
            assert (kept.state, kept.detail) == (State.CONFIRMED, "approval: refused by ada: looked at it")
        await say(app, no, approved=True)
        await s.until_quiet(app)
        assert (await s.accused())[no.work.commitment] == 1


async def test_an_approval_counts_for_what_was_shown_and_nothing_else(tmp_path):
    async with (
        scene(tmp_path, seed=3) as s,
        s.watcher(mode=Mode.CONFIRM, correlated_providers=100) as app,
    ):
        await s.world.play()
        await s.until_quiet(app)
        first, second = (await confirmed(app))[:2]
        await say(app, first, approved=True)
        async with app.store.read() as view:
            assert await unapproved(view, await terms_of(view, app.adapter, first)) == ""
            assert await unapproved(view, await terms_of(view, app.adapter, second)) != ""

            shown = await terms_of(view, app.adapter, first)
            dearer = replace(shown, prospect=replace(shown.prospect, bond=shown.prospect.bond + 1))
            assert (await unapproved(view, dearer)).startswith("approval: a person")


async def test_a_pause_stops_all_filing_across_restarts_until_a_person_lifts_it(tmp_path):
    async with scene(tmp_path, seed=3) as s:
        async with s.watcher(correlated_providers=100) as app:
            now = (await app.rpc.block("latest")).time
            async with app.store.begin(now) as unit:
                await unit.approvals.pause("person", EVERYTHING, "by ada: maintenance")
            await s.world.play()
            await s.until_quiet(app)
            assert {item.work.detail for item in await confirmed(app)} == {"paused: by ada: maintenance"}
        async with s.watcher(correlated_providers=100) as app:
            await s.until_quiet(app)
            assert not await s.accused()
            now = (await app.rpc.block("latest")).time
            assert len(await lift(app.store, now, "", "ada", "done")) == 1
            await s.until_quiet(app)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


@pytest.mark.parametrize("finalised", [False, True])
async def test_a_window_that_closes_over_a_pause_is_a_miss_and_says_so(tmp_path, finalised):
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s, s.watcher(correlated_providers=100) as app:
        now = (await app.rpc.block("latest")).time
        async with app.store.begin(now) as unit:
            await unit.approvals.pause("person", EVERYTHING, "by ada: maintenance")
        await s.world.play()
        await s.until_quiet(app)
        held = {item.work.commitment for item in await confirmed(app)}
        assert held == s.jobs(Truth.WRONG)
        while (end := s.world.last_window()) is not None:
            await s.world.blocks.travel(end)
            if finalised:
                await s.world.finish()
            await s.until_quiet(app)
            if not finalised:
                break
        async with app.store.read() as view:
            for job in held:
                work = (await view.work.item(job)).work
                assert work.state == State.EXPIRED
                assert "by ada: maintenance" in work.detail
        missed = {about for name, about in app.telemetry.alerts.active() if name == "missed"}
        assert missed == {"0x" + job.hex() for job in held}


@pytest.mark.parametrize(
    "cap", [*(pytest.param(cap, marks=pytest.mark.slow) for cap in ("per_provider", "per_day")), "exposure"]
)
async def test_bonds_never_exceed_a_cap(tmp_path, cap):
    """Room for one bond and a half: never are two out (in the day: filed at all) at once."""
    async with scene(tmp_path, seed=3) as s:
        async with s.watcher(correlated_providers=100) as app:
            bond = app.adapter.params.challenge_bond
        async with s.watcher(correlated_providers=100, **{cap: bond * 3 // 2}) as app:
            await s.world.play()
            for _ in range(60):
                await s.turn(app)
                async with app.store.read() as view:
                    account = s.devnet.accounts[WATCHER].address
                    out = await view.transactions.outstanding(account)
                    if cap == "exposure":
                        assert out <= bond * 3 // 2
                    if cap == "per_provider":
                        for label in s.world.labels:
                            assert await view.transactions.against(account, label.provider) <= bond * 3 // 2
                    opened, _ = await view.transactions.opened(account, 0)
                    if cap == "per_day":
                        assert opened <= bond * 3 // 2
        accused = await s.accused()
        assert set(accused) <= s.jobs(Truth.WRONG)
        assert accused, "and something is filed"
        if cap == "per_day":
            assert len(accused) == 1


async def test_the_balance_to_be_kept_is_kept(tmp_path):
    async with scene(tmp_path, seed=3) as s, s.watcher(correlated_providers=100, keep_balance=10**30) as app:
        await s.world.play()
        for _ in range(30):  # what is withheld is fetched again and again meanwhile
            await s.turn(app)
        waiting = await confirmed(app)
        assert waiting
        assert all("to be kept" in item.work.detail for item in waiting)
        async with app.store.read() as view:
            for item in waiting:
                subject = "0x" + item.work.commitment.hex()
                found = await view.transactions.find("reference", subject, Action.CHALLENGE)
                assert found is None or found.state is TxState.ABANDONED


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.CONFIRM])
async def test_withheld_data_that_a_person_has_looked_at_is_demanded(tmp_path, mode):
    """Fetched again, and said of in its row, after the look: that is no news, and pauses nothing again."""
    async with (
        scene(tmp_path, cheats=(Kind.WITHHOLD,)) as s,
        s.watcher(mode=mode, correlated_providers=1) as app,
    ):
        await s.world.play()
        looks = 0
        for _ in range(40):
            await s.turn(app)
            looks += await app.approve("", "ada", "looked at it")
            async with app.store.read() as view:
                waiting = await view.work.items([State.UNAVAILABLE])
            for item in waiting if looks else ():
                await say(app, item, approved=True)
        demanded = Counter(e.args["job"] for e in await s.events() if e.name == "Demanded")
        assert demanded == Counter(dict.fromkeys(s.jobs(Truth.WITHHELD), 1))
        assert looks == len({item.model for item in s.world.labels if item.truth is Truth.WITHHELD}), "one a model"


async def test_once_a_pause_is_lifted_its_cases_are_looked_at_at_once(tmp_path):
    """However long a refused case would have waited for its next look: its window runs."""
    async with scene(tmp_path, cheats=(Kind.NUDGE, Kind.WITHHOLD), models=("digits",)) as s:
        s.settings = replace(s.settings, replay=replace(s.settings.replay, retry_seconds=600))
        async with s.watcher(correlated_providers=1) as app:
            await s.world.play()
            for _ in range(60):  # data is fetched twice, ten minutes apart, before anybody is told of it
                await s.turn(app)
            assert not await s.accused()
            assert await app.approve("", "ada", "looked at it") == 1
            for _ in range(8):
                await s.turn(app)
            said = Counter(e.args["job"] for e in await s.events() if e.name in ("Challenged", "Demanded"))
            assert said == Counter(dict.fromkeys(s.jobs(Truth.WRONG) | s.jobs(Truth.WITHHELD), 1))
