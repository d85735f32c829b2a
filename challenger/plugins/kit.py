"""What every adapter must do, as tests: subclass ``AdapterSuite`` and give it a fixture ``stage``.

    class TestMyProtocol(AdapterSuite):
        @pytest.fixture
        async def stage(self) -> AsyncIterator[Stage]:
            async with my_stage() as stage:
                yield stage

The stage is the protocol's contract, or a double of it, on a chain of the test's own, with somebody to play every other
part (docs/protocols.md has a worked one). The tests speak to the adapter through the very seams that the watcher uses.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from challenger.chain.follower import Malformed
from challenger.domain import (
    Action,
    ChainEvent,
    ChainId,
    Committed,
    DisputeOpened,
    DisputeOutcome,
    Hash32,
    Intent,
    JobClosed,
    JobStatus,
    ModelRegistered,
    TaskOpened,
    UnixTime,
)
from challenger.errors import ConfigError, FilingRefused, WrongChain, WrongContract
from challenger.pipeline.quorum import Quorum, Source
from challenger.plugins.onlooker import Onlooker
from challenger.plugins.stage import (
    ELSEWHERE,
    STEPS,
    Stage,
    adapter_on,
    ended,
    events_on,
    indexed,
    key_of,
    led_to_the_challenge,
    logs_on,
    opened,
    refused,
    spoilt_of,
)
from challenger.protocols.base import subject

__all__ = ["AdapterSuite", "Stage", "adapter_on", "ended", "events_on", "logs_on", "opened"]


class AdapterSuite:
    """One adapter against its contract."""

    async def test_it_says_who_it_is(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        assert adapter.name == stage.plugin.name
        assert stage.plugin.summary
        assert adapter.emitters
        assert all(one == one.lower() and len(one) == 42 for one in adapter.emitters)
        assert adapter.topics
        assert all(len(topic) == 32 for topic in adapter.topics)
        assert len(set(adapter.topics)) == len(adapter.topics)
        assert stage.plugin.explain(b"\xde\xad\xbe\xef") != ""

    async def test_another_chain_and_an_empty_address_are_refused(self, stage: Stage) -> None:
        with pytest.raises(WrongChain):
            await adapter_on(stage, chain_id=ChainId(stage.place.chain_id + 1))
        with pytest.raises(WrongContract):
            await adapter_on(stage, contract=ELSEWHERE)

    async def test_nothing_is_known_before_it_is_checked(self, stage: Stage) -> None:
        new = stage.plugin.adapter(stage.place)
        with pytest.raises(ConfigError):
            _ = new.terms
        await stage.commit(honest=True)
        # an audit reads logs without a check
        assert await events_on(stage, new) == await events_on(stage, await adapter_on(stage))

    async def test_the_code_is_pinned_and_the_terms_are_read(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        assert stage.place.contract in adapter.pins
        assert await adapter.pinned()
        for address in adapter.pins:
            chain = Onlooker(stage.rpc)
            other = await adapter_on(stage, chain=chain)
            chain.changed.add(address)
            assert not await other.pinned(), f"another code at {address} goes unnoticed"
        terms = adapter.terms
        assert terms.said
        assert terms.text
        assert terms.transactions >= 1
        assert min(terms.bond, terms.reward, terms.burnt, terms.blocks) >= 0

    async def test_a_commitment_is_one_event_and_a_case_is_whole(self, stage: Stage) -> None:
        """Nothing is filed without the commitment, its task and its model: each must be in the index."""
        adapter = await adapter_on(stage)
        honest, wrong = await stage.commit(honest=True), await stage.commit(honest=False)
        told = await events_on(stage, adapter)
        made = [event for event in told if isinstance(event, Committed)]
        assert [event.commitment for event in made] == [honest.commitment, wrong.commitment]
        assert (made[0].output_root, made[0].state_root) == (honest.output_root, honest.state_root)
        assert (made[1].output_root, made[1].state_root) != (wrong.output_root, wrong.state_root)
        for event in made:
            assert any(isinstance(e, TaskOpened) and e.task == event.task for e in told)
            assert any(isinstance(e, ModelRegistered) and e.model == event.model for e in told)
            standing = await adapter.hydrate(event.commitment)
            assert standing.status is JobStatus.COMMITTED
            assert (standing.provider, standing.output_root) == (event.provider, event.output_root)
            window = await adapter.window(event.commitment)
            assert (window.opens, window.closes) == (event.committed_at, event.closes)
            assert await adapter.window_at(stage.rpc, event.commitment, standing.block.hash) == window

    async def test_the_same_logs_say_the_same_whoever_reads_them(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        await opened(stage, adapter, accusation)
        told, other = await events_on(stage, adapter), await adapter_on(stage, account=None, secret=b"")
        assert await events_on(stage, other) == told
        logs = await logs_on(stage, adapter)
        apart = [event for log in logs for event in await other.events([log], lambda _: None)]
        assert apart == told
        chain = Onlooker(stage.rpc)
        away = await adapter_on(stage, chain=chain)
        chain.gone = True  # whoever is asked is the reader that is handed in
        shown = [await away.shown(stage.rpc, log) for log in logs]
        assert [event for event in shown if event is not None] == told
        head = await stage.rpc.block("latest")
        window = await away.window_at(stage.rpc, accusation.commitment, head.hash)
        assert window == await adapter.window(accusation.commitment)

    async def test_state_is_read_as_of_one_block_that_its_hash_names(self, stage: Stage) -> None:
        """The index may be far behind the head, and a reorganisation must not mix two states."""
        chain = Onlooker(stage.rpc)
        adapter = await adapter_on(stage, chain=chain)
        accusation = await stage.commit(honest=False)
        dispute = await opened(stage, adapter, accusation)
        await stage.mine()
        for log in await logs_on(stage, adapter):
            chain.asked.clear()
            await adapter.events([log], lambda _: None)
            parent = (await stage.rpc.block(log.block_hash)).parent
            assert set(chain.asked) <= {log.block_hash, parent}, (
                "what a log says is read at the log's block, by its hash"
            )
        chain.asked.clear()
        standing = await adapter.hydrate(accusation.commitment)
        assert set(chain.asked) <= {standing.block.hash}
        chain.asked.clear()
        case = await adapter.status(dispute.dispute)
        assert set(chain.asked) <= {case.block.hash}

    async def test_what_the_contract_cannot_have_written_is_left_out(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        await stage.commit(honest=True)
        draw = random.Random(7)  # noqa: S311 - which bytes are spoilt
        for log in await logs_on(stage, adapter):
            left: list[Malformed] = []
            if await adapter.events([log], left.append) and len(log.data) >= 32:
                assert await adapter.events([log._replace(data=log.data[: len(log.data) // 2])], left.append) == []
                assert len(left) == 1, "whoever serves half a log is told of"
            for spoilt in spoilt_of(log, draw):
                left = []
                told = await adapter.events([spoilt], left.append)
                assert len(told) + len(left) <= 1
                assert all(event.at == spoilt.at for event in told)
            assert await adapter.events([log._replace(address=ELSEWHERE)], lambda _: None) == []

    async def test_the_index_is_the_same_in_one_go_and_block_by_block(self, stage: Stage) -> None:
        await opened(stage, adapter := await adapter_on(stage), await stage.commit(honest=False))
        await stage.commit(honest=True)
        once, block_by_block = [await indexed(stage, adapter, near) for near in (64, 1)]
        assert once == block_by_block
        assert len(once["commitments"]) == 2

    async def test_endpoints_that_show_the_same_agree_and_others_do_not(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        await stage.mine()
        told = await events_on(stage, adapter)
        made = next(e for e in told if isinstance(e, Committed) and e.commitment == accusation.commitment)
        case: list[ChainEvent] = [made, *(e for e in told if isinstance(e, TaskOpened) and e.task == made.task)]
        case += [e for e in told if isinstance(e, ModelRegistered) and e.model == made.model]
        quorum = Quorum([Source(stage.rpc, "here")], adapter, 1)
        head = await stage.rpc.block("latest")
        window = await adapter.window(made.commitment)
        assert (await quorum.ask(case, head, window)).reason == ""
        lie = replace(made, output_root=Hash32(bytes(31) + b"\x01"))
        assert (await quorum.ask([lie, *case[1:]], head, window)).against
        assert (await quorum.ask(case, head, replace(window, closes=UnixTime(window.closes + 1)))).against

    async def test_an_answer_that_is_right_cannot_be_disputed(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        assert await adapter.eligibility(await stage.commit(honest=True), 0) != ""
        wrong = await stage.commit(honest=False)
        assert await adapter.eligibility(wrong, 0) == ""
        if (await adapter.prospect(wrong.commitment)).bond:
            poor = await adapter_on(stage, account=ELSEWHERE)
            assert await poor.eligibility(wrong, 0) != "", "who cannot pay the bond cannot dispute"

    async def test_a_window_closes(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        window, head = await adapter.window(accusation.commitment), await stage.rpc.block("latest")
        assert window.open_at(head.time)
        assert await adapter.eligibility(accusation, window.closes - head.time) != ""
        challenge = await led_to_the_challenge(stage, adapter, accusation)
        head = await stage.rpc.block("latest")
        await stage.mine(window.closes - 1 - head.time)
        assert (await stage.rpc.block("latest")).time == window.closes - 1, "the stage's clock is not exact"
        assert window.open_at(UnixTime(window.closes - 1))
        assert not await refused(stage, challenge), "in the window's last second the contract refuses a dispute"
        await stage.mine(1)
        assert not window.open_at((await stage.rpc.block("latest")).time)
        assert await refused(stage, challenge), "after the window the contract takes a dispute"
        assert await adapter.eligibility(accusation, 0) != ""

    async def test_a_dispute_is_opened_step_by_step_and_after_any_restart(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        prospect = await adapter.prospect(accusation.commitment)
        assert 0 <= prospect.win <= 1_000_000
        sent: list[Intent] = []
        for _ in range(STEPS):
            adapter = await adapter_on(stage)  # whoever comes back knows nothing but the chain
            intent = await adapter.open_dispute(accusation)
            if intent is None:
                await stage.mine()
                continue
            assert await adapter.open_dispute(accusation) == intent, "asked again, it names the same"
            assert await (await adapter_on(stage)).open_dispute(accusation) == intent
            await stage.mine()
            later = await adapter.open_dispute(accusation)
            assert later is None or key_of(later) == key_of(intent), "a block later the same step has another key"
            sent.append(intent)
            await stage.send(intent.call)
            if intent.action is Action.CHALLENGE:
                break
        assert sent[-1].action is Action.CHALLENGE
        assert len(sent) == adapter.terms.transactions
        keys = {key_of(one) for one in sent}
        assert len(keys) == len(sent)
        about, closes = subject(accusation.commitment), (await adapter.window(accusation.commitment)).closes
        for one in sent:
            assert one.protocol == adapter.name
            assert one.subject == about or one.subject.startswith(about + "/")
            assert one.deadline <= closes
            assert one.call.value <= prospect.bond
        dispute = await opened(stage, adapter, accusation)
        again = await adapter.open_dispute(accusation)
        assert again is None or key_of(again) in keys, "it would be opened a second time"
        assert dispute.bond == prospect.bond
        assert (await adapter.status(dispute.dispute)).outcome is DisputeOutcome.OPEN
        assert await adapter.advance(dispute.dispute) is None, "only others can act, and there is a next transaction"

    @pytest.mark.parametrize("for_us", [True, False])
    async def test_a_dispute_is_taken_to_its_end(self, stage: Stage, for_us: bool) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        assert (await adapter.hydrate(accusation.commitment)).open_disputes == 0
        dispute = await opened(stage, adapter, accusation)
        assert (await adapter.hydrate(accusation.commitment)).open_disputes == 1
        assert (await adapter.status(dispute.dispute)).outcome is DisputeOutcome.OPEN
        await stage.decide(dispute.dispute, for_us=for_us)
        closed = await ended(stage, await adapter_on(stage), dispute.dispute)
        assert closed.commitment == accusation.commitment
        won = closed.outcome is DisputeOutcome.CHALLENGER
        assert won == for_us, f"it was to end {'for' if for_us else 'against'} us, and ended {closed.outcome}"
        assert (await adapter.status(dispute.dispute)).outcome is closed.outcome
        assert await adapter.advance(dispute.dispute) is None
        if won:
            assert (await adapter.hydrate(accusation.commitment)).status is JobStatus.FRAUD
            told = [e for e in await events_on(stage, adapter) if isinstance(e, JobClosed)]
            assert [(e.commitment, e.status) for e in told] == [(accusation.commitment, JobStatus.FRAUD)]
            assert await adapter.eligibility(accusation, 0) != "", "what is fraud already cannot be disputed"
        collected = await adapter.collect("1")
        if collected is not None:
            assert collected.action is Action.WITHDRAW
            await stage.send(collected.call)
            assert await adapter.collect("2") is None, "nothing is left to collect"

    async def test_what_others_dispute_is_recorded(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        who = await stage.rival(accusation := await stage.commit(honest=False))
        theirs = [event for event in await events_on(stage, adapter) if isinstance(event, DisputeOpened)]
        assert [(event.commitment, event.challenger) for event in theirs] == [(accusation.commitment, who)]
        aid = await adapter.aid(accusation, 0)
        if aid is not None:
            assert aid.intent.action in (Action.VOTE, Action.SUGGEST)
            assert aid.intent.subject.startswith(subject(accusation.commitment))
            await stage.send(aid.intent.call)
            assert await adapter.aid(accusation, 0) is None, "what was done already can be done again"

    async def test_without_a_key_it_reads_and_opens_nothing(self, stage: Stage) -> None:
        adapter = await adapter_on(stage, account=None, secret=b"")
        accusation = await stage.commit(honest=False)
        assert (await adapter.hydrate(accusation.commitment)).status is JobStatus.COMMITTED
        with pytest.raises(FilingRefused):
            await adapter.open_dispute(accusation)
