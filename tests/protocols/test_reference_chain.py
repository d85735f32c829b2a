"""The reference adapter beside the real contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
from market_stage import INPUT, SECRET, SPEC, WRONG, Stage, accuse, output

from challenger import adjudicator
from challenger.adjudicator import Bench
from challenger.chain.codec import decode_result, encode_call
from challenger.contracts import artifact
from challenger.domain import (
    Action,
    Address,
    ChainId,
    CommitmentId,
    Committed,
    DemandClosed,
    DemandOpened,
    DemandOutcome,
    DisputeClosed,
    DisputeId,
    DisputeOpened,
    DisputeOutcome,
    Hash32,
    Intent,
    JobClosed,
    JobStatus,
    ModelRegistered,
    Part,
    TaskClosed,
    TaskOpened,
    TaskTaken,
    Wei,
    WindowExtended,
)
from challenger.errors import ConfigError, FilingRefused, WrongChain, WrongContract
from challenger.protocols.base import subject
from challenger.protocols.reference import ReferenceAdapter
from challenger.protocols.reference_calls import (
    case_digest,
    job_id,
    model_id,
    seal_digest,
    task_seed,
)
from challenger.protocols.reference_views import NotThere
from replay.layout import bundle_root


async def open_dispute(stage: Stage, commitment: CommitmentId, root: Hash32 = WRONG) -> DisputeId:
    """As a sender would: whatever the adapter names next, until the dispute is there."""
    for _ in range(4):
        intent = await stage.adapter.open_dispute(accuse(commitment, root))
        if intent is None:
            await stage.devnet.mine()
            continue
        await stage.act(2, intent.call)
        if intent.action is Action.CHALLENGE:
            opened = [e for e in await stage.events() if isinstance(e, DisputeOpened)]
            return opened[-1].dispute
    raise AssertionError("no dispute was opened")


async def rule(stage: Stage, commitment: CommitmentId, dispute: DisputeId, fraud: bool, root: Hash32 = WRONG) -> None:
    standing = await stage.adapter.hydrate(commitment)
    claim = stage.adapter.claim(accuse(commitment, root))
    digest = case_digest(
        commitment, standing.output_root, standing.state_root, claim.output_root, claim.state_root, claim.evidence
    )
    bench = Bench(stage.deployment.chain, stage.deployment.adjudicator, stage.deployment.market)
    rulings = [adjudicator.sign(bench, w.signer, dispute, digest, fraud=fraud) for w in stage.wallets[4:7]]
    call = adjudicator.rule(bench, rulings, stage.deployment.params.quorum)
    assert call is not None
    await stage.act(0, call)


async def settle(stage: Stage, dispute: DisputeId) -> None:
    intent = await stage.adapter.advance(dispute)
    assert intent is not None
    assert intent.action is Action.SETTLE
    await stage.act(2, intent.call)


async def test_identifiers_are_the_contracts(stage: Stage) -> None:
    await stage.commit()
    events = await stage.events()
    registered = next(e for e in events if isinstance(e, ModelRegistered))
    opened = next(e for e in events if isinstance(e, TaskOpened))
    taken = next(e for e in events if isinstance(e, TaskTaken))
    made = next(e for e in events if isinstance(e, Committed))
    place = (stage.deployment.chain, stage.deployment.market)
    assert registered.model == model_id(*place, stage.wallets[0].address, SPEC)
    assert made.commitment == job_id(*place, made.task, made.provider, made.model, made.output_root, made.state_root)
    beacon = await stage.rpc.block(opened.at.block + 1)
    assert taken.seed == task_seed(*place, opened.task, opened.entropy, beacon.hash)


async def test_events_say_what_was_done(stage: Stage) -> None:
    commitment = await stage.commit(7)
    events = await stage.events()
    registered = next(e for e in events if isinstance(e, ModelRegistered))
    assert (registered.mode, registered.boundaries, registered.known_input) == ("exact", 3, INPUT)
    opened = next(e for e in events if isinstance(e, TaskOpened))
    assert (opened.input_data, opened.input_uri, opened.input_length) == (INPUT, "", len(INPUT))
    made = next(e for e in events if isinstance(e, Committed))
    assert made.output_data == output(7)
    assert made.output_root == bundle_root(output(7))
    assert made.closes == made.committed_at + stage.deployment.params.window
    assert made.provider == stage.wallets[1].address
    assert (await stage.adapter.window(commitment)).open_at(made.committed_at)
    receipt_block = await stage.rpc.block(made.at.block)
    assert made.at.block_hash == receipt_block.hash


async def test_a_task_may_end_without_a_commitment(stage: Stage) -> None:
    model = model_id(stage.deployment.chain, stage.deployment.market, stage.wallets[0].address, SPEC)
    now = (await stage.rpc.block("latest")).time
    root = Hash32(bundle_root(INPUT))
    for deadline in (now + 100, 2**64 - 1):
        call = stage.calls.open_task(model, root, INPUT, "", len(INPUT), Hash32(bytes(32)), deadline, Wei(5))
        await stage.act(0, call)
    first, absurd = [e for e in await stage.events() if isinstance(e, TaskOpened)]
    assert absurd.deadline == 2**62  # a requester may write so, and a database must hold it
    await stage.devnet.mine()
    await stage.act(1, stage.calls.take(first.task))
    await stage.act(0, stage.calls.cancel_task(absurd.task))
    await stage.devnet.time_travel(by=200)
    await stage.act(3, stage.calls.lapse_task(first.task))
    closed = {e.task: e.reason for e in await stage.events() if isinstance(e, TaskClosed)}
    assert closed == {first.task: "lapsed", absurd.task: "cancelled"}


async def test_a_fraud_is_disputed_to_its_end(stage: Stage) -> None:
    commitment = await stage.commit()
    params = stage.adapter.params
    assert await stage.adapter.eligibility(accuse(commitment), 60) == ""
    assert await stage.adapter.prospect(commitment) == (await stage.adapter.prospect(commitment))
    prospect = await stage.adapter.prospect(commitment)
    assert (prospect.bond, prospect.reward) == (params.challenge_bond, params.job_collateral // 2)
    dispute = await open_dispute(stage, commitment)
    assert await stage.adapter.advance(dispute) is None  # nobody has ruled
    assert (await stage.adapter.prospect(commitment)).reward == 0  # behind another one nothing is won
    await rule(stage, commitment, dispute, fraud=True)
    assert (await stage.adapter.status(dispute)).ruled
    await settle(stage, dispute)
    assert await stage.adapter.advance(dispute) is None
    collect = await stage.adapter.collect(subject(commitment))
    assert collect is not None
    before = await stage.rpc.balance(stage.wallets[2].address)
    await stage.act(2, collect.call)
    assert await stage.rpc.balance(stage.wallets[2].address) > before
    assert await stage.adapter.collect(subject(commitment, 2)) is None
    events = await stage.events()
    closed = next(e for e in events if isinstance(e, DisputeClosed))
    assert (closed.outcome, closed.paid) == (DisputeOutcome.CHALLENGER, params.job_collateral // 2)
    assert next(e for e in events if isinstance(e, JobClosed)).status is JobStatus.FRAUD
    assert (await stage.adapter.hydrate(commitment)).status is JobStatus.FRAUD
    assert "fraud already" in await stage.adapter.eligibility(accuse(commitment), 60)


async def test_an_honest_provider_wins_and_the_bond_is_lost(stage: Stage) -> None:
    commitment = await stage.commit()
    dispute = await open_dispute(stage, commitment)
    await rule(stage, commitment, dispute, fraud=False)
    await settle(stage, dispute)
    assert next(e for e in await stage.events() if isinstance(e, DisputeClosed)).outcome is DisputeOutcome.PROVIDER
    assert await stage.adapter.finalise(commitment) is None
    await stage.devnet.time_travel(by=stage.deployment.params.window)
    done = await stage.adapter.finalise(commitment)
    assert done is not None
    await stage.act(3, done.call)
    assert (await stage.adapter.hydrate(commitment)).status is JobStatus.FINAL


async def test_silence_of_the_adjudicator_gives_the_bond_back(stage: Stage) -> None:
    commitment = await stage.commit()
    dispute = await open_dispute(stage, commitment)
    await stage.devnet.time_travel(by=stage.deployment.params.ruling_period)
    await settle(stage, dispute)
    assert next(e for e in await stage.events() if isinstance(e, DisputeClosed)).outcome is DisputeOutcome.EXPIRED
    assert await stage.adapter.collect("x") is not None


async def test_of_two_disputes_the_older_goes_first_and_the_other_ends_moot(stage: Stage) -> None:
    commitment = await stage.commit()
    other = ReferenceAdapter(
        stage.rpc,
        stage.deployment.chain,
        stage.deployment.market,
        account=stage.wallets[3].address,
        secret=SECRET[::-1],
    )
    await other.check()
    for _ in range(2):
        intent = await other.open_dispute(accuse(commitment))
        assert intent is not None
        await stage.act(3, intent.call)
        await stage.devnet.mine()  # a seal opens in a later block
    first = next(e for e in await stage.events() if isinstance(e, DisputeOpened)).dispute
    second = await open_dispute(stage, commitment)
    await rule(stage, commitment, second, fraud=True)
    assert await stage.adapter.advance(second) is None  # it would revert: the older one has no ruling yet
    await rule(stage, commitment, first, fraud=True)
    await settle(stage, first)
    await settle(stage, second)
    outcomes = {e.dispute: e.outcome for e in await stage.events() if isinstance(e, DisputeClosed)}
    assert outcomes == {first: DisputeOutcome.CHALLENGER, second: DisputeOutcome.MOOT}


async def test_the_salt_is_made_again_from_nothing_and_differs_by_key_job_and_attempt(stage: Stage) -> None:
    one, two = accuse(CommitmentId(b"\x01" * 32)), accuse(CommitmentId(b"\x02" * 32))
    place = {"account": stage.wallets[2].address}
    again = ReferenceAdapter(stage.rpc, stage.deployment.chain, stage.deployment.market, secret=SECRET, **place)
    foreign = ReferenceAdapter(stage.rpc, stage.deployment.chain, stage.deployment.market, secret=SECRET[::-1], **place)
    elsewhere = ReferenceAdapter(stage.rpc, ChainId(5), stage.deployment.market, secret=SECRET, **place)
    assert again.claim(one) == stage.adapter.claim(one)
    salts = {adapter.claim(a).salt for adapter in (stage.adapter, foreign, elsewhere) for a in (one, two)}
    assert len(salts | {stage.adapter.claim(one, 1).salt}) == 7
    with pytest.raises(ConfigError, match="secret"):
        ReferenceAdapter(stage.rpc, stage.deployment.chain, stage.deployment.market, secret=b"short", **place)


async def test_a_seal_grown_too_old_is_made_anew_under_another_key(stage: Stage) -> None:
    accusation = accuse(await stage.commit())
    first = await stage.adapter.open_dispute(accusation)
    assert first is not None
    assert await stage.adapter.open_dispute(accusation) == first  # asked twice, the same intent
    await stage.act(2, first.call)
    await stage.devnet.mine(stage.deployment.params.max_seal_age)
    second = await stage.adapter.open_dispute(accusation)
    assert second is not None
    assert (second.action, second.subject) == (Action.SEAL, first.subject + "/seal/1")
    assert second.call != first.call
    await stage.act(2, second.call)
    await stage.devnet.mine()
    challenge = await stage.adapter.open_dispute(accusation)
    assert challenge is not None
    assert (challenge.action, challenge.subject) == (Action.CHALLENGE, first.subject)
    await stage.act(2, challenge.call)


async def test_the_seal_and_the_case_are_the_contracts(stage: Stage) -> None:
    commitment = await stage.commit()
    account = stage.wallets[2].address
    intent = await stage.adapter.open_dispute(accuse(commitment))
    assert intent is not None
    await stage.act(2, intent.call)
    sealed = seal_digest(account, stage.adapter.claim(accuse(commitment)))
    abi = artifact("InferenceMarket").abi
    data = await stage.rpc.call(stage.deployment.market, encode_call(abi, "sealedIn", [account, sealed]))
    assert decode_result(abi, "sealedIn", data) == (await stage.rpc.block("latest")).number
    dispute = await open_dispute(stage, commitment)
    bench = artifact("SignerAdjudicator").abi
    standing = await stage.adapter.hydrate(commitment)
    claim = stage.adapter.claim(accuse(commitment))
    digest = case_digest(
        commitment, standing.output_root, standing.state_root, claim.output_root, claim.state_root, claim.evidence
    )
    where = Bench(stage.deployment.chain, stage.deployment.adjudicator, stage.deployment.market)
    for fraud in (True, False):
        asked = encode_call(bench, "rulingDigest", [stage.deployment.market, dispute, fraud])
        theirs = decode_result(bench, "rulingDigest", await stage.rpc.call(stage.deployment.adjudicator, asked))
        assert adjudicator.ruling_digest(where, dispute, digest, fraud=fraud) == theirs


async def test_withheld_output_is_demanded_and_claimed(stage: Stage) -> None:
    commitment = await stage.commit(uri="http://nowhere/output")
    adapter, params = stage.adapter, stage.adapter.params
    assert await adapter.demand_eligibility(commitment, Part.OUTPUT, 0, 60) == ""
    prospect = await adapter.demand_prospect(commitment, Part.OUTPUT)
    assert (prospect.bond, prospect.reward) == (params.demand_bond, params.job_collateral // 2)
    intent = await adapter.open_demand(commitment, Part.OUTPUT, 0)
    await stage.act(2, intent.call)
    demand = next(e for e in await stage.events() if isinstance(e, DemandOpened))
    assert (demand.part, demand.index, demand.demander) == (Part.OUTPUT, 0, stage.wallets[2].address)
    assert "asked for the same" in await adapter.demand_eligibility(commitment, Part.OUTPUT, 0, 60)
    assert await adapter.advance_demand(demand.demand) is None
    await stage.devnet.time_travel(by=params.answer_period)
    claim = await adapter.advance_demand(demand.demand)
    assert claim is not None
    await stage.act(2, claim.call)
    closed = next(e for e in await stage.events() if isinstance(e, DemandClosed))
    assert (closed.outcome, closed.paid, closed.data) == (DemandOutcome.LOST, params.job_collateral // 2, b"")
    assert (await adapter.demand_status(demand.demand)).outcome is DemandOutcome.LOST
    assert await adapter.advance_demand(demand.demand) is None


async def test_an_answered_demand_extends_the_window(stage: Stage) -> None:
    commitment = await stage.commit(uri="http://nowhere/output")
    opened = (await stage.adapter.window(commitment)).closes
    await stage.act(2, (await stage.adapter.open_demand(commitment, Part.OUTPUT, 0)).call)
    demand = next(e for e in await stage.events() if isinstance(e, DemandOpened))
    await stage.devnet.time_travel(by=100)
    await stage.act(1, stage.calls.answer(demand.demand, output(7)))
    events = await stage.events()
    assert next(e for e in events if isinstance(e, DemandClosed)).data == output(7)
    extended = next(e for e in events if isinstance(e, WindowExtended))
    assert extended.closes == (await stage.adapter.window(commitment)).closes > opened


async def test_what_demands_are_not_for(stage: Stage) -> None:
    commitment = await stage.commit()
    adapter = stage.adapter
    assert "inline" in await adapter.demand_eligibility(commitment, Part.OUTPUT, 0, 60)
    assert "inline" in await adapter.demand_eligibility(commitment, Part.INPUT, 0, 60)
    assert "does not exist" in await adapter.demand_eligibility(commitment, Part.WEIGHTS, 2, 60)
    assert await adapter.demand_eligibility(commitment, Part.WEIGHTS, 1, 60) == ""
    assert await adapter.demand_eligibility(commitment, Part.OPENING, 2, 60) == ""
    assert "does not exist" in await adapter.demand_eligibility(commitment, Part.OPENING, 3, 60)
    assert "first window" in await adapter.demand_eligibility(commitment, Part.OPENING, 2, 10_000)
    assert (await adapter.demand_prospect(commitment, Part.WEIGHTS)).reward == adapter.params.model_bond // 2
    assert (await adapter.demand_prospect(commitment, Part.INPUT)).reward == 10**16 // 2


async def test_eligibility_says_why_not(stage: Stage) -> None:
    commitment = await stage.commit()
    adapter = stage.adapter
    standing = await adapter.hydrate(commitment)
    same = replace(accuse(commitment), output_root=standing.output_root, state_root=standing.state_root)
    assert "nothing to dispute" in await adapter.eligibility(same, 60)
    left = standing.window.closes - (await stage.rpc.block("latest")).time
    assert await adapter.eligibility(accuse(commitment), left - 1) == ""
    assert "are left" in await adapter.eligibility(accuse(commitment), left)
    for index in range(stage.deployment.params.max_disputes):
        await open_dispute(stage, commitment, Hash32(bytes([index + 1] * 32)))
    assert "which is the most" in await adapter.eligibility(accuse(commitment), 60)
    poor = ReferenceAdapter(
        stage.rpc,
        stage.deployment.chain,
        stage.deployment.market,
        account=Address("0x" + "77" * 20),
        secret=SECRET,
    )
    await poor.check()
    assert "bond" in await poor.eligibility(accuse(await stage.commit()), 60)
    with pytest.raises(NotThere):
        await adapter.hydrate(CommitmentId(bytes(32)))


async def test_the_anchor_is_written_once(stage: Stage) -> None:
    anchored = stage.adapter.anchor(3, WRONG, (await stage.rpc.block("latest")).time + 100)  # type: ignore[arg-type]
    revealed = stage.adapter.reveal(3, WRONG)
    assert isinstance(anchored, Intent)
    assert isinstance(revealed, Intent)
    await stage.act(2, anchored.call)
    await stage.act(2, revealed.call)
    abi = artifact("EpochAnchor").abi
    asked = encode_call(abi, "entryOf", [stage.wallets[2].address, 3])
    entry = decode_result(abi, "entryOf", await stage.rpc.call(stage.deployment.anchor, asked))
    assert (entry["commitment"], entry["secret"]) == (WRONG, WRONG)


async def test_a_wrong_contract_or_chain_is_one_clear_line(stage: Stage) -> None:
    place = stage.deployment
    wrong = {
        "no contract": (WrongContract, place.chain, Address("0x" + "12" * 20), None, None),
        "not InferenceMarket": (WrongContract, place.chain, place.adjudicator, None, None),
        "not EpochAnchor": (WrongContract, place.chain, place.market, place.adjudicator, None),
        "right endpoint": (WrongChain, ChainId(1), place.market, None, None),
        "pinned in the settings": (WrongContract, place.chain, place.market, None, {place.market: WRONG}),
    }
    for word, (kind, chain, market, anchor, pins) in wrong.items():
        adapter = ReferenceAdapter(stage.rpc, chain, market, anchor=anchor, pins=pins)
        assert not await adapter.pinned()
        with pytest.raises(kind, match=word) as caught:
            await adapter.check()
        assert "\n" not in str(caught.value)
        with pytest.raises(ConfigError, match="before its contract was checked"):
            _ = adapter.params


async def test_changed_code_is_noticed_and_a_watcher_without_a_key_opens_nothing(stage: Stage) -> None:
    commitment = await stage.commit()
    assert await stage.adapter.pinned()
    other = Changed(stage.rpc, stage.deployment.adjudicator)
    adapter = ReferenceAdapter(other, stage.deployment.chain, stage.deployment.market)  # type: ignore[arg-type]
    await adapter.check()
    assert await adapter.pinned()
    other.changed = True
    await stage.devnet.mine()
    assert not await adapter.pinned()
    with pytest.raises(FilingRefused, match="no account"):
        await adapter.open_dispute(accuse(commitment))


class Changed:
    """An endpoint on whose chain the adjudicator's code changes: the market's own code stays what it was."""

    def __init__(self, rpc: object, victim: Address) -> None:
        self._rpc = rpc
        self._victim = victim
        self.changed = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._rpc, name)

    async def code(self, address: Address, block: bytes) -> bytes:
        code = await self._rpc.code(address, block)  # type: ignore[attr-defined]
        return code + b"\0" if self.changed and address == self._victim else code
