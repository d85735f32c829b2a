"""Windows that close and open again: a demand made in the last minute and answered when the time is over; and windows of
which the index knows less than the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from challenger.chain.rpc import Rpc
from challenger.domain import CommitmentId, DemandId, DemandOutcome, Part, State
from challenger.protocols.reference_calls import PARTS
from challenger.service import approve as lift
from challenger.sim.foes.arena import BLOCK, Deal, sample
from challenger.sim.foes.baits import Bait, last_bit
from challenger.store.keep import EVERYTHING
from replay.layout import bundle_root
from tests.sim.foes_stage import contest, history, state
from tests.sim.test_foes_rivals import accuse

CHEAT = Bait(last_bit)


@asynccontextmanager
async def cheated(tmp_path, template, **rules) -> AsyncIterator[tuple[Any, Any]]:
    """One false answer to an input that stands behind an address, where everybody can have it."""
    async with contest(tmp_path, template, **({"window": 900, "answer_period": 1_200} | rules)) as c:
        a = c.arena
        a.room.put(bundle_root(sample(1)), sample(1))
        (one,) = await a.serve([Deal(await a.party("cheat"), sample(1), CHEAT, hides_input=True)])
        yield c, one


async def demanded(c, one, *, left: int = 24, part: Part = Part.INPUT) -> int:
    """A friend of the cheat demands what everybody has, so many seconds before the window closes."""
    a, friend = c.arena, await c.arena.party("friend")
    await a.blocks.travel(a.market.jobs[one.job].closes - left)
    call = a.calls.demand(CommitmentId(one.job), part, 0, a.deployment.params.demand_bond)
    await a.act([friend.does(call)])
    (number,) = [demand.id for demand in a.market.demands.values() if PARTS[demand.part] is part]
    return number


async def answered(c, number: int) -> None:
    await c.arena.answer(c.arena.requester, number, sample(1))


async def paused(app) -> None:
    async with app.store.begin(await app.clock()) as unit:
        await unit.approvals.pause("person", EVERYTHING, "by ada: lunch")


async def stepped(c, app, count: int) -> None:
    """The chain's loop alone: nothing is judged."""
    for _ in range(count):
        await app.step()
        await c.arena.blocks.tick()


async def missed(app) -> list[str]:
    return [about for name, about in app.telemetry.alerts.active() if name == "missed"]


@pytest.mark.parametrize("left", [24, 480])
async def test_a_paused_fraud_is_filed_in_the_window_that_a_late_answer_opens(tmp_path, template, left):
    """Made long before the close or in its last seconds: the demand is open beyond it, and then it is answered."""
    async with cheated(tmp_path, template) as (c, one), c.watcher() as app:
        a = c.arena
        await paused(app)
        await c.turns(app, 6)
        assert (await state(app, one.job))[0] is State.CONFIRMED
        number = await demanded(c, one, left=left)
        first = a.market.jobs[one.job].closes
        await c.turns(app, 3)
        await a.blocks.travel(first + 120)
        await c.turns(app, 2)
        found, why = await state(app, one.job)
        assert found is State.CONFIRMED, f"not given up: {why}"
        assert why.startswith(f"window: it closed; demand {number} over it is open")
        assert "before that, paused: by ada: lunch" in why
        await answered(c, number)
        assert a.market.jobs[one.job].closes > first, "the protocol's rule for an answer"
        await c.turns(app, 2)
        await lift(app.store, await app.clock(), "", "ada", "back")
        await c.until_quiet(app)
        assert c.once(one.job)
        assert (await state(app, one.job))[0] is State.WITHDRAWN
        assert not await missed(app)


async def test_what_was_not_judged_yet_is_judged_in_the_window_that_a_late_answer_opens(tmp_path, template):
    async with cheated(tmp_path, template) as (c, one), c.watcher() as app:
        a = c.arena
        await stepped(c, app, 8)
        number = await demanded(c, one)
        await a.blocks.travel(a.market.jobs[one.job].closes + 60)
        await app.step()
        await app.investigate()
        found, why = await state(app, one.job)
        assert found is State.SAMPLED
        assert why == f"window: it closed; demand {number} over it is open, and its answer opens it again"
        await answered(c, number)
        await c.until_quiet(app)
        assert c.once(one.job)
        assert (await state(app, one.job))[0] is State.WITHDRAWN


async def test_a_case_that_was_being_filed_goes_back_and_is_filed_when_the_window_opens_again(tmp_path, template):
    """Our transactions found no block before the close."""
    async with cheated(tmp_path, template) as (c, one), c.watcher() as app:
        a = c.arena
        a.devnet.node.censored = frozenset({bytes.fromhex(c.account[2:])})
        await c.turns(app, 6)
        assert (await state(app, one.job))[0] is State.FILING
        number = await demanded(c, one)
        await a.blocks.travel(a.market.jobs[one.job].closes + 60)
        await c.turns(app, 6)
        assert "expired" not in await history(app, one.job)
        a.devnet.node.censored = frozenset()
        await answered(c, number)
        await c.until_quiet(app)
        assert c.once(one.job)
        assert (await state(app, one.job))[0] is State.WITHDRAWN


async def test_a_demand_that_can_be_answered_no_more_keeps_no_case(tmp_path, template):
    """And nobody claims it. What kept the case from being filed is told with the miss."""
    async with cheated(tmp_path, template, answer_period=300) as (c, one), c.watcher() as app:
        a = c.arena
        await paused(app)
        await c.turns(app, 6)
        number = await demanded(c, one)
        await a.blocks.travel(a.market.demands[number].answer_by - 24)
        await c.turns(app, 1)
        assert (await state(app, one.job))[0] is State.CONFIRMED
        await c.turns(app, 4)
        found, why = await state(app, one.job)
        assert (found, why) == (State.EXPIRED, "window: it closed; before that, paused: by ada: lunch")
        assert await missed(app) == ["0x" + one.job.hex()]


async def test_what_was_given_up_is_taken_up_again_with_the_block_that_said_so(tmp_path, template):
    """A rival's dispute ran out, and with it the case; a reorganisation has the dispute open again."""
    async with cheated(tmp_path, template, ruling_period=3_600) as (c, one), c.watcher() as app:
        a = c.arena
        await paused(app)
        rival, settler = await a.party("rival"), await a.party("settler")
        dispute = await accuse(a, rival, one.job)
        a.sits = False
        await c.turns(app, 6)
        await a.blocks.travel(a.market.disputes[dispute].ruling_by)
        before = await a.blocks.head()
        await a.settle(settler, dispute)
        await stepped(c, app, 3)
        assert (await state(app, one.job))[0] is State.EXPIRED
        sender = bytes.fromhex(settler.address[2:])
        depth = (await a.blocks.head()).number - before.number
        a.devnet.node.rewrite(depth, depth + 1, lambda tx: tx.sender != sender)
        await app.step()
        assert "taken-back" in await history(app, one.job)
        found, why = await state(app, one.job)
        assert found is State.CONFIRMED
        assert f"dispute {dispute} over it is open" in why
        assert "before that, paused: by ada: lunch" in why


# what the index does not know


async def test_a_window_that_was_extended_while_away_is_not_closed_by_what_the_index_knew(tmp_path, template):
    """Replays begin before the index has read on: the chain says what is open, and it is judged at once."""
    async with cheated(tmp_path, template) as (c, one):
        a = c.arena
        async with c.watcher() as app:
            await stepped(c, app, 8)
            assert (await state(app, one.job))[0] is State.SAMPLED
        number = await demanded(c, one)
        first = a.market.jobs[one.job].closes
        await a.blocks.travel(first - 12)
        await answered(c, number)
        await a.blocks.travel(first + 60)
        async with c.watcher() as app:
            for _ in range(3):
                await app.gather()
                await app.investigate()
            assert (await state(app, one.job))[0] is State.CONFIRMED
            await c.until_quiet(app)
            assert c.once(one.job)


async def test_what_closed_while_away_is_given_up_once_the_index_has_read_so_far(tmp_path, template):
    async with cheated(tmp_path, template) as (c, one):
        async with c.watcher() as app:
            await stepped(c, app, 8)
        await c.arena.blocks.travel(c.arena.market.jobs[one.job].closes + 60)
        async with c.watcher() as app:
            await app.investigate()
            found, why = await state(app, one.job)
            assert found is State.SAMPLED
            assert why == "window: it closed; index and endpoint have not both come as far as its close"
            await c.turns(app, 2)
            assert await state(app, one.job) == (State.EXPIRED, "the window closed before it was judged")


class Refusing:
    """An endpoint that serves blocks and logs, and no state when it is its hour. ``asked``: calls, counted."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.refuses, self.asked = inner, False, 0

    async def make_request(self, method: Any, params: Any) -> Any:
        self.asked += method == "eth_call"
        if self.refuses and method == "eth_call":
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "state is away"}}
        return await self.inner.make_request(method, params)

    async def make_batch_request(self, requests: Any) -> Any:
        return await self.inner.make_batch_request(requests)


async def test_an_endpoint_without_state_keeps_a_case_and_that_is_said(tmp_path, template):
    async with cheated(tmp_path, template) as (c, one):
        a = c.arena
        refusing = Refusing(a.devnet.provider)
        c.rpc = Rpc(refusing, name="refusing", backoff=0.0)
        async with c.watcher() as app:
            await stepped(c, app, 8)
            asked = refusing.asked
            await app.gather()
            await app.investigate()
            assert (await state(app, one.job))[0] is State.REPLAYED
            assert refusing.asked == asked, "nothing is asked about a window that is open"
            refusing.refuses = True
            await a.blocks.travel(a.market.jobs[one.job].closes + 60)
            for _ in range(3):
                await app._follow()
                await app.investigate()
                await a.blocks.tick()
            found, why = await state(app, one.job)
            assert found is State.REPLAYED
            assert why.startswith("window: it closed by the index; the chain does not say so: ")
            assert "state is away" in why
            refusing.refuses = False
            await c.turns(app, 3)
            assert (await state(app, one.job))[0] is State.EXPIRED
            assert await missed(app) == ["0x" + one.job.hex()]


# the chain is faster


@pytest.mark.parametrize("judged", [0, 1, 6])
async def test_what_is_made_final_in_the_first_block_that_allows_it_is_a_miss_all_the_same(tmp_path, template, judged):
    """Drawn and not judged, suspected, confirmed and kept back by a pause: the provider waits for its fee, and not for us."""
    async with cheated(tmp_path, template) as (c, one), c.watcher() as app:
        a = c.arena
        await paused(app)
        await stepped(c, app, 8)
        for _ in range(judged):
            await app.gather()
            await app.investigate()
            await app.step()
        before, _ = await state(app, one.job)
        await a.blocks.travel(a.market.jobs[one.job].closes - BLOCK)
        await a.act([one.deal.provider.does(a.calls.finalise(CommitmentId(one.job)))])
        await c.turns(app, 2)
        found, why = await state(app, one.job)
        assert found is State.EXPIRED
        assert (before, why) in {
            (State.SAMPLED, "window: the job is final and it was not judged"),
            (State.REPLAYED, "window: the job is final and its fraud was not confirmed"),
            (
                State.CONFIRMED,
                "window: the job is final although its fraud was confirmed here; before that, paused: by ada: lunch",
            ),
        }
        assert await missed(app) == (["0x" + one.job.hex()] if judged else []), "what was only drawn is counted"


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_fraud_whose_answer_leaves_the_chain_is_filed_or_its_demand_claimed(tmp_path, template, comes_back):
    """The input that our demand brought shows a fraud, filing is paused, and a reorganisation takes the answer away."""
    async with contest(tmp_path, template, answer_period=300) as c, c.watcher() as app:
        a = c.arena
        (one,) = await a.serve([Deal(await a.party("cheat"), sample(1), CHEAT, hides_input=True)])
        await a.until(lambda: bool(a.market.demands), lambda: c.turn(app))
        await paused(app)
        demand = DemandId(a.open_demand(Part.INPUT))
        answer_by = a.market.demands[demand].answer_by
        await a.answer(a.requester, demand, sample(1))
        since = await a.blocks.head()
        await c.until_quiet(app)
        assert (await state(app, one.job))[0] is State.CONFIRMED
        depth = (await a.blocks.head()).number - since.number + 1
        sender = bytes.fromhex(a.requester.address[2:])
        a.devnet.node.rewrite(depth, depth + 1, lambda tx: comes_back or tx.sender != sender)
        await lift(app.store, await app.clock(), "", "ada", "back")
        if not comes_back:
            await a.blocks.travel(answer_by)
        for _ in range(30):  # the arena's own history is of the chain before
            await app.step()
            await app.gather()
            await app.investigate()
            await a.blocks.tick()
        async with app.store.read() as view:
            disputes = await view.chain.disputes(commitment=one.job)
        assert [row.challenger for row in disputes] == [c.account] * comes_back
        if comes_back:
            assert (await state(app, one.job))[0] is State.DISPUTING
        else:
            assert (await app.adapter.demand_status(demand)).outcome is DemandOutcome.LOST
            assert (await state(app, one.job))[0] is State.WITHDRAWN
