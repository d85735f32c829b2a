"""Replacements: when they are due, what they offer, and what a refusal makes of them."""

from __future__ import annotations

from dataclasses import replace

from sender_stage import GWEI, POLICY, Stage, Unreliable

from challenger.chain.fees import FeePolicy
from challenger.chain.rpc import Rpc
from challenger.domain import TxState, Wei
from challenger.errors import RpcError

S = TxState


async def test_a_stuck_transaction_is_replaced_at_the_same_nonce_with_a_higher_fee(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.step()
    await place.mine_without_us(4)  # 48 seconds
    await sender.step()
    first, second = (await place.row(1)).attempts
    assert first.nonce == second.nonce == 0
    assert second.max_fee * 10 >= first.max_fee * 11
    assert second.tip * 10 >= first.tip * 11
    await place.finish(sender)
    assert await place.mined() == {1: 1}
    assert (await place.row(1)).hash == second.hash


async def test_the_version_that_was_thought_dead_may_be_the_one_that_is_mined(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.step()
    await place.mine_without_us(4)
    place.node.swallow = True  # the replacement gets lost
    await sender.step()
    await place.devnet.mine()
    await sender.step()
    row = await place.row(1)
    assert len(row.attempts) == 2
    assert row.hash == row.attempts[0].hash
    assert await place.mined() == {1: 1}


async def test_urgency_of_those_behind_pushes_the_one_in_front(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.step()
    await place.mine_without_us(1)  # 12 s: too early for a replacement on its own account
    await sender.step()
    assert len((await place.row(1)).attempts) == 1
    await place.propose(2, lasts=60)
    await sender.step()
    assert len((await place.row(1)).attempts) == 2
    await place.finish(sender)
    assert await place.mined() == {1: 1, 2: 1}


async def test_the_fee_cap_holds_and_is_told(place: Stage) -> None:
    policy = replace(POLICY, fees=FeePolicy(cap=Wei(3 * GWEI), tip=Wei(GWEI)))
    await place.propose(1)
    sender = await place.sender(policy=policy)
    await sender.step()
    kinds = []
    for _ in range(6):
        await place.mine_without_us(4)
        kinds += [t.kind for t in (await sender.step()).troubles]
    assert "fees" in kinds
    assert max(a.max_fee for a in (await place.row(1)).attempts) <= 3 * GWEI
    await place.finish(sender)
    assert await place.mined() == {1: 1}


async def test_a_refusal_that_no_fee_would_change_raises_none(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender(node=Refusing(place.devnet.rpc, "insufficient funds for gas * price + value"))
    for _ in range(3):
        report = await sender.step()
        assert [t.kind for t in report.troubles] == ["refused"]
        await place.mine_without_us(4)
    assert await place.states(1) == [S.SIGNED]
    assert len((await place.row(1)).attempts) == 1
    await place.finish(await place.sender())
    assert await place.mined() == {1: 1}


async def test_a_refusal_as_too_cheap_is_met_by_a_higher_offer(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender(node=Refusing(place.devnet.rpc, "replacement transaction underpriced"))
    await sender.step()
    await place.mine_without_us(4)
    await sender.step()
    assert len((await place.row(1)).attempts) == 2
    await place.finish(await place.sender())
    assert await place.mined() == {1: 1}


class Refusing(Unreliable):
    """Takes no transaction."""

    def __init__(self, rpc: Rpc, reason: str) -> None:
        super().__init__(rpc)
        self.reason = reason

    def __getattr__(self, name: str) -> object:
        if name == "send_raw":

            async def refuse(_raw: bytes) -> None:
                raise RpcError(self.reason)

            return refuse
        return super().__getattr__(name)
