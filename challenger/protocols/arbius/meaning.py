"""What the engine's logs mean, read from the chain at their blocks.

``SolutionSubmitted`` names no CID, ``TaskSubmitted`` no input, a count no outcome: each is read at the block of the log, by its
hash. What a log means depends on that log and its block alone, never on what else is in a range, so that an audit that
reads other ranges comes to the same. A model or a task from before the first indexed block is told once more beside a log
that names it; the record keeps the first of several births.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from challenger.chain import wire
from challenger.chain.answers import RawLog
from challenger.chain.follower import LeftOut, Malformed
from challenger.chain.hashing import keccak
from challenger.domain import (
    Address,
    Block,
    BlockNumber,
    ChainEvent,
    CommitmentId,
    Committed,
    DisputeClosed,
    DisputeId,
    DisputeOpened,
    DisputeOutcome,
    Hash32,
    JobClosed,
    JobStatus,
    ModelId,
    ModelRegistered,
    TaskClosed,
    TaskId,
    TaskOpened,
    TaskTaken,
    UnixTime,
    Wei,
)
from challenger.errors import EndpointError, MalformedLog
from challenger.protocols.arbius.cid import output_root
from challenger.protocols.arbius.inputs import find_input
from challenger.protocols.arbius.logs import EngineLogs, Heard, beside
from challenger.protocols.arbius.odds import shares
from challenger.protocols.arbius.seed import seed_word
from challenger.protocols.arbius.views import Contest, EngineViews, Rules, Task
from challenger.protocols.base import NO_DEADLINE

T = TypeVar("T")
ZERO = Hash32(bytes(32))
#: Logs whose meaning is read at a time.
_AT_ONCE = 8
#: How many things a log may say.
_SAYS = {"TaskSubmitted": 2, "SolutionSubmitted": 4, "ContestationVoteFinish": 2}


class Reader(Protocol):
    """What the meanings of logs need of the chain."""

    async def block(self, which: int | bytes | str) -> Block: ...

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes: ...

    async def read(self, method: str, params: list[Any], parse: Callable[[Any], Any]) -> Any: ...


class _Once:
    """A reader that asks each thing once: many logs of a block ask the same."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._asked: dict[tuple[Any, ...], asyncio.Future[Any]] = {}

    async def block(self, which: int | bytes | str) -> Block:
        return await self._of(("block", which), partial(self._reader.block, which))

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes:
        return await self._of(("call", to, data, block), partial(self._reader.call, to, data, block))

    async def read(self, method: str, params: list[Any], parse: Callable[[Any], Any]) -> Any:
        return await self._of((method, *params), partial(self._reader.read, method, params, parse))

    async def _of(self, key: tuple[Any, ...], ask: Callable[[], Awaitable[T]]) -> T:
        if key not in self._asked:
            self._asked[key] = asyncio.ensure_future(ask())
        return await asyncio.shield(self._asked[key])


class Meanings:
    """``start``: the first block that is indexed."""

    def __init__(self, engine: Address, start: int = 0) -> None:
        self._engine = engine
        self._start = start
        self._logs = EngineLogs(engine)
        self._eve: UnixTime | None = None

    async def events(self, reader: Reader, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        """All that ``logs`` say, in their order; what is malformed goes to ``left_out``."""
        once, gate = _Once(reader), asyncio.Semaphore(_AT_ONCE)
        heard: list[Heard] = []
        ordered: set[tuple[bytes, bytes]] = set()
        for log in logs:
            try:
                found = self._logs.read(log)
            except MalformedLog as error:
                left_out(Malformed(log, error))
                continue
            if found is None:
                continue
            heard.append(found)
            for nth in range(1, _SAYS.get(found.name, 1)):
                if found.name == "TaskSubmitted":
                    # many tasks of one transaction name one model: told beside the first
                    key = (log.tx_hash, found.args["model"])
                    if key in ordered:
                        continue
                    ordered.add(key)
                heard.append(Heard(found.name, found.args, beside(log, nth), nth))

        async def meant(one: Heard) -> ChainEvent | None:
            async with gate:
                return await self._meant(once, one)

        said = await asyncio.gather(*map(meant, heard), return_exceptions=True)
        for one in said:
            if isinstance(one, BaseException):
                raise one
        return [one for one in said if one is not None]  # type: ignore[misc]

    async def shown(self, reader: Reader, log: RawLog) -> ChainEvent | None:
        """What ``log`` says as ``reader`` has it; one ``beside`` its place says what stands there."""
        heard = self._logs.read(log)
        return None if heard is None else await self._meant(_Once(reader), heard)

    async def _meant(self, reader: Reader, heard: Heard) -> ChainEvent | None:
        views = EngineViews(reader, self._engine)
        args, log = heard.args, heard.log
        match heard.name, heard.nth:
            case "ModelRegistered", 0:
                return await _model(views, ModelId(args["id"]), log)
            case "TaskSubmitted", 0:
                return await self._task(reader, views, heard)
            case "TaskSubmitted", 1:
                return await _model(views, ModelId(args["model"]), log)
            case "TaskRetracted", 0:
                return TaskClosed(log.at, TaskId(args["id"]), "retracted")
            case "SolutionSubmitted", nth:
                return await self._solution(reader, views, heard, nth)
            case "SolutionClaimed", 0:
                return JobClosed(log.at, CommitmentId(args["task"]), JobStatus.FINAL)
            case "ContestationSubmitted", 0:
                return await _opened(views, heard)
            case "ContestationVoteFinish", nth:
                return await _counted(views, heard, nth)
        return None

    async def _task(self, reader: Reader, views: EngineViews, heard: Heard) -> ChainEvent:
        """The order with its input, where the call data of its transaction has it; else with none."""
        log, task = heard.log, TaskId(heard.args["id"])
        found = await views.task(task, log.block_hash)
        if found.model != heard.args["model"]:
            raise EndpointError("a task's log and the state of its block differ", block=log.block)
        data = find_input(await _call_data(reader, log.tx_hash), found.cid)
        return _order(log, task, found, data)

    async def _solution(self, reader: Reader, views: EngineViews, heard: Heard, nth: int) -> ChainEvent | None:
        log, task = heard.log, TaskId(heard.args["task"])
        if nth == 1:
            return TaskTaken(log.at, task, heard.args["addr"], seed_word(task))
        order = await views.task(task, log.block_hash)
        if nth == 0:
            solution = await views.solution(task, log.block_hash)
            if solution.validator != heard.args["addr"]:
                raise EndpointError("a solution's log and the state of its block differ", block=log.block)
            return Committed(
                at=log.at,
                commitment=CommitmentId(task),
                task=task,
                model=order.model,
                provider=solution.validator,
                output_root=output_root(solution.cid),
                state_root=ZERO,
                output_data=solution.cid,
                output_uri="",
                output_length=len(solution.cid),
                committed_at=solution.blocktime,
                closes=UnixTime(solution.blocktime + await views.claim_time(log.block_hash)),
            )
        if not await self._before(reader, order.blocktime):
            return None
        # ordered before the index begins: in which transaction, nothing says
        return _order(log, task, order, None) if nth == 2 else await _model(views, order.model, log)

    async def _before(self, reader: Reader, blocktime: UnixTime) -> bool:
        """Whether a task of this time may be older than the index."""
        if self._start <= 0:
            return False
        if self._eve is None:
            self._eve = (await reader.block(BlockNumber(self._start - 1))).time
        return blocktime <= self._eve


async def _model(views: EngineViews, model: ModelId, log: RawLog) -> ChainEvent:
    """Arbius registers a template and no weights: what a model is, an operator's recipe says (``engine.py``)."""
    found = await views.model(model, log.block_hash)
    return ModelRegistered(
        at=log.at,
        model=model,
        registrar=found.addr,
        file_digest=ZERO,
        artefact_root=ZERO,
        program_root=ZERO,
        spec_version=0,
        mode="exact",
        boundaries=0,
        artefact_tiles=0,
        uri="",
        known_input=b"",
        known_output_root=ZERO,
    )


def _order(log: RawLog, task: TaskId, found: Task, data: bytes | None) -> TaskOpened:
    return TaskOpened(
        at=log.at,
        task=task,
        model=found.model,
        requester=found.owner,
        input_root=ZERO if data is None else Hash32(keccak(data)),
        input_data=data or b"",
        input_uri="",
        input_length=len(data or b""),
        entropy=ZERO,
        fee=Wei(found.fee),
        deadline=NO_DEADLINE,
    )


async def _opened(views: EngineViews, heard: Heard) -> ChainEvent:
    log, task = heard.log, TaskId(heard.args["task"])
    contest = await views.contest(task, log.block_hash)
    if contest.challenger != heard.args["addr"]:
        raise EndpointError("a contestation's log and the state of its block differ", block=log.block)
    return DisputeOpened(
        at=log.at,
        dispute=dispute_of(task),
        commitment=CommitmentId(task),
        challenger=contest.challenger,
        output_root=ZERO,  # a contester says that the solution is wrong, and not what would be right
        state_root=ZERO,
        evidence=ZERO,
        bond=Wei(contest.slash),
        ruling_by=contest.last_vote(await views.rules(log.block_hash)),
    )


async def _counted(views: EngineViews, heard: Heard, nth: int) -> ChainEvent | None:
    """The first piece decides the job; the piece that reaches the last winner ends the dispute."""
    log, task = heard.log, TaskId(heard.args["id"])
    first, end = heard.args["start_idx"], heard.args["end_idx"]
    contest, rules = await views.contest(task, log.block_hash), await views.rules(log.block_hash)
    if nth == 1:
        status = JobStatus.FRAUD if contest.upheld(rules) else JobStatus.FINAL
        return JobClosed(log.at, CommitmentId(task), status) if first == 0 else None
    if not first < len(contest.winners(rules)) <= end:
        return None
    paid = Wei(paid_to_first(contest, rules))
    return DisputeClosed(log.at, dispute_of(task), CommitmentId(task), outcome_of(contest, rules), paid, Wei(0))


def paid_to_first(contest: Contest, rules: Rules) -> int:
    """What the contester, or the accused, gets beside its own slash, in units of the token."""
    return shares(len(contest.yeas), len(contest.nays), rules.adder, contest.slash)[0]


def outcome_of(contest: Contest, rules: Rules) -> DisputeOutcome:
    """As the votes stand."""
    return DisputeOutcome.CHALLENGER if contest.upheld(rules) else DisputeOutcome.PROVIDER


def dispute_of(task: TaskId) -> DisputeId:
    """There is one contestation of a task at most, and it goes by the task's id."""
    return DisputeId(int.from_bytes(task, "big"))


def task_of(dispute: DisputeId) -> TaskId:
    return TaskId(dispute.to_bytes(32, "big"))


async def _call_data(reader: Reader, tx_hash: Hash32) -> bytes:
    def parse(answer: Any) -> bytes:
        if answer is None:
            raise EndpointError("it serves a log and does not know its transaction", transaction="0x" + tx_hash.hex())
        if wire.hash32(wire.field(answer, "hash")) != tx_hash:
            raise ValueError("the answer is another transaction")
        return wire.blob(wire.field(answer, "input"))

    return bytes(await reader.read("eth_getTransactionByHash", [wire.to_hex(tx_hash)], parse))
