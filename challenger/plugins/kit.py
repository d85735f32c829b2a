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
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from challenger.chain.answers import RawLog
from challenger.chain.follower import Follower, Malformed, Options
from challenger.chain.rpc import Rpc
from challenger.domain import (
    Action,
    Address,
    Call,
    ChainEvent,
    ChainId,
    Committed,
    DisputeClosed,
    DisputeId,
    DisputeOpened,
    DisputeOutcome,
    Hash32,
    Intent,
    JobStatus,
    ModelRegistered,
    TaskOpened,
    UnixTime,
)
from challenger.errors import ConfigError, FilingRefused, WrongChain, WrongContract
from challenger.pipeline.quorum import Quorum, Source
from challenger.plugins.registry import Disputed, Place
from challenger.protocols.base import Accusation, Adapter, subject
from challenger.store import migrate
from challenger.store.engine import Store, open_store
from challenger.store.schema import commitments, disputes, events, models, tasks

#: Steps that opening or ending a dispute may take before the kit gives up.
_STEPS = 64
_ELSEWHERE = Address("0x" + "5e" * 20)


class Stage(Protocol):
    """One deployed protocol. ``place`` has the account whose disputes these are, and its secret."""

    @property
    def plugin(self) -> Disputed: ...

    @property
    def place(self) -> Place: ...

    @property
    def rpc(self) -> Rpc: ...

    async def commit(self, *, honest: bool) -> Accusation:
        """A provider answers a fresh task. Gives what a replay comes to: the committed roots of an ``honest`` one, others
        else; ``evidence`` is any digest."""
        ...

    async def send(self, call: Call) -> None:
        """Sends as the account and has it mined; raises when it reverts."""
        ...

    async def mine(self, seconds: int = 0) -> None:
        """One block, so many seconds after the last."""
        ...

    async def decide(self, dispute: DisputeId, *, for_us: bool) -> None:
        """Whoever decides (a court, voters, time) does what ends the dispute so."""
        ...

    async def rival(self, accusation: Accusation) -> Address:
        """Somebody else disputes the commitment; who."""
        ...


async def adapter_on(stage: Stage, **changes: Any) -> Adapter:
    """An adapter made anew, as after a restart, and checked. ``changes``: of the place."""
    made = stage.plugin.adapter(replace(stage.place, **changes))
    await made.check()
    return made


async def logs_on(stage: Stage, adapter: Adapter) -> list[RawLog]:
    head = await stage.rpc.block("latest")
    return await stage.rpc.logs(adapter.emitters, 0, head.number, [adapter.topics])


async def events_on(stage: Stage, adapter: Adapter) -> list[ChainEvent]:
    """All that the chain says. Raises AssertionError for a log that is left out."""
    left: list[Malformed] = []
    told = await adapter.events(await logs_on(stage, adapter), left.append)
    assert not left, f"a log of the contract itself is called malformed: {left[0].error}"
    return told


async def opened(stage: Stage, adapter: Adapter, accusation: Accusation) -> DisputeOpened:
    """Opens the dispute as the watcher would: whatever the adapter names next, until it is there."""
    for _ in range(_STEPS):
        mine = [
            event
            for event in await events_on(stage, adapter)
            if isinstance(event, DisputeOpened)
            and (event.commitment, event.challenger) == (accusation.commitment, stage.place.account)
        ]
        if mine:
            return mine[-1]
        intent = await adapter.open_dispute(accusation)
        await (stage.mine() if intent is None else stage.send(intent.call))
    raise AssertionError(f"after {_STEPS} steps there is no dispute")


async def ended(stage: Stage, adapter: Adapter, dispute: DisputeId) -> DisputeClosed:
    """Takes the dispute to its end."""
    for _ in range(_STEPS):
        closed = [e for e in await events_on(stage, adapter) if isinstance(e, DisputeClosed) and e.dispute == dispute]
        if closed:
            return closed[-1]
        intent = await adapter.advance(dispute)
        await (stage.mine(1) if intent is None else stage.send(intent.call))
    raise AssertionError(f"after {_STEPS} steps the dispute is not over")


@asynccontextmanager
async def fresh_store() -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'kit.sqlite'}"
        await migrate.upgrade(url)
        async with open_store(url) as store:
            yield store


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
            await adapter_on(stage, contract=_ELSEWHERE)

    async def test_nothing_is_known_before_it_is_checked(self, stage: Stage) -> None:
        with pytest.raises(ConfigError):
            _ = stage.plugin.adapter(stage.place).terms

    async def test_the_code_is_pinned_and_the_terms_are_read(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        assert stage.place.contract in adapter.pins
        assert await adapter.pinned()
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
        shown = [await other.shown(stage.rpc, log) for log in logs]
        assert [event for event in shown if event is not None] == told

    async def test_what_the_contract_cannot_have_written_is_left_out(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        await stage.commit(honest=True)
        draw = random.Random(7)  # noqa: S311 - which bytes are spoilt
        for log in await logs_on(stage, adapter):
            for spoilt in _spoilt(log, draw):
                left: list[Malformed] = []
                told = await adapter.events([spoilt], left.append)
                assert len(told) + len(left) <= 1
                assert all(event.at == spoilt.at for event in told)
            assert await adapter.events([log._replace(address=_ELSEWHERE)], lambda _: None) == []

    async def test_the_index_is_the_same_in_one_go_and_block_by_block(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        await opened(stage, adapter, await stage.commit(honest=False))
        await stage.commit(honest=True)
        tables = []
        for near in (64, 1):
            async with fresh_store() as store:
                follower = Follower(stage.rpc, store.index(), adapter, Options(depth=4096, near=near))
                while await follower.step():
                    pass
                async with store.read() as view:
                    tables.append(
                        [
                            sorted((await view.connection.execute(table.select())).all(), key=repr)
                            for table in (events, models, tasks, commitments, disputes)
                        ]
                    )
        assert tables[0] == tables[1]
        assert len(tables[0][3]) == 2

    async def test_endpoints_that_show_the_same_agree_and_others_do_not(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        await stage.mine()
        told = await events_on(stage, adapter)
        made = next(e for e in told if isinstance(e, Committed) and e.commitment == accusation.commitment)
        case: list[ChainEvent] = [made]
        case += [e for e in told if isinstance(e, TaskOpened) and e.task == made.task]
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
        assert await adapter.eligibility(await stage.commit(honest=False), 0) == ""

    async def test_a_window_closes(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        window, head = await adapter.window(accusation.commitment), await stage.rpc.block("latest")
        assert window.open_at(head.time)
        assert await adapter.eligibility(accusation, window.closes - head.time) != ""
        await stage.mine(window.closes - head.time)
        assert not window.open_at((await stage.rpc.block("latest")).time)
        assert await adapter.eligibility(accusation, 0) != ""

    async def test_a_dispute_is_opened_step_by_step_and_after_any_restart(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        prospect = await adapter.prospect(accusation.commitment)
        assert 0 <= prospect.win <= 1_000_000
        sent: list[Intent] = []
        for _ in range(_STEPS):
            adapter = await adapter_on(stage)  # whoever comes back knows nothing but the chain
            intent = await adapter.open_dispute(accusation)
            if intent is None:
                await stage.mine()
                continue
            assert await (await adapter_on(stage)).open_dispute(accusation) == intent
            sent.append(intent)
            await stage.send(intent.call)
            if intent.action is Action.CHALLENGE:
                break
        assert sent[-1].action is Action.CHALLENGE
        assert len(sent) == adapter.terms.transactions
        assert len({(one.subject, one.action) for one in sent}) == len(sent)
        about, closes = subject(accusation.commitment), (await adapter.window(accusation.commitment)).closes
        for one in sent:
            assert one.protocol == adapter.name
            assert one.subject == about or one.subject.startswith(about + "/")
            assert one.deadline <= closes
            assert one.call.value <= prospect.bond
        dispute = await opened(stage, adapter, accusation)
        assert dispute.bond == prospect.bond
        assert (await adapter.status(dispute.dispute)).outcome is DisputeOutcome.OPEN
        assert await adapter.advance(dispute.dispute) is None, "only others can act, and there is a next transaction"

    @pytest.mark.parametrize("for_us", [True, False])
    async def test_a_dispute_is_taken_to_its_end(self, stage: Stage, for_us: bool) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        dispute = await opened(stage, adapter, accusation)
        await stage.decide(dispute.dispute, for_us=for_us)
        closed = await ended(stage, await adapter_on(stage), dispute.dispute)
        assert closed.commitment == accusation.commitment
        won = closed.outcome is DisputeOutcome.CHALLENGER
        assert won == for_us, f"it was to end {'for' if for_us else 'against'} us, and ended {closed.outcome}"
        assert (await adapter.status(dispute.dispute)).outcome is closed.outcome
        assert await adapter.advance(dispute.dispute) is None
        if won:
            assert (await adapter.hydrate(accusation.commitment)).status is JobStatus.FRAUD
        collected = await adapter.collect("1")
        if collected is not None:
            assert collected.action is Action.WITHDRAW
            await stage.send(collected.call)

    async def test_what_others_dispute_is_recorded(self, stage: Stage) -> None:
        adapter = await adapter_on(stage)
        accusation = await stage.commit(honest=False)
        who = await stage.rival(accusation)
        theirs = [event for event in await events_on(stage, adapter) if isinstance(event, DisputeOpened)]
        assert [(event.commitment, event.challenger) for event in theirs] == [(accusation.commitment, who)]

    async def test_without_a_key_it_reads_and_opens_nothing(self, stage: Stage) -> None:
        adapter = await adapter_on(stage, account=None, secret=b"")
        accusation = await stage.commit(honest=False)
        assert (await adapter.hydrate(accusation.commitment)).status is JobStatus.COMMITTED
        with pytest.raises(FilingRefused):
            await adapter.open_dispute(accusation)


def _spoilt(log: RawLog, draw: random.Random) -> Sequence[RawLog]:
    """What an endpoint that is broken or lies might serve in place of ``log``."""
    data, topics = log.data, log.topics
    flipped = bytearray(data or b"\0")
    flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    swapped = (*topics[:1], *(draw.randbytes(32) for _ in topics[1:]))
    return (
        log._replace(data=data[: len(data) // 2]),
        log._replace(data=draw.randbytes(len(data))),
        log._replace(data=b"\xff" * len(data)),
        log._replace(data=bytes(flipped)),
        log._replace(data=b""),
        log._replace(topics=topics[:1]),
        log._replace(topics=(*topics, bytes(32))),
        log._replace(topics=swapped),
        log._replace(topics=()),
    )
