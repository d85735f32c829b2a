"""Busy blocks, floods of frauds and of honest work: what is filed, in which order, and what is said of the rest."""

from __future__ import annotations

import json

from sqlalchemy import select

from challenger.domain import State, Wei
from challenger.pipeline.learned import action_of
from challenger.pipeline.obstacles import DISPUTE_GAS, STRESS
from challenger.service import approve as lift
from challenger.sim.foes.arena import Deal, sample
from challenger.sim.foes.baits import Bait, OtherState, last_bit
from challenger.sim.foes.crowds import Stuffer
from challenger.store.keep import EVERYTHING
from challenger.store.schema import journal
from tests.sim.foes_stage import contest, history, state

CHEAT = Bait(last_bit)
ETHER = 10**18


async def last_block_frauds(c, count: int):
    """One a block, the last of them in the block before it gets busy. In chain order, so by their windows too."""
    cheats = [await c.arena.party(f"cheat {n}") for n in range(count)]
    dealt = await c.arena.prepare([Deal(cheat, sample(n), CHEAT) for n, cheat in enumerate(cheats)])
    for one in dealt:
        await c.arena.commit([one])
    return dealt


async def confirmed(c, app, deals: list[Deal]):
    """All of them committed and confirmed as frauds while filing was paused: now it goes on."""
    async with app.store.begin(await app.clock()) as unit:
        await unit.approvals.pause("person", EVERYTHING, "by ada: lunch")
    dealt = await c.arena.serve(deals)
    for _ in range(12):
        await app.step()
        await c.arena.blocks.tick()
        await app.gather()
        while await app.investigate():
            pass
    assert {(await state(app, one.job))[0] for one in dealt} == {State.CONFIRMED}
    assert not c.filed()
    await lift(app.store, await app.clock(), "", "ada", "back")
    return dealt


def in_time(c) -> bool:
    closes = {e["job"]: e["windowEnd"] for e in c.arena.events("Committed")}
    when = {e.args["job"]: c.arena.time_of(e) for e in c.arena.logged("Challenged")}
    return all(when[job] < closes[job] for job in when)


async def test_commits_in_the_last_block_before_stuffed_blocks_are_filed_in_time_by_slack(tmp_path, template):
    async with contest(tmp_path, template, window=1_500) as c, c.watcher() as app:
        a = c.arena
        await c.turns(app, 2)
        stuffer = Stuffer(a.devnet, await a.party("stuffer"), tip=4 * 10**9)
        await stuffer.ready()
        dealt = await last_block_frauds(c, 3)
        c.before = stuffer.fill
        await c.turns(app, 8)
        assert not a.events("Challenged"), "there was no room: the blocks are full, and it tips more"
        c.before = _idle
        await a.until(lambda: len(c.filed()) == 3, lambda: c.turn(app))
        assert c.filed() == [one.job for one in dealt], "the window that closes first comes first"
        assert in_time(c)


async def test_a_stuffer_that_does_not_stop_is_outbid_before_the_windows_close(tmp_path, template):
    async with contest(tmp_path, template, window=900) as c, c.watcher() as app:
        a = c.arena
        await c.turns(app, 2)
        stuffer = Stuffer(a.devnet, await a.party("stuffer"), tip=8 * 10**9)
        await stuffer.ready()
        (one,) = await last_block_frauds(c, 1)
        c.before = stuffer.fill
        await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
        assert c.once(one.job)
        assert in_time(c)
        async with app.store.read() as view:
            rows = await view.transactions.about(one.job)
        attempts = [attempt for row in rows for attempt in row.attempts]
        assert len(attempts) > 2, "fees were raised"
        assert max(attempt.max_fee for attempt in attempts) <= c.settings.filing.max_fee


async def test_a_base_fee_that_leaps_and_blocks_that_exclude_us_delay_nothing_beyond_its_window(tmp_path, template):
    async with contest(tmp_path, template, window=900) as c, c.watcher() as app:
        a, node = c.arena, c.arena.devnet.node
        await c.turns(app, 2)
        dealt = await last_block_frauds(c, 2)
        node.chain.surge = 20
        node.censored = frozenset({bytes.fromhex(c.account[2:])})
        await c.turns(app, 15)
        assert not a.events("Challenged")
        node.censored = frozenset()
        await a.until(lambda: len(c.filed()) == 2, lambda: c.turn(app))
        assert c.filed() == [one.job for one in dealt]
        assert in_time(c)


async def test_a_filing_is_reckoned_at_twice_the_gas_price_and_asked_again_before_its_bond_goes(tmp_path, template):
    """A fee that leaps between seal and challenge: the bond stays until it has fallen, and the reason is on record."""
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a, node = c.arena, c.arena.devnet.node
        await c.turns(app, 2)
        (one,) = await last_block_frauds(c, 1)
        await a.until(lambda: bool(a.events("Sealed")), lambda: c.turn(app))
        reward = a.deployment.params.job_collateral // 2
        base = node.chain.next_header(node.next_time()).base_fee_per_gas
        node.chain.surge = 2 * reward // (DISPUTE_GAS * STRESS * base)
        await a.blocks.tick()
        await c.turns(app, 2)
        assert (await state(app, one.job))[1].startswith("value: ")
        assert not c.filed()
        await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
        assert c.once(one.job)


async def test_a_flood_of_cheap_frauds_never_lifts_the_cap_and_the_worthiest_are_filed_first(tmp_path, template):
    async with contest(tmp_path, template) as c:
        a, bond = c.arena, c.arena.deployment.params.challenge_bond
        cap = Wei(2 * bond)
        async with c.watcher(exposure=cap) as app:
            spammer = await a.party("spammer")
            spam = [Deal(spammer, sample(n), CHEAT, fee=Wei(1)) for n in range(3)]
            dear = Deal(await a.party("cheat"), sample(9), CHEAT, fee=Wei(ETHER))
            dealt = await confirmed(c, app, [*spam, dear])
            a.sits = False

            async def turn() -> None:
                await c.turn(app)
                out = sum(bond for one in a.market.disputes.values() if one.challenger == c.account)
                assert out <= cap

            for _ in range(5):
                await turn()
            assert len(c.filed()) == 2
            assert dealt[-1].job in c.filed(), "cheap ones came first, the dear one is filed first"
            waiting = [one for one in dealt if one.job not in c.filed()]
            for one in waiting:
                found, why = await state(app, one.job)
                assert (found, why.partition(":")[0]) == (State.CONFIRMED, "exposure")
            a.sits = True
            await a.until(lambda: len(c.filed()) == len(dealt), turn)
            assert c.once(*(one.job for one in dealt)), "the budget comes back, and the rest goes on"


async def test_what_the_cap_kept_back_until_its_window_closed_names_the_cap(tmp_path, template):
    async with contest(tmp_path, template, window=900) as c:
        bond = c.arena.deployment.params.challenge_bond
        async with c.watcher(exposure=bond) as app:
            cheats = [await c.arena.party(f"cheat {n}") for n in range(2)]
            await c.arena.serve([Deal(cheat, sample(n), CHEAT) for n, cheat in enumerate(cheats)])
            c.arena.sits = False
            await c.turns(app, 6)
            (filed,) = c.filed()
            (missed,) = [one.job for one in c.arena.dealt if one.job != filed]
            await c.arena.blocks.travel(c.arena.market.jobs[missed].closes)
            await c.turns(app, 2)
            found, why = await state(app, missed)
            assert found is State.EXPIRED
            assert why.startswith("window:")
            assert "before that, exposure:" in why
            assert [name for name, _ in app.telemetry.alerts.active()].count("missed") == 1


async def test_one_providers_flood_of_frauds_pushes_out_its_own_first(tmp_path, template):
    """Fees that a cheat pays to itself make no case of its own worthier than everybody else's: its k-th counts a k-th."""
    async with contest(tmp_path, template) as c:
        a, bond = c.arena, c.arena.deployment.params.challenge_bond
        async with c.watcher(exposure=Wei(2 * bond)) as app:
            spammer = await a.party("spammer")
            flood = [Deal(spammer, sample(n), CHEAT, fee=Wei(ETHER)) for n in range(3)]
            other = Deal(await a.party("cheat"), sample(9), CHEAT, fee=Wei(ETHER * 6 // 10))
            dealt = await confirmed(c, app, [*flood, other])
            a.sits = False
            await c.turns(app, 5)
            assert len(c.filed()) == 2
            assert dealt[-1].job in c.filed()


async def test_a_flood_of_honest_work_hides_no_fraud(tmp_path, template):
    """More replays than the windows leave time for: the flood is put aside, and that is said; the fraud is judged."""
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a = c.arena
        spammer = await a.party("spammer")
        flood = [Deal(spammer, sample(n), fee=Wei(1)) for n in range(10)]
        dealt = await a.serve([*flood, Deal(await a.party("cheat"), sample(90), OtherState(), fee=Wei(ETHER))])
        await _slow_replays(c, app, parts=5)
        await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
        assert c.once(dealt[-1].job)
        shed = [one for one in dealt if (await state(app, one.job))[0] is State.SHED]
        assert shed
        assert dealt[-1] not in shed
        assert "the backlog exceeds the slack" in await history(app, shed[0].job)
        assert ("shed", "") in app.telemetry.alerts.active()
        await app.telemetry.alerts.deliver()
        async with app.store.read() as view:
            said = (await view.connection.execute(select(journal).where(journal.c.kind == "alert"))).all()
        (alert,) = [json.loads(e.payload) for e in said if "shed" in e.payload]
        assert alert["fields"]["count"] == len(shed)


async def _slow_replays(c, app, *, parts: int) -> None:
    """As if a replay had always taken a ``parts``-th of the window, since before the first was drawn."""
    for _ in range(8):
        await app.step()
        await c.arena.blocks.tick()
    now = await app.clock()
    async with app.store.begin(now) as unit:
        for _ in range(20):
            slow = c.arena.deployment.params.window / parts
            await app.learned.add(unit, action_of("replay", c.arena.model, "torch"), slow)


async def _idle() -> None:
    return
