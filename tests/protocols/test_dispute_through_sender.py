"""From an accusation to money back, every transaction by the sender: once in calm, once with deaths and reorgs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from market_stage import Stage, accuse

from challenger import adjudicator
from challenger.adjudicator import Bench
from challenger.chain.sender import Sender
from challenger.chain.step import SenderPolicy
from challenger.domain import Action, CommitmentId, DisputeClosed, DisputeOpened, DisputeOutcome, TxState, UnixTime
from challenger.protocols.base import subject
from challenger.protocols.reference import explain
from challenger.protocols.reference_calls import case_digest
from challenger.store.engine import Store, create_engine, normalise
from challenger.store.outbox import Outbox
from challenger.store.schema import metadata


class Died(BaseException):
    """The process is gone."""


async def new_store(path: Path) -> Store:
    engine = create_engine(normalise(f"sqlite:///{path}"))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    return Store(engine, str(path))


async def new_sender(stage: Stage, store: Store, crossing: Callable[[str], None]) -> Sender:
    wallet = stage.wallets[2]
    outbox = await Outbox.claim(store, wallet.address, "test", UnixTime(0))
    policy = SenderPolicy(stage.deployment.chain, confirmations=2)
    return Sender(stage.rpc, outbox, wallet.address, policy, signer=wallet.signer, explain=explain, crossing=crossing)


async def judges(stage: Stage, commitment: CommitmentId, opened: DisputeOpened) -> None:
    standing = await stage.adapter.hydrate(commitment)
    digest = case_digest(
        commitment, standing.output_root, standing.state_root, opened.output_root, opened.state_root, opened.evidence
    )
    bench = Bench(stage.deployment.chain, stage.deployment.adjudicator, stage.deployment.market)
    rulings = []
    for wallet in stage.wallets[4:7]:
        fraud = adjudicator.is_fraud(standing.output_root, standing.state_root, opened.output_root, opened.state_root)
        rulings.append(adjudicator.sign(bench, wallet.signer, opened.dispute, digest, fraud=bool(fraud)))
    call = adjudicator.rule(bench, rulings, stage.deployment.params.quorum)
    assert call is not None
    await stage.wallets[0].send(call)


async def next_intent(stage: Stage, commitment: CommitmentId, ruled: list[int]) -> tuple[bool, object]:
    """What a pursuing pipeline would ask the adapter for, from the chain alone."""
    events = await stage.events()
    opened = [e for e in events if isinstance(e, DisputeOpened)]
    if not opened:
        return False, await stage.adapter.open_dispute(accuse(commitment))
    if not [e for e in events if isinstance(e, DisputeClosed)]:
        if not ruled:
            ruled.append(1)
            await judges(stage, commitment, opened[0])
        return False, await stage.adapter.advance(opened[0].dispute)
    collect = await stage.adapter.collect(subject(commitment))
    return collect is None, collect


async def pursue(
    stage: Stage, store: Store, commitment: CommitmentId, *, die_every: int = 0, reorgs: bool = False
) -> None:
    count = 0

    def crossing(_name: str) -> None:
        nonlocal count
        count += 1
        if die_every and count % die_every == 0:
            raise Died

    sender = await new_sender(stage, store, crossing)
    ruled: list[int] = []
    for turn in range(80):
        try:
            done, intent = await next_intent(stage, commitment, ruled)
            if intent is not None:
                await sender.submit(intent, UnixTime(0))  # type: ignore[arg-type]
            await sender.step()
        except Died:
            sender = await new_sender(stage, store, crossing)
            done = False
        async with store.read() as view:
            open_rows = await view.transactions.unfinished(stage.wallets[2].address)
        if done and not open_rows:
            return
        if reorgs and turn % 3 == 2:
            await stage.devnet.reorg(1, keep=bool(ruled))  # the judges do not send twice
        else:
            await stage.devnet.mine()
    raise AssertionError("the dispute did not end")


@pytest.mark.parametrize(("die_every", "reorgs"), [(0, False), (3, False), (0, True), (2, True)])
async def test_a_dispute_goes_from_seal_to_withdrawal(
    stage: Stage, tmp_path: Path, die_every: int, reorgs: bool
) -> None:
    commitment = await stage.commit()
    before = await stage.rpc.balance(stage.wallets[2].address)
    await stage.devnet.automine(False)
    async with await new_store(tmp_path / "store.sqlite") as store:
        await pursue(stage, store, commitment, die_every=die_every, reorgs=reorgs)
        async with store.read() as view:
            rows = await view.transactions.in_states(list(TxState))
        assert {row.intent.action: row.state for row in rows} == dict.fromkeys(
            (Action.SEAL, Action.CHALLENGE, Action.SETTLE, Action.WITHDRAW), TxState.FINAL
        )
        assert len(rows) == 4
    events = await stage.events()
    assert len([e for e in events if isinstance(e, DisputeOpened)]) == 1
    assert [e.outcome for e in events if isinstance(e, DisputeClosed)] == [DisputeOutcome.CHALLENGER]
    gained = await stage.rpc.balance(stage.wallets[2].address) - before
    bounty = stage.adapter.params.bounty_of(stage.adapter.params.job_collateral)
    assert bounty - 10**16 < gained < bounty  # less gas
    assert await stage.rpc.nonce(stage.wallets[2].address) == 4
