"""The sender's promise: each intent is mined once, whatever the endpoint, the mempool and the chain do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sender_stage import GWEI, POLICY, START, Stage, Unreliable, stage

from challenger.chain import inclusion, signers
from challenger.chain.fees import FeePolicy
from challenger.chain.rpc import Rpc
from challenger.chain.sender import Sender
from challenger.chain.signers import SignedTx, SignerLied
from challenger.domain import Address, BlockNumber, Call, Hash32, TxState, UnixTime, Wei
from challenger.errors import ConfigError, EndpointError, RpcError, StaleRow
from challenger.sim.wallet import Wallet

S = TxState


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path / "store.sqlite") as made:
        yield made


async def foreign(place: Stage, nonce: int, data: bytes = b"\x01") -> None:
    """Somebody else signs with our key."""
    fields = {
        "chainId": 31337,
        "nonce": nonce,
        "to": "0x" + "00" * 19 + "77",
        "value": 0,
        "data": data,
        "gas": 60_000,
        "maxFeePerGas": 90 * GWEI,
        "maxPriorityFeePerGas": 50 * GWEI,
    }
    await place.devnet.rpc.send_raw((await signers.from_key(place.key).sign_transaction(fields)).raw)


async def test_an_intent_goes_through_every_state_to_final(place: Stage) -> None:
    sender = await place.sender()
    row = await sender.submit(await place.intent(1), UnixTime(0))
    assert (await sender.submit(await place.intent(1), UnixTime(0))).id == row.id
    first = await sender.step()
    assert [(m.old, m.new) for m in first.moved] == [(S.INTENT, S.SIGNED), (S.SIGNED, S.SENT)]
    assert (await sender.step()).moved == ()  # nothing happened meanwhile
    await place.devnet.mine()
    second = await sender.step()
    assert [(m.old, m.new) for m in second.moved] == [(S.SENT, S.MINED)]
    await place.devnet.mine(2)
    third = await sender.step()
    assert [(m.old, m.new) for m in third.moved] == [(S.MINED, S.FINAL)]
    assert await place.mined() == {1: 1}
    done = await place.row(1)
    assert len(done.attempts) == 1
    assert done.hash == done.attempts[0].hash
    assert len(place.node.sends) == 1


async def test_several_intents_in_one_step_have_nonces_in_order_of_urgency(place: Stage) -> None:
    await place.propose(1, lasts=9000)
    await place.propose(2, lasts=500)
    await place.propose(3, lasts=7000)
    sender = await place.sender()
    await sender.step()
    assert [(await place.row(epoch)).nonce for epoch in (2, 3, 1)] == [0, 1, 2]
    await place.devnet.mine()
    await place.finish(sender)
    assert await place.mined() == {1: 1, 2: 1, 3: 1}


async def test_no_more_are_in_flight_than_allowed(place: Stage) -> None:
    await place.propose(*range(5))
    sender = await place.sender(policy=replace(POLICY, in_flight=2))
    await sender.step()
    assert len(place.node.sends) == 2
    await place.finish(sender)
    assert await place.mined() == dict.fromkeys(range(5), 1)


async def test_what_would_revert_is_not_signed_and_not_tried_again_unasked(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await place.finish(sender)
    again = replace(await place.intent(1), subject="epoch/1/again")
    await sender.submit(again, UnixTime(0))
    report = await sender.step()
    assert [(m.new, m.detail) for m in report.moved] == [
        (S.ABANDONED, "would revert: AlreadyAnchored(epoch=1)"),
    ]
    assert (await sender.step()).moved == ()
    assert (await sender.submit(again, UnixTime(0))).state is S.ABANDONED
    good = replace(await place.intent(2), subject="epoch/1/again")
    assert (await sender.submit(good, UnixTime(0), again=True)).state is S.INTENT
    await place.finish(sender)
    assert await place.mined() == {1: 1, 2: 1}


async def test_a_revert_on_chain_is_told_with_its_reason(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.submit(replace(await place.intent(1), subject="twin"), UnixTime(0))
    reports = await place.finish(sender)  # both pass the simulation, one comes first
    ends = {m.intent.subject: (m.new, m.detail) for report in reports for m in report.moved}
    assert ends["epoch/1"][0] is S.FINAL
    assert ends["twin"] == (S.REVERTED, "AlreadyAnchored(epoch=1)")


async def test_an_answer_that_did_not_come_is_uncertain_and_never_sent_twice(place: Stage) -> None:
    await place.propose(1)
    place.node.after = lambda method: method == "send_raw"
    sender = await place.sender()
    report = await sender.step()
    assert "uncertain" in report.troubles[0].detail
    assert await place.states(1) == [S.SENT]
    await sender.step()
    assert len(place.node.sends) == 1  # the node knows it: no reason to send again
    await place.finish(sender)
    assert await place.mined() == {1: 1}


async def test_a_send_that_got_lost_is_sent_again_with_the_same_bytes(place: Stage) -> None:
    await place.propose(1)
    place.node.before = lambda method: method == "send_raw"
    sender = await place.sender()
    await sender.step()
    assert await place.states(1) == [S.SENT]
    place.node.before = lambda _method: False
    await place.finish(sender)
    assert await place.mined() == {1: 1}
    assert len((await place.row(1)).attempts) == 1


@pytest.mark.parametrize("meanwhile", ["waiting", "mined"])
async def test_already_known_and_nonce_too_low_mean_look_for_the_receipt(place: Stage, meanwhile: str) -> None:
    """Sent, and dead before that was written down: the restarted sender cannot know, and asks the chain."""
    await place.propose(1)
    names: list[str] = []

    def crossing(name: str) -> None:
        names.append(name)
        if name == "broadcast":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await (await place.sender(crossing)).step()
    assert names == ["signed", "broadcast"]
    assert await place.states(1) == [S.SIGNED]
    if meanwhile == "mined":
        await place.devnet.mine()
    sender = await place.sender()
    report = await sender.step()
    assert report.troubles == ()
    assert await place.states(1) == [S.MINED if meanwhile == "mined" else S.SENT]
    await place.finish(sender)
    assert await place.mined() == {1: 1}


async def test_a_lagging_endpoint_that_says_nonce_too_low_costs_nothing(place: Stage) -> None:
    """The transaction is mined, but this endpoint does not show its receipt yet."""
    await place.propose(1)
    await (await place.sender()).step()
    await place.devnet.mine(6)
    lagging = Blind(place.devnet.rpc)
    blind = await place.sender(node=lagging)
    for _ in range(3):
        report = await blind.step()
        assert [t.kind for t in report.troubles] == []
        assert await place.states(1) == [S.SENT]  # neither replaced nor signed anew: only evidence moves a row
    await place.finish(await place.sender())
    assert await place.mined() == {1: 1}
    assert len((await place.row(1)).attempts) == 1


class Blind(Unreliable):
    """Shows no receipt and no transaction."""

    def __getattr__(self, name: str) -> object:
        if name in ("receipt", "transaction"):

            async def nothing(_hash: bytes) -> None:
                return None

            return nothing
        return super().__getattr__(name)


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


async def test_a_flood_of_foreign_transactions_stops_the_signing(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await place.finish(sender)
    for nonce in range(1, 13):
        await foreign(place, nonce)
    await place.propose(2)
    report = await sender.step()
    assert [t.kind for t in report.troubles] == ["foreign"]
    assert await place.states(2) == [S.INTENT]


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


async def test_dry_run_simulates_journals_and_never_signs(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender(dry=True)
    report = await sender.step()
    assert report.moved[0].new is S.ABANDONED
    assert "dry run: simulated well" in report.moved[0].detail
    assert place.node.sends == []
    assert (await place.row(1)).attempts == ()
    await (await place.sender()).submit(await place.intent(1), UnixTime(0), again=True)
    await place.finish(await place.sender())  # later, for real
    assert await place.mined() == {1: 1}


async def test_dry_run_only_looks_at_what_was_sent_before(place: Stage) -> None:
    await place.propose(1)
    await (await place.sender()).step()
    dry = await place.sender(dry=True)
    await place.drop()
    await place.mine_without_us(10)
    await dry.step()
    assert len(place.node.sends) == 1
    assert len((await place.row(1)).attempts) == 1


async def test_without_funds_it_waits_and_says_so(place: Stage) -> None:
    rich = await place.devnet.rpc.balance(place.account)
    await Wallet(place.devnet.rpc, place.key, "us").send(
        Call(place.devnet.accounts[5].address, b"", Wei(rich - 10**16)), gas=21_000
    )
    await place.devnet.mine()
    await place.propose(1)
    sender = await place.sender(policy=replace(POLICY, fees=FeePolicy(tip=Wei(400 * GWEI))))
    report = await sender.step()
    assert [t.kind for t in report.troubles] == ["funds"]
    assert await place.states(1) == [S.INTENT]
    await Wallet(place.devnet.rpc, place.devnet.accounts[5].key, "friend").send(Call(place.account, b"", Wei(10**18)))
    await place.devnet.mine()
    await place.finish(sender)
    assert await place.mined() == {1: 1}


async def test_value_beyond_the_balance_is_no_revert(place: Stage) -> None:
    intent = await place.intent(1, value=2 * await place.devnet.rpc.balance(place.account))
    sender = await place.sender()
    await sender.submit(intent, UnixTime(0))
    report = await sender.step()
    assert [t.kind for t in report.troubles] == ["funds"]
    assert await place.states(1) == [S.INTENT]


async def test_more_gas_than_the_limit_is_not_spent(place: Stage) -> None:
    await place.propose(1)
    report = await (await place.sender(policy=replace(POLICY, gas_limit=21_000))).step()
    assert report.moved[0].new is S.ABANDONED
    assert "above the limit" in report.moved[0].detail


async def test_gas_is_the_estimate_with_its_margin(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.step()
    intent = await place.intent(1)
    estimate = await place.devnet.rpc.estimate_gas(intent.call.to, intent.call.data, sender=place.account)
    assert (await place.row(1)).attempts[0].gas == estimate * 13 // 10


async def test_the_second_owner_fences_the_first_one_off(place: Stage) -> None:
    await place.propose(1)
    first = await place.sender()
    second = await place.sender()
    with pytest.raises(StaleRow):
        await first.step()
    assert place.node.sends == []
    await place.finish(second)
    assert await place.mined() == {1: 1}


async def test_an_old_copy_of_the_store_files_nothing_twice(place: Stage, tmp_path: Path) -> None:
    """Restored from before the transaction was even signed: the simulation says that it is done."""
    await place.propose(1)
    await place.finish(await place.sender())
    async with stage(tmp_path / "old.sqlite") as other:
        restored = Stage(place.devnet, other.store, place.anchor, place.node)
        await restored.propose(1)
        report = await (await restored.sender()).step()
        assert "AlreadyAnchored" in report.moved[0].detail
    assert await place.mined() == {1: 1}


async def test_an_endpoint_that_is_away_is_the_callers_to_hear_of(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    place.node.before = lambda method: method == "block"
    with pytest.raises(EndpointError):
        await sender.step()
    assert await place.states(1) == [S.INTENT]


async def test_a_signer_that_lies_is_not_believed(place: Stage) -> None:
    class Liar:
        address = place.account

        async def sign_transaction(self, fields: object) -> SignedTx:
            return SignedTx(b"\x02other", Hash32(bytes(32)))

    await place.propose(1)
    honest = await place.sender()
    liar = Sender(place.node, honest._outbox, place.account, POLICY, signer=Liar())  # type: ignore[arg-type]
    with pytest.raises(SignerLied):
        await liar.step()
    assert place.node.sends == []
    other = signers.from_key(place.devnet.accounts[3].key)
    with pytest.raises(ConfigError, match="not the account's"):
        Sender(place.node, honest._outbox, place.account, POLICY, signer=other)


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


async def test_what_would_revert_by_now_is_not_sent_again_and_gives_its_nonce_up(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.submit(replace(await place.intent(1), subject="twin"), UnixTime(0))
    await sender.step()  # both pass the simulation
    await place.drop()
    await place.devnet.rpc.send_raw((await place.row(1)).attempts[0].raw)
    await place.devnet.mine()
    sends = len(place.node.sends)
    report = await sender.step()
    assert [(t.kind, t.detail) for t in report.troubles] == [
        ("reverts", "not sent again, it would revert: AlreadyAnchored(epoch=1)")
    ]
    assert len(place.node.sends) == sends
    reports = await place.finish(sender)
    ends = {m.intent.subject: m.new for report in reports for m in report.moved}
    assert (ends["epoch/1"], ends["twin"]) == (S.FINAL, S.REPLACED)
    assert [row.state for row in await place.own_rows()] == [S.FINAL]
    assert await place.mined() == {1: 1}


class Stingy(Unreliable):
    """Its estimates are three tenths short."""

    def __getattr__(self, name: str) -> object:
        real = super().__getattr__(name)
        if name != "estimate_gas":
            return real

        async def short(*args: object, **kwargs: object) -> int:
            return int(await real(*args, **kwargs)) * 7 // 10  # type: ignore[operator]

        return short


async def test_one_that_ran_out_of_gas_is_told_apart_and_has_more_at_the_next_try(place: Stage) -> None:
    sender = await place.sender(node=Stingy(place.devnet.rpc))
    await sender.submit(await place.intent(1), UnixTime(0))
    await place.finish(sender)
    row = await place.row(1)
    assert row.state is S.REVERTED
    assert row.error == f"out of gas: {row.attempts[0].gas} of {row.attempts[0].gas} taken"
    await sender.submit(await place.intent(1), UnixTime(0), again=True)
    await place.finish(sender)
    assert await place.states(1) == [S.FINAL]


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
