"""Others who challenge: a copy-cat, a provider that accuses itself through a friend, a rival who was first and fails."""

from __future__ import annotations

from collections import Counter

from challenger.app import App
from challenger.domain import Action, CommitmentId, Hash32, State, TxState
from challenger.protocols.reference_calls import Claim, seal_digest
from challenger.sim.foes.arena import Arena, Deal, Party, sample
from challenger.sim.foes.baits import Bait, last_bit
from challenger.sim.foes.crowds import CopyCat
from tests.sim.foes_stage import Contest, contest, history, state

CHEAT = Bait(last_bit)


async def fraud(arena: Arena, *, by: Party | None = None):
    (one,) = await arena.serve([Deal(by or await arena.party("cheat"), sample(1), CHEAT)])
    return one


async def accuse(arena: Arena, who: Party, job: bytes, salt: int = 0) -> int:
    """A challenge by somebody else, sealed first; the number of the dispute. The roots that it claims are sham."""
    roots = Hash32(bytes([1]) * 32), Hash32(bytes([2]) * 32)
    claim = Claim(CommitmentId(job), *roots, Hash32(bytes(32)), Hash32(salt.to_bytes(32, "big")))
    await arena.act([who.does(arena.calls.seal(seal_digest(who.address, claim)))])
    await arena.act([who.does(arena.calls.challenge(claim, arena.deployment.params.challenge_bond))])
    return arena.events("Challenged")[-1]["dispute"]


async def files_and_wins(c: Contest, app: App, job: bytes) -> None:
    """The judges rest until ours is filed; then it is heard, once, and paid out."""
    await c.arena.until(lambda: bool(c.filed()), lambda: c.turn(app))
    c.arena.sits = True
    await c.until_quiet(app)
    assert c.once(job)
    assert (await state(app, job))[0] is State.WITHDRAWN


async def test_a_copy_cat_in_the_mempool_gains_nothing(tmp_path, template):
    """Seal and reveal: whoever copies the seal cannot open it, whoever copies the claim comes second."""
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a, bond = c.arena, c.arena.deployment.params.challenge_bond
        cat = CopyCat(a.devnet, a.calls, await a.party("cat"), c.account, bond)
        c.before = cat.look
        one = await fraud(a)
        a.sits = False
        await a.until(lambda: len(a.events("Challenged")) == 2, lambda: c.turn(app))
        a.sits = True
        await c.until_quiet(app)
        assert cat.copied_seals == 1
        assert [e["challenger"] for e in a.events("Challenged")] == [c.account, cat.party.address]
        assert c.once(one.job)
        assert (await state(app, one.job))[0] is State.WITHDRAWN
        bounty = a.deployment.params.job_collateral // 2
        credited = Counter()
        for event in a.events("Credited"):
            credited[event["account"]] += event["amount"]
        assert credited[c.account] == bond + bounty
        assert cat.party.address not in credited, "its bond comes back when it settles, and no more"


async def test_a_provider_that_accuses_itself_first_takes_nothing_from_us_and_loses_what_is_burnt(tmp_path, template):
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a = c.arena
        cheat, friend = await a.party("cheat"), await a.party("friend")
        one = await fraud(a, by=cheat)
        await accuse(a, friend, one.job)
        a.sits = False
        await c.turns(app, 6)
        assert "rival: " in (await state(app, one.job))[1]
        assert not c.filed(), "its dispute decides the same; a second one could only lose its gas"
        a.sits = True
        await c.turns(app, 2)
        await a.settle(friend, 1)
        await c.until_quiet(app)
        assert (await state(app, one.job))[0] is State.FILED_BY_OTHER
        assert not c.filed()
        assert sum(e["amount"] for e in a.events("Burnt")) >= a.deployment.params.job_collateral // 2


async def test_a_rival_whose_dispute_runs_out_is_followed_by_ours_though_nobody_settles_it(tmp_path, template):
    """It can be settled by anyone: we do it, when its ruling is due or our window is near its end."""
    async with contest(tmp_path, template, window=1_200, ruling_period=180) as c, c.watcher() as app:
        a = c.arena
        one = await fraud(a)
        await accuse(a, await a.party("rival"), one.job)
        a.sits = False
        await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
        assert c.once(one.job)
        assert [e["outcome"] for e in a.events("Settled")] == [3]
        assert a.time_of(a.logged("Challenged")[-1]) < a.market.jobs[one.job].closes


async def test_a_lost_dispute_that_nobody_settles_is_settled_before_our_window_ends(tmp_path, template):
    async with contest(tmp_path, template, window=540, ruling_period=3_600) as c, c.watcher() as app:
        a = c.arena
        one = await fraud(a)
        number = await accuse(a, await a.party("rival"), one.job)
        a.sits = False
        await a.rule(number, fraud=False)
        await c.turns(app, 6)
        assert not a.events("Settled"), "whoever it belongs to has time to do so"
        await a.until(lambda: bool(c.filed()), lambda: c.turn(app))
        assert c.once(one.job)
        assert a.time_of(a.logged("Challenged")[-1]) < a.market.jobs[one.job].closes


async def test_a_dispute_lost_on_purpose_is_followed_by_ours(tmp_path, template):
    """A bench that errs once: the colluding rival's dispute goes to the provider, ours to us."""
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a = c.arena
        rival = await a.party("rival")
        one = await fraud(a)
        number = await accuse(a, rival, one.job)
        a.sits = False
        await c.turns(app, 6)
        await a.rule(number, fraud=False)
        await a.settle(rival, number)
        await files_and_wins(c, app, one.job)


async def test_slots_filled_with_shams_to_the_last_minute_only_postpone_our_challenge(tmp_path, template):
    """All slots taken just before the window closes: when one falls free, the window is open again, and so is our case."""
    async with contest(tmp_path, template, window=1_200, ruling_period=3_600) as c, c.watcher() as app:
        a = c.arena
        friend = await a.party("friend")
        one = await fraud(a)
        shams = [await accuse(a, friend, one.job, salt) for salt in range(a.deployment.params.max_disputes)]
        a.sits = False
        closes = a.market.jobs[one.job].closes
        await c.turns(app, 3)
        await a.blocks.travel(closes + 60)
        await c.turns(app, 3)
        found, why = await state(app, one.job)
        assert found is State.CONFIRMED, f"not given up: {why}"
        for number in shams:
            await a.rule(number, fraud=False)
            await a.settle(friend, number)
        assert a.events("WindowExtended"), "the protocol's rule for a house that was full"
        await files_and_wins(c, app, one.job)


async def test_a_rival_between_our_seal_and_our_challenge_saves_us_the_bond(tmp_path, template):
    async with contest(tmp_path, template, ruling_period=240) as c, c.watcher() as app:
        a = c.arena
        rival = await a.party("rival")
        one = await fraud(a)
        claim = Claim(one.job, Hash32(b"\1" * 32), Hash32(b"\2" * 32), Hash32(bytes(32)), Hash32(b"\3" * 32))
        await a.act([rival.does(a.calls.seal(seal_digest(rival.address, claim)))])
        a.sits = False
        await a.until(lambda: _sealed(a, c.account), lambda: c.turn(app))
        await a.act([rival.does(a.calls.challenge(claim, a.deployment.params.challenge_bond))])
        await c.turns(app, 5)
        found, why = await state(app, one.job)
        assert found is State.CONFIRMED
        assert "rival: " in why
        assert not c.filed()
        await a.blocks.travel(a.market.disputes[1].ruling_by)
        await a.settle(rival, 1)
        a.sits = True
        await c.until_quiet(app)
        assert c.once(one.job), "the rival failed, ours follows"


async def test_a_rival_in_the_same_block_before_ours_costs_neither_gas_nor_bond(tmp_path, template):
    """Ours was simulated on an empty queue; the margin of its gas covers the place behind another."""
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a = c.arena
        rival = await a.party("rival")
        one = await fraud(a)
        claim = Claim(one.job, Hash32(b"\1" * 32), Hash32(b"\2" * 32), Hash32(bytes(32)), Hash32(b"\3" * 32))
        await a.act([rival.does(a.calls.seal(seal_digest(rival.address, claim)))])
        a.sits = False

        async def jump() -> None:
            waits = any("0x" + tx.sender.hex() == c.account and tx.value for tx in a.devnet.node.pool)
            if waits and not a.events("Challenged"):
                hurried = a.calls.challenge(claim, a.deployment.params.challenge_bond)
                await _first(a, rival, hurried)

        c.before = jump
        await a.until(lambda: len(a.events("Challenged")) == 2, lambda: c.turn(app))
        assert [e["challenger"] for e in a.events("Challenged")] == [rival.address, c.account]
        a.sits = True
        await c.turns(app, 2)
        await a.settle(rival, 1)
        await c.until_quiet(app)
        assert (await state(app, one.job))[0] is State.WITHDRAWN
        assert "moot" in await history(app, one.job)
        async with app.store.read() as view:
            rows = await view.transactions.about(one.job)
        assert {row.state for row in rows} == {TxState.FINAL}
        assert {row.intent.action for row in rows} >= {Action.SEAL, Action.CHALLENGE, Action.SETTLE}


def _sealed(arena: Arena, account: str) -> bool:
    return any(e["challenger"] == account for e in arena.events("Sealed"))


async def _first(arena: Arena, who: Party, call) -> None:
    """Into the mempool with a tip that puts it before everything else."""
    rpc = arena.devnet.rpc
    fields = {
        "chainId": await rpc.chain_id(),
        "nonce": await rpc.nonce(who.address),
        "to": call.to,
        "value": call.value,
        "data": call.data,
        "gas": 500_000,
        "maxFeePerGas": 900 * 10**9,
        "maxPriorityFeePerGas": 800 * 10**9,
    }
    await rpc.send_raw((await who.wallet.signer.sign_transaction(fields)).raw)
    who.wallet.forget()
