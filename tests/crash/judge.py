"""How a life must have ended, whoever died in it, and wherever."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from challenger.chain.codec import Event
from challenger.chain.follower import Follower, Options
from challenger.chain.step import OWN_PROTOCOL
from challenger.domain import State
from challenger.protocols.reference_logs import MarketLogs
from challenger.sim.history import whole
from challenger.store import migrate
from challenger.store.engine import Store, open_store
from challenger.store.heads import FilePublisher, verify
from challenger.store.rows import TransactionRow
from tests.crash.life import Life
from tests.store.chains import dump

#: ``JOB_FRAUD`` of MarketTypes.sol.
_FRAUD = 2


def check(life: Life) -> None:
    """Exactly one challenge (or demand) for each answer, none missed, and a record that holds."""
    asyncio.run(_check(life))


async def _check(life: Life) -> None:
    where, rpc = life.world.deployment, life.devnet.rpc
    _opened(life, (await whole(rpc, (where.market, where.adjudicator), where.start_block)).events)
    async with open_store(f"sqlite:///{life.database}") as store:
        async with store.read() as view:
            for job in life.jobs:
                item = await view.work.item(job)
                assert item is not None
                assert item.work.state == life.story.ends, item.work
        published = (await FilePublisher(life.heads).published())[life.lost :]
        report = await verify(store, published)
        assert report.broken is None, report
        assert report.bound == report.entries
        await _nonces(life, store)
        assert life.story.fails or not _failed(life), "sent in vain"
        assert life.world.market.balances.get(life.account, 0) == 0, "money left in the contract"
        await _equals_a_clean_index(life, store)


def _opened(life: Life, events: list[Event]) -> None:
    opened = Counter(
        (event.name, event.args["job"])
        for event in events
        if event.name in ("Demanded", "Challenged") and life.account in event.args.values()
    )
    wanted = dict.fromkeys([(name, job) for name in life.story.opens for job in life.jobs], 1)
    if life.story.ends is State.FILED_BY_OTHER:
        assert all(opened[one] <= 1 for one in wanted), opened
        assert all(life.world.market.jobs[job].status == _FRAUD for job in life.jobs), "nobody was convicted"
    else:
        assert opened == wanted, opened


def _failed(life: Life) -> list[str]:
    """Our transactions that failed in a block."""
    return [
        receipt["transactionHash"]
        for block in life.devnet.node.receipts
        for receipt in block
        if receipt["from"] == life.account and receipt["status"] != "0x1"
    ]


async def _nonces(life: Life, store: Store) -> None:
    rpc = life.devnet.rpc
    signed = _signed(await _transactions(store), life)
    if life.lost_record.exists():  # what is not known any more was signed all the same
        for nonce, payload in _signed(await _lost(life.lost_record), life).items():
            assert signed.setdefault(nonce, payload) == payload, f"two payloads for nonce {nonce}"
    assert sorted(signed) == list(range(await rpc.nonce(life.account))), "a gap in the nonces"
    assert await rpc.nonce(life.account) == await rpc.nonce(life.account, "pending")


def _signed(rows: list[TransactionRow], life: Life) -> dict[int, Any]:
    """By nonce what was signed with it, from one row alone; where a nonce may be given up, the empty one beside it."""
    owners: dict[int, dict[int, TransactionRow]] = {}
    for row in rows:
        for attempt in row.attempts:
            owners.setdefault(attempt.nonce, {})[row.id] = row
    for nonce, found in owners.items():
        kept = [row for row in found.values() if not life.story.gives_up or row.intent.protocol != OWN_PROTOCOL]
        assert len(kept) <= 1, f"two payloads for nonce {nonce}: {found}"
    return {nonce: {row.intent.call for row in found.values()} for nonce, found in owners.items()}


async def _lost(path: Path) -> list[TransactionRow]:
    async with open_store(f"sqlite:///{path}") as store:
        return await _transactions(store)


async def _transactions(store: Store) -> list[TransactionRow]:
    async with store.read() as view:
        counts = await view.transactions.counts()
        return [row for state in counts for row in await view.transactions.in_states([state])]


async def _equals_a_clean_index(life: Life, store: Store) -> None:
    url = f"sqlite:///{life.folder / 'clean.sqlite'}"
    await migrate.upgrade(url)
    where = life.world.deployment
    async with open_store(url) as clean:
        options = Options(start=where.start_block, depth=life.settings.chain.ledger_depth)
        follower = Follower(life.devnet.rpc, clean.index(), MarketLogs(where.market), options)
        while await follower.step():
            pass
        expected, found = await dump(clean), await dump(store)
    # what we decided is not the chain's, and which empty blocks are kept is a matter of the ranges read
    for name in ("events", "models", "tasks", "commitments", "disputes", "demands"):
        assert found[name] == expected[name], name
