"""One endpoint of three says that nothing can be sent: what would keep a transaction back is no single endpoint's word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sender_stage import GWEI, Stage

from challenger.chain.asking import Member
from challenger.chain.pool import PoolProvider
from challenger.chain.rpc import Rpc
from challenger.domain import TxState

S = TxState
REVERT = {"error": {"code": 3, "message": "execution reverted", "data": "0x"}}
FEES = {"oldestBlock": "0x0", "gasUsedRatio": [0.5]}
Lie = Callable[[str], Any]


class Lying:
    """An endpoint that answers some methods as it likes."""

    def __init__(self, inner: Any, lies: dict[str, Any]) -> None:
        self.inner, self.lies = inner, lies

    async def make_request(self, method: Any, params: Any) -> Any:
        answer = await self.inner.make_request(method, params)
        return self.lies.get(method, answer)


def pool(place: Stage, lies: dict[str, Any], honest: int = 2) -> tuple[Lying, Rpc]:
    """The lying one is read from first."""
    liar = Lying(place.devnet.provider, lies)
    ends = [liar, *[place.devnet.provider] * honest]
    members = [Member(Rpc(one, name=f"n{n}", attempts=1), f"host{n}") for n, one in enumerate(ends)]
    return liar, Rpc(PoolProvider(members, chain_id=31337), attempts=1)


@pytest.mark.parametrize(
    "lies",
    [
        {"eth_call": REVERT},
        {"eth_estimateGas": REVERT},
        {"eth_call": REVERT, "eth_estimateGas": REVERT},
        {"eth_estimateGas": {"result": hex(2**60)}},
        {"eth_estimateGas": {"result": hex(21_000)}},
        {"eth_getBalance": {"result": "0x0"}},
        {"eth_feeHistory": {"result": FEES | {"baseFeePerGas": ["0x0", "0x0"]}}},
        {"eth_feeHistory": {"result": FEES | {"baseFeePerGas": [hex(2**200)] * 2}}},
    ],
    ids=str,
)
async def test_what_one_endpoint_says_against_it_keeps_nothing_back(place: Stage, lies: dict[str, Any]) -> None:
    _, chain = pool(place, lies)
    sender = await place.sender(node=chain)
    await place.propose(1, lasts=200)
    reports = await place.finish(sender, steps=6)
    assert not any(report.troubles for report in reports)
    row = await place.row(1)
    assert row.state is S.FINAL
    assert len(row.attempts) == 1
    assert row.attempts[0].max_fee < 10 * GWEI


@pytest.mark.parametrize("lies", [{"eth_call": REVERT}, {"eth_estimateGas": REVERT}], ids=str)
async def test_of_two_that_differ_neither_keeps_it_back(place: Stage, lies: dict[str, Any]) -> None:
    """What is sent in vain costs its gas; what is not sent is missed."""
    _, chain = pool(place, lies, honest=1)
    await place.propose(1)
    await place.finish(await place.sender(node=chain), steps=6)
    assert await place.states(1) == [S.FINAL]


async def test_what_is_sent_is_not_taken_back_on_one_endpoints_word(place: Stage) -> None:
    liar, chain = pool(place, {})
    sender = await place.sender(node=chain)
    await place.propose(1, lasts=10_000)
    await sender.step()
    await place.drop()  # no mempool has it any more
    liar.lies = {"eth_call": REVERT}
    await place.mine_without_us(12)
    report = await sender.step()
    assert report.troubles == ()
    await place.finish(sender, steps=8)
    assert await place.states(1) == [S.FINAL]
    assert await place.own_rows() == []


async def test_what_all_say_counts_as_ever(place: Stage) -> None:
    await place.propose(1)
    _, chain = pool(place, {})
    await place.finish(await place.sender(node=chain))
    again = await place.intent(1)  # the contract lets each account anchor an epoch once
    async with place.store.begin(again.deadline) as unit:
        intent = type(again)(again.protocol, "twin", again.action, again.call, again.deadline)
        await unit.transactions.propose(intent, place.account)
    report = await (await place.sender(node=chain)).step()
    assert [(move.new, "would revert" in move.detail) for move in report.moved] == [(S.ABANDONED, True)]
