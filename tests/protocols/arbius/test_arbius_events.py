"""What the engine's logs say, read from the chain at their blocks: each task of a bulk, each solution, whatever else is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from arbius_stage import INPUT, RIGHT, WRONG, Stage, accuse, stage

from challenger.chain.asking import Member
from challenger.chain.codec import encode_deploy
from challenger.chain.follower import Malformed
from challenger.chain.hashing import keccak
from challenger.chain.pool import PoolProvider
from challenger.chain.rpc import Rpc
from challenger.contracts import double
from challenger.domain import (
    Address,
    Block,
    ChainEvent,
    Committed,
    DisputeOpened,
    Hash32,
    JobClosed,
    ModelRegistered,
    TaskClosed,
    TaskId,
    TaskOpened,
    UnixTime,
    Wei,
)
from challenger.errors import EndpointError, MalformedLog, WrongChain, WrongContract
from challenger.pipeline.quorum import Quorum, Source
from challenger.protocols.arbius import meaning
from challenger.protocols.arbius.adapter import ArbiusAdapter
from challenger.protocols.arbius.calls import task_id
from challenger.protocols.arbius.cid import input_cid, solution_cid
from challenger.protocols.arbius.inputs import Inputs
from challenger.protocols.base import BESIDE, beside
from challenger.sim.arbius import order, plain, solve
from challenger.sim.foes.forwarder import Forwarder, OnPayment, creation_code


def of(events: list[ChainEvent], kind: type) -> list[ChainEvent]:
    return [event for event in events if isinstance(event, kind)]


async def test_a_bulk_is_so_many_tasks_and_so_many_commitments() -> None:
    async with stage() as at:
        first = (await at.rpc.block("latest")).number + 1
        tasks = await order(at.wallets[1], at.there, at.model, INPUT, count=50)
        assert len(set(tasks)) == 50
        right = {task for i, task in enumerate(tasks) if i % 5}
        await at.devnet.time_travel(by=60)  # a solver's rate is one a second
        cids = [solution_cid(RIGHT if task in right else WRONG) for task in tasks]
        await solve(at.wallets[2], at.there, tasks, cids)
        told = await at.events(first)
        opened = [event for event in told if isinstance(event, TaskOpened)]
        assert [(event.task, event.input_data, event.input_root) for event in opened] == [
            (task, task + INPUT, keccak(task + INPUT)) for task in tasks
        ]
        committed = [event for event in told if isinstance(event, Committed)]
        assert [event.commitment for event in committed] == tasks
        assert {event.commitment for event in committed if event.output_root == RIGHT} == right
        assert {event.closes - event.committed_at for event in committed} == {3600}
        assert not of(told, ModelRegistered)  # it is older than these blocks, and the index is not
        places = [(event.at.block, event.at.log_index) for event in told]
        assert len(set(places)) == len(places)
        assert len({event.at.tx_hash for event in opened}) == 1


async def test_what_a_log_means_does_not_depend_on_the_range() -> None:
    async with stage() as at:
        commitment = await at.commit()
        await at.send(await at.adapter.open_dispute(accuse(commitment)))
        await at.past_vote(commitment)
        await at.finish(commitment)
        head = await at.rpc.block("latest")
        whole = await at.events()
        apart: list[ChainEvent] = []
        for number in range(head.number + 1):
            logs = await at.rpc.logs(at.adapter.emitters, number, number, [at.adapter.topics])
            apart += await at.adapter.events(logs, lambda _: None)
        assert apart == whole
        # and another reader of the chain shows each, at the place where it stands
        logs = await at.rpc.logs(at.adapter.emitters, 0, head.number, [at.adapter.topics])
        by_place = {(log.block, log.log_index): log for log in logs}
        for event in whole:
            log = by_place[event.at.block, event.at.log_index % BESIDE]
            assert await at.adapter.shown(at.rpc, beside(log, event.at.log_index // BESIDE)) == event


async def test_an_index_that_begins_later_knows_model_and_task() -> None:
    """Both are told once more beside the solution; of the input nothing is known, and nothing is guessed."""
    async with stage() as at:
        tasks = await order(at.wallets[1], at.there, at.model, INPUT)
        await at.devnet.time_travel(by=10)
        start = (await at.rpc.block("latest")).number + 1
        await solve(at.wallets[2], at.there, tasks, [solution_cid(WRONG)])
        late = ArbiusAdapter(at.rpc, at.there.chain, at.there.engine, token_price=Wei(1), start=start)
        head = await at.rpc.block("latest")
        logs = await at.rpc.logs(late.emitters, start, head.number, [late.topics])
        told = await late.events(logs, lambda _: None)
        assert [type(event) for event in told] == [Committed, TaskOpened, ModelRegistered]
        assert [event.at.log_index // BESIDE for event in told] == [0, 1, 2]
        opened = next(event for event in told if isinstance(event, TaskOpened))
        assert (opened.task, opened.model, opened.input_data, opened.input_root) == (tasks[0], at.model, b"", bytes(32))
        assert opened.requester == at.wallets[1].address
        # with the engine's whole history in the index nothing is told twice
        assert not of(await at.events(start), TaskOpened)
        # a task of the index's own time is told once, and its model beside it
        await order(at.wallets[1], at.there, at.model, INPUT)
        logs = await at.rpc.logs(late.emitters, head.number + 1, head.number + 1, [late.topics])
        assert [type(event) for event in await late.events(logs, lambda _: None)] == [TaskOpened, ModelRegistered]
        quorum = Quorum([Source(at.rpc, "here")], late, 1)
        assert (await quorum.ask(told)).reason == ""
        assert (await quorum.ask([*told[:2], replace(told[2], registrar=at.there.engine)])).against


async def test_when_the_index_begins_each_endpoint_says_for_itself() -> None:
    """One that lies about the time of the index's eve decides nothing of what ours says later."""

    class Lying:
        def __init__(self, rpc: Rpc) -> None:
            self.call, self.read = rpc.call, rpc.read
            self._block = rpc.block

        async def block(self, which: int | bytes | str) -> Block:
            return replace(await self._block(which), time=UnixTime(0))

    async with stage() as at:
        tasks = await order(at.wallets[1], at.there, at.model, INPUT)
        await at.devnet.time_travel(by=10)
        start = (await at.rpc.block("latest")).number + 1
        await solve(at.wallets[2], at.there, tasks, [solution_cid(WRONG)])
        late = ArbiusAdapter(at.rpc, at.there.chain, at.there.engine, token_price=Wei(1), start=start)
        head = await at.rpc.block("latest")
        logs = await at.rpc.logs(late.emitters, start, head.number, [late.topics])
        second = beside(next(log for log in logs if log.topics[0] == late._logs.topic("SolutionSubmitted")), 1)
        assert await late.shown(Lying(at.rpc), second) is None
        assert isinstance(await late.shown(at.rpc, second), TaskOpened)


async def test_the_call_data_of_a_bulk_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks one transaction submits, and however slow its call data are made to be."""
    looked = []

    def counted(data: bytes) -> Inputs:
        looked.append(data)
        return Inputs(data)

    monkeypatch.setattr(meaning, "Inputs", counted)
    async with stage() as at:
        await order(at.wallets[1], at.there, at.model, INPUT, count=20)
        opened = of(await at.events(), TaskOpened)
    assert [event.input_data for event in opened] == [event.task + INPUT for event in opened]
    assert (len(opened), len(looked)) == (20, 1)


async def test_an_input_inside_another_contracts_call_data() -> None:
    async with stage() as at:
        address, _ = await at.wallets[1].create(creation_code(OnPayment.TAKES))
        call = at.calls.submit_task(at.wallets[1].address, at.model, 0, INPUT)
        await at.act(1, Forwarder(address).through(call))
        assert [event.input_data[32:] for event in await at.events() if isinstance(event, TaskOpened)] == [INPUT]


async def test_an_input_in_no_call_data_is_not_guessed() -> None:
    async with stage() as at:
        address, _ = await at.wallets[1].create(double("ArbiusRequester").bytecode)
        engine, model = ("address", at.there.engine), ("bytes32", at.model)
        await at.act(1, plain(address, "order", engine, model, ("uint256", 3)))
        opened = next(event for event in await at.events() if isinstance(event, TaskOpened))
        assert (opened.input_data, opened.input_uri, opened.input_root) == (b"", "", bytes(32))
        assert opened.requester == at.wallets[1].address


async def test_a_commitment_comes_from_an_earlier_block() -> None:
    async with stage() as at:
        commitment = await at.commit()
        head = await at.rpc.block("latest")
        assert await at.adapter.revealed(commitment) == head.number - 1
        tasks = await order(at.wallets[1], at.there, at.model, INPUT)
        assert await at.refusal(2, at.calls.solve(tasks[0], solution_cid(WRONG))) == "solution rate limit"
        await at.devnet.time_travel(by=10)
        assert await at.refusal(2, at.calls.solve(tasks[0], solution_cid(WRONG))) == "non existent commitment"


async def test_a_claim_closes_the_job() -> None:
    async with stage() as at:
        commitment = await at.commit(RIGHT)
        await at.devnet.time_travel(to=(await at.adapter.window(commitment)).closes + 1)
        await at.act(1, at.calls.claim(TaskId(commitment)))
        assert [event.commitment for event in await at.events() if isinstance(event, JobClosed)] == [commitment]


async def test_a_task_taken_back() -> None:
    async with stage(1) as at:
        tasks = await order(at.wallets[1], at.there, at.model, INPUT)
        await at.devnet.time_travel(by=10_001)
        await at.act(1, plain(at.there.engine, "retractTask", ("bytes32", tasks[0])))
        closed = next(event for event in await at.events() if isinstance(event, TaskClosed))
        assert (closed.task, closed.reason) == (tasks[0], "retracted")


# what an endpoint may serve that the engine never wrote


async def logs_of(at: Stage) -> list:  # type: ignore[type-arg]
    head = await at.rpc.block("latest")
    return await at.rpc.logs(at.adapter.emitters, 0, head.number, [at.adapter.topics])


async def test_hostile_logs_are_left_out() -> None:
    async with stage() as at:
        await at.commit()
        good = await logs_of(at)
        expected = await at.adapter.events(good, lambda _: None)
        task = next(log for log in good if log.topics[0] == at.adapter._logs.topic("TaskSubmitted"))
        hostile = [
            task._replace(topics=task.topics[:3]),
            task._replace(data=b""),
            task._replace(data=task.data[:31]),
            task._replace(topics=(*task.topics[:3], b"\xff" * 32)),  # no address
        ]
        left_out: list[Malformed] = []
        assert await at.adapter.events([*hostile, *good], left_out.append) == expected
        assert [entry.log for entry in left_out] == hostile
        assert all(isinstance(entry.error, MalformedLog) and "\n" not in str(entry.error) for entry in left_out)
        for log in hostile:
            with pytest.raises(MalformedLog):
                await at.adapter.shown(at.rpc, log)
        # another contract's logs, and what no neutral event comes of, say nothing
        other = task._replace(address=Address("0x" + "11" * 20))
        strange = task._replace(topics=(b"\x01" * 32, *task.topics[1:]))
        assert await at.adapter.events([other, strange, task._replace(topics=())], left_out.append) == []
        assert len(left_out) == 4


async def test_what_the_state_of_its_block_denies_is_left_out() -> None:
    async with stage() as at:
        commitment = await at.commit()
        await at.send(await at.adapter.open_dispute(accuse(commitment)))
        await at.past_vote(commitment)
        await at.finish(commitment)
        by_name = {log.topics[0]: log for log in await logs_of(at)}
        nobody, nothing = bytes(12) + b"\x22" * 20, b"\x07" * 32

        async def denied(name: str, **changes: object) -> str:
            log = by_name[at.adapter._logs.topic(name)]
            left: list[Malformed] = []
            assert await at.adapter.events([log._replace(**changes)], left.append) == []
            return str(left[0].error)

        def topics(name: str, place: int, word: bytes) -> tuple[bytes, ...]:
            log = by_name[at.adapter._logs.topic(name)]
            return (*log.topics[:place], word, *log.topics[place + 1 :])

        unknown = "knows nothing by this identifier"
        assert unknown in await denied("ModelRegistered", topics=topics("ModelRegistered", 1, nothing))
        assert unknown in await denied("TaskSubmitted", topics=topics("TaskSubmitted", 1, nothing))
        assert "the task is another" in await denied("TaskSubmitted", topics=topics("TaskSubmitted", 2, nothing))
        assert "the task is another" in await denied("TaskSubmitted", data=bytes(32))
        assert unknown in await denied("SolutionSubmitted", topics=topics("SolutionSubmitted", 2, nothing))
        assert "another's" in await denied("SolutionSubmitted", topics=topics("SolutionSubmitted", 1, nobody))
        assert unknown in await denied("ContestationSubmitted", topics=topics("ContestationSubmitted", 2, nothing))
        assert "another's" in await denied("ContestationSubmitted", topics=topics("ContestationSubmitted", 1, nobody))
        assert "come to 1" in await denied("ContestationVoteFinish", data=(2).to_bytes(32, "big"))
        solved = by_name[at.adapter._logs.topic("SolutionSubmitted")]
        claimed = solved._replace(topics=(at.adapter._logs.topic("SolutionClaimed"), *solved.topics[1:]))
        left: list[Malformed] = []
        assert await at.adapter.events([claimed], left.append) == []
        assert "not claimed" in str(left[0].error)
        retracted = solved._replace(topics=(at.adapter._logs.topic("TaskRetracted"), commitment))
        assert await at.adapter.events([retracted], left.append) == []
        assert "the task stands" in str(left[1].error)


async def test_a_transaction_that_is_not_served_is_asked_for_again() -> None:
    """Nothing is indexed of the range: the log is true, and what it means is not known yet."""
    async with stage() as at:
        await at.commit()
        ordered = at.adapter._logs.topic("TaskSubmitted")
        log = next(log for log in await logs_of(at) if log.topics[0] == ordered)
        with pytest.raises(EndpointError, match="it does not know its transaction"):
            await at.adapter.events([log._replace(tx_hash=Hash32(b"\x07" * 32))], lambda _: None)


async def test_a_transaction_that_one_endpoint_has_forgotten_another_serves() -> None:
    """Nodes keep logs for longer than they find transactions by their hashes."""

    class Forgets(Refuses):
        async def make_request(self, method: Any, params: Any) -> Any:
            if method == "eth_getTransactionByHash":
                return {"result": None}
            return await super().make_request(method, params)

    async with stage() as at:
        await at.commit()
        ends = (Forgets(at.devnet.provider), at.devnet.provider)
        members = [Member(Rpc(one, name=str(n), attempts=1), str(n)) for n, one in enumerate(ends)]
        chain = Rpc(PoolProvider(members, chain_id=at.there.chain), attempts=1)
        adapter = ArbiusAdapter(chain, at.there.chain, at.there.engine, token_price=Wei(1))
        (opened,) = [e for e in await adapter.events(await logs_of(at), lambda _: None) if isinstance(e, TaskOpened)]
        assert opened.input_data.endswith(INPUT)


# the identifiers, the seam, the contract itself


async def test_identifiers_are_the_engines() -> None:
    async with stage() as at:
        before = await at.rpc.call(at.there.engine, keccak(b"prevhash()")[:4])
        tasks = await order(at.wallets[1], at.there, at.model, INPUT, fee=7)
        assert tasks == [task_id(at.wallets[1].address, Hash32(before), at.model, 7, input_cid(INPUT))]


async def test_check_takes_an_engine_and_nothing_else() -> None:
    async with stage(validators=(2,)) as at:
        assert set(at.adapter.pins) == {at.there.engine}
        assert await at.adapter.pinned()

        def adapter(**changes: object) -> ArbiusAdapter:
            facts = {"chain_id": at.there.chain, "engine": at.there.engine, "token_price": Wei(1)} | changes
            return ArbiusAdapter(at.rpc, **facts)  # type: ignore[arg-type]

        with pytest.raises(WrongChain):
            await adapter(chain_id=1).check()
        with pytest.raises(WrongContract, match="there is no contract"):
            await adapter(engine=Address("0x" + "11" * 20)).check()
        with pytest.raises(WrongContract, match="does not answer as an Arbius engine"):
            await adapter(engine=at.there.token).check()
        with pytest.raises(WrongContract, match="not the one pinned"):
            await adapter(pins={at.there.engine: Hash32(bytes(32))}).check()
        await at.act(0, plain(at.there.engine, "setVersion", ("uint256", 7)))
        with pytest.raises(WrongContract, match="calls itself version 7 and answers as generation 5"):
            await adapter().check()


class Refuses:
    """An endpoint by which one function of the engine reverts without data, as one that the engine lacks."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.function = ""

    async def make_request(self, method: Any, params: Any) -> Any:
        selector = "0x" + keccak(self.function.encode())[:4].hex()
        if self.function and method == "eth_call" and params[0]["data"].startswith(selector):
            return {"error": {"code": -32000, "message": "execution reverted"}}
        return await self.inner.make_request(method, params)


async def test_a_sign_that_an_endpoint_denies_is_its_fault_while_running_and_the_contracts_at_the_start() -> None:
    async with stage(validators=(2,)) as at:
        endpoint = Refuses(at.devnet.provider)

        def adapter() -> ArbiusAdapter:
            return ArbiusAdapter(Rpc(endpoint), at.there.chain, at.there.engine, token_price=Wei(1))

        running = adapter()
        await running.check()
        commitment = await at.commit()
        endpoint.function = "contestationVoteExtensionTime()"
        with pytest.raises(EndpointError, match="lacks contestationVoteExtensionTime"):
            await running.hydrate(commitment)
        with pytest.raises(WrongContract, match="lacks contestationVoteExtensionTime"):
            await adapter().check()


async def test_an_upgrade_behind_the_proxy_stops_filing() -> None:
    async with stage(validators=(2,)) as at:
        source, proxy = double("ArbiusEngine"), double("UpgradeableProxy")
        codes = []
        for generation in (1, 2):
            made = encode_deploy(source.bytecode, source.abi, [at.there.token, generation])
            codes.append((await at.wallets[0].create(made))[0])
        engine, _ = await at.wallets[0].create(encode_deploy(proxy.bytecode, proxy.abi, [codes[0]]))
        await at.act(0, plain(engine, "upgrade", ("uint8", 5)))
        adapter = ArbiusAdapter(at.rpc, at.there.chain, engine, token_price=Wei(1))
        await adapter.check()
        assert set(adapter.pins) == {engine, codes[0]}
        assert await adapter.pinned()
        await at.act(0, plain(engine, "upgradeTo", ("address", codes[1])))
        assert not await adapter.pinned()


async def test_a_contestation_is_told_with_its_stake() -> None:
    async with stage() as at:
        commitment = await at.commit()
        slash = await at.slash()
        await at.send(await at.adapter.open_dispute(accuse(commitment)))
        opened = next(event for event in await at.events() if isinstance(event, DisputeOpened))
        assert (opened.commitment, opened.challenger, opened.bond) == (commitment, at.wallets[3].address, slash)
        assert opened.dispute == int.from_bytes(commitment, "big")
