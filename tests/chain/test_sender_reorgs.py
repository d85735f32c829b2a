"""Transactions whose block leaves the chain, before and after they counted as final."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sender_stage import GWEI, POLICY, START, Stage, Unreliable

from challenger.domain import BlockNumber, Call, Hash32, TxState, UnixTime, Wei
from challenger.sim.wallet import Wallet

S = TxState


async def test_reorged_out_goes_back_to_sent_and_the_same_bytes_go_out_again(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.step()
    await place.devnet.mine(2)
    await sender.step()
    assert await place.states(1) == [S.MINED]
    await place.devnet.reorg(2)
    report = await sender.step()
    assert [(m.old, m.new) for m in report.moved] == [(S.MINED, S.SENT)]
    assert place.node.sends == [(await place.row(1)).attempts[0].raw] * 2
    await place.finish(sender)
    assert await place.mined() == {1: 1}
    assert len((await place.row(1)).attempts) == 1


async def test_a_reorg_into_another_block_is_followed(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.step()
    await place.devnet.mine(2)
    await sender.step()
    before = await place.row(1)
    await place.devnet.reorg(2, keep=True)
    await sender.step()
    after = await place.row(1)
    assert (before.state, after.state) == (S.MINED, S.FINAL)  # the new branch is one block longer
    assert before.block_hash != after.block_hash
    assert after.block_hash == (await place.devnet.rpc.block(after.block or 0)).hash


async def test_a_receipt_of_a_block_that_is_not_the_chains_makes_nothing_final(place: Stage) -> None:
    """Behind one URL may stand two endpoints on two forks."""
    await place.propose(1)
    await (await place.sender()).step()
    await place.devnet.mine(4)
    forked = await place.sender(node=Forked(place.devnet.rpc))
    report = await forked.step()
    assert [t.kind for t in report.troubles] == ["endpoint"]
    assert await place.states(1) == [S.MINED]
    await (await place.sender()).step()
    assert await place.states(1) == [S.FINAL]


class Forked(Unreliable):
    """Its receipts are another fork's."""

    def __getattr__(self, name: str) -> object:
        real = super().__getattr__(name)
        if name != "receipt":
            return real

        async def receipt(tx_hash: bytes) -> object:
            return replace(await real(tx_hash), block_hash=Hash32(b"\x0f" * 32))  # type: ignore[operator]

        return receipt


async def test_a_reorg_deeper_than_finality_brings_the_very_same_transaction_back(place: Stage) -> None:
    await place.propose(1, 2)
    sender = await place.sender()
    await place.finish(sender)
    await place.devnet.reorg(3)
    assert await place.mined() == {}
    await place.propose(3)
    reports = []
    for _ in range(6):
        reports.append(await sender.step())
        await place.devnet.mine()
    assert [t.kind for report in reports for t in report.troubles].count("reorg") == 2
    reopened = [m for report in reports for m in report.moved if (m.old, m.new) == (S.FINAL, S.SENT)]
    assert sorted(m.intent.subject for m in reopened) == ["epoch/1", "epoch/2"], "and they are followed again"
    assert len((await place.row(1)).attempts) == 1
    await place.finish(sender)
    assert await place.mined() == {1: 1, 2: 1, 3: 1}
    assert await place.own_rows() == []


async def test_what_was_final_and_is_no_longer_is_followed_to_what_the_new_branch_says(place: Stage) -> None:
    """Found by a simulated world: a challenge that counted as final was mined again in a deeper reorg, where it
    reverted, and its commitment waited for it until its window was over."""
    until = START + 600
    runtime = bytes.fromhex(f"63{until:08x}4211600b57005b60006000fd")  # reverts when the block's time is past it
    wallet = Wallet(place.devnet.rpc, place.devnet.accounts[0].key, "deployer")
    await place.devnet.automine(True)
    shop, _ = await wallet.create(bytes.fromhex("6011600c60003960116000f3") + runtime)
    await place.devnet.automine(False)
    sender = await place.sender()
    call = Call(shop, b"", Wei(0))
    await sender.submit(replace(await place.intent(1), call=call), UnixTime(0))
    await place.finish(sender)
    row = await place.row(1)
    assert row.state is S.FINAL
    async with place.store.begin(UnixTime(START)) as unit:  # the index does so when it rewinds below its block
        assert row.block is not None
        await unit.transactions.reopen_above(row.block)
        assert (await unit.transactions.get(row.id)).state is S.FINAL, "its own block stays"
        await unit.transactions.reopen_above(BlockNumber(row.block - 1))
    assert await place.states(1) == [S.SENT]
    await place.devnet.reorg(3)
    await place.devnet.time_travel(to=until + 1)
    await place.devnet.rpc.send_raw(row.attempts[0].raw)
    await place.devnet.mine()
    await place.finish(sender)
    assert await place.states(1) == [S.REVERTED]


@pytest.mark.parametrize("cap", [100, 2])
async def test_a_nonce_given_up_again_after_a_deep_reorg_does_not_stop_the_sender(place: Stage, cap: int) -> None:
    """The same nonce, gas and fees would be the very transaction of the former try: it is outbid, or goes out again at the cap."""
    policy = replace(POLICY, fees=replace(POLICY.fees, cap=Wei(cap * GWEI)))
    await place.propose(1, lasts=100)
    sender = await place.sender(policy=policy)
    await sender.step()
    await place.mine_without_us(10)
    place.node.swallow = True
    await sender.step()
    await sender.step()
    await place.devnet.mine()
    place.node.swallow = False
    await place.finish(sender)
    await place.devnet.reorg(5)
    place.node.swallow = True
    for _ in range(6):
        await sender.step()
        await place.mine_without_us(1)
    place.node.swallow = False
    await place.finish(sender)
    (own,) = await place.own_rows()
    assert own.state in (S.FINAL, S.REPLACED, S.ABANDONED)
    hashes = [attempt.hash for attempt in own.attempts]
    assert len(hashes) == len(set(hashes))
