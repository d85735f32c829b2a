"""The sender's promise: each intent is mined once, whatever the endpoint, the mempool and the chain do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from chain_echo import mined, sign
from sender_stage import GWEI, POLICY, Stage, Unreliable, stage

from challenger.chain import signers
from challenger.chain.fees import FeePolicy
from challenger.chain.sender import Sender
from challenger.chain.signers import SignedTx, SignerLied
from challenger.domain import Call, Hash32, TxState, UnixTime, Wei
from challenger.errors import ConfigError, EndpointError, RpcError, StaleRow
from challenger.sim.wallet import Wallet

S = TxState


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
        if name != "estimates":
            return real

        async def short(*args: object, **kwargs: object) -> list[int]:
            return [gas * 7 // 10 for gas in await real(*args, **kwargs)]  # type: ignore[operator]

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


# Called with nothing: reverts while its only slot holds anything. Called with 32 bytes: stores them there.
GATE_RUNTIME = bytes.fromhex(
    "36600b57"  # if calldatasize goto 0x0b
    "600054601357" "00"  # if sload(0) goto 0x13; stop
    "5b60003560005500"  # 0x0b: sstore(0, calldata[0:32]); stop
    "5b60006000fd"  # 0x13: revert(0, 0)
)  # fmt: skip
GATE_CREATION = bytes.fromhex("601980600b6000396000f3") + GATE_RUNTIME


async def test_a_revert_that_the_end_of_its_block_does_not_show_is_told_as_an_earlier_transaction(place: Stage) -> None:
    """A stranger shuts the gate in front of ours and opens it again behind."""
    await place.devnet.automine(True)
    stranger = place.devnet.accounts[5]
    created = (await mined(place.devnet, sign(stranger, 0, data=GATE_CREATION))).created
    await place.devnet.automine(False)
    assert created is not None
    gate = Call(created, b"", Wei(0))
    sender = await place.sender()
    await sender.submit(replace(await place.intent(1), call=gate), UnixTime(0))
    await sender.step()
    for nonce, (value, tip) in enumerate([(1, 15 * GWEI), (0, 1)], start=1):
        fields = {"maxPriorityFeePerGas": tip, "maxFeePerGas": 90 * GWEI}
        await place.devnet.rpc.send_raw(sign(stranger, nonce, gate.to, value.to_bytes(32, "big"), **fields))
    await place.finish(sender)
    row = await place.row(1)
    assert row.state is S.REVERTED
    assert row.error == "it would not revert at the end of its block: another transaction came first"


async def test_a_revert_whose_state_is_forgotten_has_no_known_reason(place: Stage) -> None:
    await place.propose(1)
    sender = await place.sender()
    await sender.submit(replace(await place.intent(1), subject="twin"), UnixTime(0))
    await sender.step()  # both pass the simulation, one comes first
    sender = await place.sender(node=Pruned(place.devnet.rpc))
    reports = await place.finish(sender)
    ends = {m.intent.subject: (m.new, m.detail) for report in reports for m in report.moved}
    assert ends["epoch/1"][0] is S.FINAL
    assert ends["twin"] == (S.REVERTED, "reason not known: missing trie node")


class Pruned(Unreliable):
    """Has the newest state and no other."""

    def __getattr__(self, name: str) -> object:
        real = super().__getattr__(name)
        if name != "call":
            return real

        async def newest(to: object, data: object, block: object = "latest", **kwargs: object) -> object:
            if block != "latest":
                raise RpcError("missing trie node")
            return await real(to, data, block, **kwargs)  # type: ignore[operator]

        return newest
