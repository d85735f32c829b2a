"""Nonces that others use, that nobody uses, and that are given up."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import rlp
from sender_stage import GWEI, Stage, Unreliable

from challenger.chain import inclusion, signers
from challenger.chain.asking import Member
from challenger.chain.pool import PoolProvider
from challenger.chain.rpc import Rpc
from challenger.domain import Address, Call, TxState, Wei
from challenger.errors import RpcError
from challenger.sim.wallet import Wallet

S = TxState


async def foreign(place: Stage, nonce: int, data: bytes = b"\x01", fee: int = 90 * GWEI) -> None:
    """Somebody else signs with our key, at most ``fee`` wei per gas."""
    fields = {
        "chainId": 31337,
        "nonce": nonce,
        "to": "0x" + "00" * 19 + "77",
        "value": 0,
        "data": data,
        "gas": 60_000,
        "maxFeePerGas": fee,
        "maxPriorityFeePerGas": fee // 2,
    }
    await place.devnet.rpc.send_raw((await signers.from_key(place.key).sign_transaction(fields)).raw)


async def test_foreign_use_of_the_nonce_is_proved_told_and_survived(place: Stage) -> None:
    await place.propose(1)
    place.node.swallow = True  # ours does not get through
    sender = await place.sender()
    await sender.step()
    place.node.swallow = False
    await foreign(place, 0)
    await place.devnet.mine()
    assert (await sender.step()).moved == ()  # not deep enough to be sure
    await place.devnet.mine(2)
    report = await sender.step()
    assert [t.kind for t in report.troubles] == ["foreign"]
    assert "nonce 0 went to" in report.troubles[0].detail
    assert [(m.old, m.new) for m in report.moved] == [(S.SENT, S.INTENT)]
    await place.finish(sender)
    assert await place.mined() == {1: 1}
    row = await place.row(1)
    assert [a.nonce for a in row.attempts] == [0, 1]


async def test_foreign_use_while_idle_is_told_and_the_chains_nonce_taken(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await place.finish(sender)
    await foreign(place, 1)
    await place.devnet.mine()
    await foreign(place, 2)  # and one that waits
    await place.propose(2)
    report = await sender.step()
    assert [t.kind for t in report.troubles] == ["foreign"]
    assert (await place.row(2)).nonce == 3
    reports = await place.finish(sender)
    assert not any(report.troubles for report in reports)  # told once
    assert await place.mined() == {1: 1, 2: 1}


async def test_what_somebody_else_left_waiting_in_front_of_ours_is_outbid_before_the_deadline(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await place.finish(sender)
    for nonce in (1, 2):
        await foreign(place, nonce, fee=2)  # wei: no block takes it
    await place.propose(2, lasts=200)
    await sender.step()
    assert (await place.row(2)).nonce == 3, "it may be mined yet: ours waits behind it"
    await place.devnet.time_travel(by=4)
    await sender.step()
    assert await place.own_rows() == [], "a stuck transaction is given its time"
    reports = await place.finish(sender)
    assert {t.kind for report in reports for t in report.troubles} == {"gap"}
    assert [row.nonce for row in await place.own_rows()] == [1, 2]
    assert await place.states(2) == [S.FINAL]
    assert await place.mined() == {1: 1, 2: 1}


async def test_what_keeps_ours_waiting_is_outbid_by_the_usual_steps(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender(node=Underpriced(place.devnet.rpc, refused=3))
    await foreign(place, 0, fee=2)
    await place.finish(sender)
    (own,) = await place.own_rows()
    fees = [attempt.max_fee for attempt in own.attempts]
    assert len(fees) == 4
    assert all(new * 10 >= old * 11 for old, new in pairwise(fees))
    assert await place.mined() == {1: 1}


class Underpriced(Unreliable):
    """Refuses to replace anything by an empty transaction, so often."""

    def __init__(self, rpc: Rpc, refused: int) -> None:
        super().__init__(rpc)
        self.refused = refused
        self.tried: set[bytes] = set()

    def __getattr__(self, name: str) -> Any:
        real = super().__getattr__(name)
        if name != "send_raw":
            return real

        async def send(raw: bytes) -> Any:
            if not rlp.decode(raw[1:])[7] and (raw in self.tried or len(self.tried) < self.refused):
                self.tried.add(raw)
                raise RpcError("replacement transaction underpriced")
            return await real(raw)

        return send


@pytest.mark.parametrize("more", [1, 3, 1_000, 2**60])
async def test_a_false_count_of_what_waits_keeps_no_filing_beyond_its_deadline(place: Stage, more: int) -> None:
    """The only endpoint there is."""
    await place.propose(1)
    sender = await place.sender(node=Rpc(Counting(place.devnet.provider, {"pending": more})))
    await place.finish(sender)
    await place.propose(2, lasts=200)
    await place.finish(sender)
    assert await place.states(1, 2) == [S.FINAL, S.FINAL]
    assert await place.mined() == {1: 1, 2: 1}


@pytest.mark.parametrize("more", [1, 1_000, 2**62])
@pytest.mark.parametrize("tags", [("pending",), ("latest", "pending")])
async def test_a_count_that_another_endpoint_does_not_confirm_takes_no_nonce(
    place: Stage, tags: tuple[str, ...], more: int
) -> None:
    """A nonce that the chain never comes to would keep this filing waiting, and with it all that follow."""
    await place.propose(1)
    await place.finish(await place.sender())
    false = Counting(place.devnet.provider, dict.fromkeys(tags, more))
    ends = [Member(Rpc(one, name=name, attempts=1), name) for name, one in (("a", false), ("b", place.devnet.provider))]
    sender = await place.sender(node=Rpc(PoolProvider(ends, chain_id=31337), attempts=1))
    await place.propose(2, lasts=200)
    report = await sender.step()
    assert [t.kind for t in report.troubles] == ["foreign"]
    assert (await place.row(2)).nonce == 1
    false.more = {}
    await place.finish(sender)
    assert await place.own_rows() == []
    assert await place.mined() == {1: 1, 2: 1}


@pytest.mark.parametrize("past", [0, 4])
@pytest.mark.parametrize("more", [-4, -1, 1, 3, 2**40])
@pytest.mark.parametrize("tags", [("pending",), ("latest",), ("latest", "pending")])
async def test_the_first_nonce_ever_is_no_single_endpoints_word(
    place: Stage, tags: tuple[str, ...], more: int, past: int
) -> None:
    """Nothing is in the store to hold it against."""
    for nonce in range(past):
        await foreign(place, nonce)
        await place.devnet.mine()
    false = Counting(place.devnet.provider, dict.fromkeys(tags, more))
    honest = place.devnet.provider
    ends = [
        Member(Rpc(one, name=name, attempts=1), name) for name, one in zip("abc", (false, honest, honest), strict=True)
    ]
    sender = await place.sender(node=Rpc(PoolProvider(ends, chain_id=31337), attempts=1))
    await place.propose(1, 2, lasts=200)
    await sender.step()
    assert [(await place.row(epoch)).nonce for epoch in (1, 2)] == [past, past + 1]
    await place.finish(sender)
    assert await place.states(1, 2) == [S.FINAL, S.FINAL]
    assert await place.own_rows() == []


async def test_a_gap_below_the_first_nonce_ever_is_filled_once_endpoints_count_aright(place: Stage) -> None:
    """The only endpoint there is said at the first start that others had used three."""
    false = Counting(place.devnet.provider, {"latest": 3, "pending": 3})
    sender = await place.sender(node=Rpc(false))
    await place.propose(1, lasts=400)
    await sender.step()
    assert (await place.row(1)).nonce == 3
    false.more = {}
    await place.finish(sender)
    assert [row.nonce for row in await place.own_rows()] == [0, 1, 2]
    assert await place.states(1) == [S.FINAL]


class Counting:
    """An endpoint that counts so many more transactions than there are, by tag."""

    def __init__(self, inner: Any, more: dict[str, int]) -> None:
        self.inner, self.more = inner, more

    async def make_request(self, method: Any, params: Any) -> Any:
        answer = await self.inner.make_request(method, params)
        if method == "eth_getTransactionCount":
            return {"result": hex(max(0, int(answer["result"], 16) + self.more.get(params[1], 0)))}
        return answer


async def test_a_flood_of_foreign_transactions_is_outbid_from_its_first_on(place: Stage) -> None:
    """Behind so many it would only wait."""
    await place.propose(1)
    sender = await place.sender()
    await place.finish(sender)
    for nonce in range(1, 13):
        await foreign(place, nonce, fee=2)
    await place.propose(2, lasts=200)
    report = await sender.step()
    assert [t.kind for t in report.troubles] == ["foreign"]
    assert (await place.row(2)).nonce == 1
    await place.finish(sender)
    assert await place.mined() == {1: 1, 2: 1}


async def test_an_account_with_a_past_starts_after_it(place: Stage) -> None:
    await foreign(place, 0)
    await place.devnet.mine()
    await place.propose(1)
    sender = await place.sender()
    report = await sender.step()
    assert report.troubles == ()  # a first start: what was before is nobody's fault
    assert (await place.row(1)).nonce == 1


async def test_too_late_for_its_deadline_gives_the_nonce_up(place: Stage) -> None:
    await place.propose(1, lasts=100)
    await place.propose(2)
    sender = await place.sender()
    await sender.step()
    await place.mine_without_us(10)
    await sender.step()  # notices
    await sender.step()  # signs the empty transaction
    (own,) = await place.own_rows()
    assert own.nonce == (await place.row(1)).nonce == 0
    assert own.attempts[0].max_fee > (await place.row(1)).attempts[-1].max_fee
    await place.finish(sender)
    assert await place.states(1, 2) == [S.REPLACED, S.FINAL]
    assert await place.mined() == {2: 1}


async def test_late_but_mined_all_the_same_ends_the_giving_up(place: Stage) -> None:
    await place.propose(1, lasts=100)
    sender = await place.sender()
    await sender.step()
    await place.mine_without_us(10)
    place.node.swallow = True
    await sender.step()
    await sender.step()
    await place.devnet.mine()  # the late one, which the node still holds
    place.node.swallow = False
    await place.finish(sender)
    assert await place.states(1) == [S.FINAL]
    assert [row.state for row in await place.own_rows()] == [S.REPLACED]
    assert await place.mined() == {1: 1}


async def test_never_signed_and_too_late_is_abandoned(place: Stage) -> None:
    await place.propose(1, lasts=10)
    await place.mine_without_us(1)
    report = await (await place.sender()).step()
    assert [(m.new, m.detail) for m in report.moved] == [(S.ABANDONED, "its deadline passed before it was signed")]
    assert place.node.sends == []


async def test_a_gap_that_nobody_fills_is_filled(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await place.finish(sender)
    await foreign(place, 1)
    await place.propose(2)
    await sender.step()
    assert (await place.row(2)).nonce == 2
    await place.drop()  # the foreign one is gone, and ours waits behind nothing
    await sender.step()
    await place.mine_without_us(4)
    report = await sender.step()
    assert "gap" in [t.kind for t in report.troubles]
    await place.finish(sender)
    assert [row.nonce for row in await place.own_rows()] == [1]
    assert await place.mined() == {1: 1, 2: 1}


async def test_an_emptied_mempool_is_no_gap(place: Stage) -> None:
    await place.propose(1, 2, 3)
    sender = await place.sender()
    await sender.step()
    await place.drop()
    await place.mine_without_us(1)
    await sender.step()
    await place.finish(sender)
    assert await place.own_rows() == []
    assert await place.mined() == {1: 1, 2: 1, 3: 1}


async def test_who_used_a_nonce_is_found_in_any_block(place: Stage) -> None:
    wallet = Wallet(place.devnet.rpc, place.key, "us")
    sent = []
    for gap in (0, 3, 1, 9, 0, 2):
        await place.devnet.mine(gap)
        sent.append(await wallet.send(Call(Address("0x" + "77" * 20), b"", Wei(0)), gas=21_000))
        await place.devnet.mine()
    await wallet.send(Call(place.account, b"", Wei(0)), gas=21_000)
    await place.devnet.mine()
    head = await place.devnet.rpc.block("latest")
    for nonce, tx_hash in enumerate(sent):
        found = await inclusion.find_consumer(place.devnet.rpc, place.account, nonce, head)
        assert found is not None
        receipt = await place.devnet.rpc.receipt(tx_hash)
        assert receipt is not None
        assert (found.hash, found.block, found.empty) == (tx_hash, receipt.block, False)
    last = await inclusion.find_consumer(place.devnet.rpc, place.account, len(sent), head)
    assert last is not None
    assert last.empty
    assert await inclusion.find_consumer(place.devnet.rpc, place.account, len(sent) + 1, head) is None
