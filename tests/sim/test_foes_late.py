"""Data withheld until the last moment, and accounts that refuse to be paid."""

from __future__ import annotations

from dataclasses import replace

import pytest

from challenger.domain import CommitmentId, DemandId, DemandOutcome, Part, State, TxState
from challenger.sim.foes.arena import Deal, sample
from challenger.sim.foes.baits import Bait, last_bit
from challenger.sim.foes.forwarder import OnPayment
from challenger.sim.toy import ToyWorkers
from challenger.sim.wallet import ActorFailed
from replay.layout import bundle_root
from replay.sandbox import Inconclusive, Reason
from tests.integration.test_cut_off import Net
from tests.sim.foes_stage import contest, state
from tests.sim.test_foes_rivals import accuse

CHEAT = Bait(last_bit)


async def test_input_posted_in_the_last_second_is_replayed_and_the_fraud_filed_in_the_longer_window(tmp_path, template):
    """Requester and provider in league: without the input nobody can say what is wrong, until the clock has run out."""
    async with contest(tmp_path, template, window=900, answer_period=600) as c, c.watcher() as app:
        a = c.arena
        (one,) = await a.serve([Deal(await a.party("cheat"), sample(1), CHEAT, hides_input=True)])
        first = a.market.jobs[one.job].closes
        await a.until(lambda: bool(a.market.demands), lambda: c.turn(app))
        number = a.open_demand(Part.INPUT)
        await a.blocks.travel(a.market.demands[number].answer_by - 13)  # its answer stands in the last block that may
        await a.answer(a.requester, number, sample(1))
        await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
        (filed,) = a.logged("Challenged")
        assert filed.args["job"] == one.job
        assert a.market.jobs[one.job].closes > first
        assert a.time_of(filed) < a.market.jobs[one.job].closes
        await c.until_quiet(app)
        assert c.once(one.job)
        assert (await state(app, one.job))[0] is State.WITHDRAWN


async def test_a_window_made_longer_by_a_friend_leaves_the_time_for_demands_as_it_is(tmp_path, template):
    """The output's server is silent, and nobody else is asked for anything; a friend demands the input, which is answered at
    once and extends the window."""
    async with contest(tmp_path, template, window=900) as c:
        a = c.arena
        net = Net(a.room.read)
        a.room.put(bundle_root(sample(1)), sample(1))
        cheat, friend = await a.party("cheat"), await a.party("friend")
        (one,) = await a.serve([Deal(cheat, sample(1), hides_input=True, hides_output=True)])
        net.down = {a.room.address(one.answer.output_root)}
        first = a.market.jobs[one.job].closes
        demand = a.calls.demand(CommitmentId(one.job), Part.INPUT, 0, a.deployment.params.demand_bond)
        async with c.watcher(net) as app:
            await c.turns(app, 40)
            await a.act([friend.does(demand)])
            await a.answer(cheat, a.open_demand(Part.INPUT), sample(1))
            await a.refresh()
            assert a.market.jobs[one.job].closes > first + 300
            while not (ours := [e for e in a.events("Demanded") if e["demander"] == c.account]):
                assert await a.blocks.now() < first, "its time is over"
                await c.turn(app)
            assert [e["job"] for e in ours] == [one.job]


async def test_an_output_that_appears_late_is_judged_like_any_other(tmp_path, template):
    """Our demand is out when the data turn up behind the URI; the answer on chain, in the last second, is what counts."""
    async with contest(tmp_path, template, window=900) as c, c.watcher() as app:
        a = c.arena
        (one,) = await a.serve([Deal(await a.party("late"), sample(1), hides_output=True)])
        await a.until(lambda: bool(a.market.demands), lambda: c.turn(app))
        number = a.open_demand(Part.OUTPUT)
        a.room.put(one.answer.output_root, one.answer.output)
        await a.blocks.travel(a.market.demands[number].answer_by - 13)
        await a.answer(one.deal.provider, number, one.answer.output)
        await c.until_quiet(app)
        assert (await state(app, one.job))[0] is State.REPLAYED
        assert not c.filed()


async def test_an_answer_that_leaves_the_chain_for_good_is_claimed_as_none(tmp_path, template):
    """Our demand was answered and the data found right; a reorganisation takes the answer away, and it never comes back."""
    async with contest(tmp_path, template, answer_period=300) as c, c.watcher() as app:
        a = c.arena
        (one,) = await a.serve([Deal(await a.party("mute"), sample(1), hides_output=True)])
        await a.until(lambda: bool(a.market.demands), lambda: c.turn(app))
        demand = DemandId(a.open_demand(Part.OUTPUT))
        answer_by = a.market.demands[demand].answer_by
        await a.answer(one.deal.provider, demand, one.answer.output)
        since = await a.blocks.head()
        await c.until_quiet(app)
        assert (await state(app, one.job))[0] is State.REPLAYED
        depth = (await a.blocks.head()).number - since.number + 1
        sender = bytes.fromhex(one.deal.provider.address[2:])
        a.devnet.node.rewrite(depth, depth + 1, lambda tx: tx.sender != sender)
        assert (await app.adapter.demand_status(demand)).outcome is DemandOutcome.OPEN
        await a.blocks.travel(answer_by)
        for _ in range(10):  # the arena's own history is of the chain before
            await app.step()
            await a.blocks.tick()
        assert (await app.adapter.demand_status(demand)).outcome is DemandOutcome.LOST
        assert (await state(app, one.job))[0] is State.WITHDRAWN


class Dying(ToyWorkers):
    """Workers that die until the chain's time is ``well``."""

    def __init__(self, arena) -> None:
        super().__init__()
        self.arena, self.well, self.deaths = arena, 0, 0

    async def replay(self, request):
        if await self.arena.blocks.now() < self.well:
            self.deaths += 1
            return Inconclusive(Reason.CRASHED, "signal 9")
        return await super().replay(request)


async def test_workers_that_die_do_not_use_up_all_tries_where_time_seems_short(tmp_path, template):
    """By what was learned (a deep reorganisation) a challenge would be late; the window is open for twenty minutes."""
    async with contest(tmp_path, template, window=1_500) as c:
        a = c.arena
        c.workers = Dying(a)
        c.settings = replace(c.settings, replay=replace(c.settings.replay, attempts=9))
        async with c.watcher() as app:
            async with app.store.begin(await app.clock()) as unit:
                await app.learned.add(unit, "depth", 1_450.0)
            (one,) = await a.serve([Deal(await a.party("cheat"), sample(1), CHEAT)])
            c.workers.well = await a.blocks.now() + 400
            await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
            assert c.once(one.job)
            assert 3 <= c.workers.deaths < 9


async def test_a_false_root_is_filed_though_its_output_is_withheld(tmp_path, template):
    """There is nothing to wait for: whatever the data are, the root is not what the model yields."""
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a = c.arena
        (one,) = await a.serve([Deal(await a.party("mute"), sample(1), CHEAT, hides_output=True)])
        await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
        assert c.once(one.job)
        assert not a.events("Demanded")


async def test_garbage_is_no_answer_and_who_gives_nothing_else_loses(tmp_path, template):
    async with contest(tmp_path, template, answer_period=300) as c, c.watcher() as app:
        a = c.arena
        (one,) = await a.serve([Deal(await a.party("mute"), sample(1), hides_output=True)])
        a.room.put(one.answer.output_root, b"garbage")
        await a.until(lambda: bool(a.market.demands), lambda: c.turn(app))
        number = a.open_demand(Part.OUTPUT)
        for data in (b"garbage", one.answer.output + b"\0", sample(2)):
            with pytest.raises(ActorFailed):
                await a.answer(one.deal.provider, number, data)
        await a.blocks.travel(a.market.demands[number].answer_by)
        await c.until_quiet(app)
        assert [e["outcome"] for e in a.events("DemandClosed")] == [2]
        assert not c.filed(), "lost by its silence, accused of nothing else"
        assert (await state(app, one.job))[0] is State.WITHDRAWN


@pytest.mark.parametrize("paid", [OnPayment.REVERTS, OnPayment.BURNS])
async def test_accounts_that_refuse_to_be_paid_keep_nothing_of_ours(tmp_path, template, paid):
    """Provider, requester and a rival challenger are contracts that revert, or burn all gas, when ether comes in."""
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a = c.arena
        cheat, orders, rival = [await a.party(name, paid) for name in ("cheat", "orders", "rival")]
        (one,) = await a.serve([Deal(cheat, sample(1), CHEAT, requester=orders)])
        a.sits = False
        await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
        await accuse(a, rival, one.job)
        a.sits = True
        await c.until_quiet(app)
        assert c.once(one.job)
        assert (await state(app, one.job))[0] is State.WITHDRAWN
        await a.settle(rival, 2)
        for poor in (orders, rival):
            assert a.market.balances[poor.address] > 0
            with pytest.raises(ActorFailed):
                await a.act([poor.does(a.calls.withdraw())])
        async with app.store.read() as view:
            rows = await view.transactions.about(one.job)
        assert {row.state for row in rows} == {TxState.FINAL}, "none of ours reverted or ran out of gas"
        for row in rows:
            assert row.gas_used < min(attempt.gas for attempt in row.attempts)
