"""A challenge that counted as final and is not in the chain: found out, and filed again in time."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import update

from challenger.chain import signers
from challenger.chain.devnet.pool import Pool
from challenger.domain import Action, Hash32, State, TxState
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.world import WATCHER
from challenger.store import open_store
from challenger.store.outbox import Outbox
from challenger.store.schema import work
from tests.integration.test_watcher import scene


async def opening(app):
    """The row that is to open a dispute, once it is signed."""
    async with app.store.read() as view:
        rows = await view.transactions.in_states([TxState.SENT, TxState.SIGNED])
    return next((row for row in rows if row.intent.action is Action.CHALLENGE), None)


async def test_what_a_forked_endpoint_called_final_is_filed_again(tmp_path):
    """The endpoint's fork had the challenge, and the chain gave its nonce to another transaction."""
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s:
        account = s.devnet.accounts[WATCHER]
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            await s.devnet.automine(False)
            while (row := await opening(app)) is None:
                await s.turn(app)
        await s.devnet.run(lambda methods: setattr(methods._node, "pool", Pool()))
        await s.devnet.reorg(1)  # should it be mined by now, it is no more
        head = await s.devnet.rpc.block("latest")
        async with open_store(s.settings.store.url) as store:
            outbox = await Outbox.claim(store, account.address, "the fork", head.time)
            fork = Hash32(b"\x01" * 32)
            await outbox.mined(row.id, row.attempts[0].hash, head.number, fork, 1, head.time, mined_at=head.time)
            await outbox.closed(row.id, TxState.FINAL, "", head.time)
        fields = {
            "chainId": s.world.deployment.chain,
            "nonce": row.nonce,
            "to": account.address,
            "value": 0,
            "data": b"",
            "gas": 21_000,
            "maxFeePerGas": 90 * 10**9,
            "maxPriorityFeePerGas": 50 * 10**9,
        }
        await s.devnet.rpc.send_raw((await signers.from_key(account.key).sign_transaction(fields)).raw)
        await s.devnet.mine()
        async with s.watcher(correlated_providers=100) as app:
            await s.until_quiet(app)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
            assert (await s.states(app))[State.WITHDRAWN] == len(s.jobs(Truth.WRONG))


async def test_what_a_fork_called_failed_and_the_chain_has_is_followed_to_its_end(tmp_path):
    """Found by a simulated world: on a fork the challenge reverted and its case went back to be filed again; on the chain
    the dispute stood, and nobody settled it or took its bond back."""
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s, s.watcher(correlated_providers=100) as app:
        await s.world.play()
        while not (await s.states(app))[State.DISPUTING]:
            await s.turn(app, people=False)
        async with app.store.begin(await app.clock()) as unit:
            back = update(work).where(work.c.state == State.DISPUTING).values(state=State.CONFIRMED)
            await unit.connection.execute(back)
        await s.until_quiet(app)
        assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
        assert (await s.states(app))[State.WITHDRAWN] == len(s.jobs(Truth.WRONG))
