"""What the engine's logs mean, read from the chain at their blocks.

``SolutionSubmitted`` names no CID, ``TaskSubmitted`` no input, a count no outcome: each is read at the block of the log, by its
hash. What a log means depends on that log and its block alone, never on what else is in a range, so that an audit that
reads other ranges comes to the same. Where the index begins later than the engine, models and tasks from before are told
beside the logs that name them; the record keeps the first of several births.

What a log says and the engine's state at its block denies, the engine cannot have written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from challenger.chain import wire
from challenger.chain.answers import RawLog
from challenger.chain.follower import LeftOut, Malformed
from challenger.chain.hashing import keccak
from challenger.domain import (
    Address,
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
    UnixTime,
    Wei,
)
from challenger.errors import MalformedLog
from challenger.protocols.arbius.cid import output_root
from challenger.protocols.arbius.inputs import Inputs
from challenger.protocols.arbius.logs import EngineLogs, Heard
from challenger.protocols.arbius.odds import shares
from challenger.protocols.arbius.once import Once, Reader
from challenger.protocols.arbius.views import Contest, EngineViews, NotThere, Rules, Task
from challenger.protocols.base import NO_DEADLINE, beside

ZERO = Hash32(bytes(32))
#: Logs whose meaning is read at a time.
_AT_ONCE = 8
#: The most things that a log says.
_SAYS = 3


class Meanings:
    """``start``: the first block that is indexed."""

    def __init__(self, engine: Address, start: int = 0) -> None:
        self._engine = engine
        self._start = start
        self._logs = EngineLogs(engine)

    async def events(self, reader: Reader, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        """All that ``logs`` say, in their order; what is malformed goes to ``left_out``."""
        once, gate = Once(reader), asyncio.Semaphore(_AT_ONCE)

        async def meant(log: RawLog) -> list[ChainEvent] | MalformedLog:
            async with gate:
                try:
                    said = [
                        None if heard is None else await self._meant(once, heard)
                        for heard in (self._logs.read(beside(log, nth)) for nth in range(_SAYS))
                    ]
                except MalformedLog as error:
                    return error
            return [event for event in said if event is not None]

        told = await asyncio.gather(*map(meant, logs), return_exceptions=True)
        events: list[ChainEvent] = []
        for log, one in zip(logs, told, strict=True):
            if isinstance(one, MalformedLog):
                left_out(Malformed(log, one))
            elif isinstance(one, BaseException):
                raise one
            else:
                events += one
        return events

    async def shown(self, reader: Reader, log: RawLog) -> ChainEvent | None:
        """What ``log`` says as ``reader`` has it; one ``beside`` its place says what stands there."""
        heard = self._logs.read(log)
        return None if heard is None else await self._meant(Once(reader), heard)

    async def _meant(self, reader: Once, heard: Heard) -> ChainEvent | None:
        try:
            return await self._said(reader, EngineViews(reader, self._engine), heard)
        except NotThere as error:
            raise _denied(heard, str(error)) from None

    async def _said(self, reader: Once, views: EngineViews, heard: Heard) -> ChainEvent | None:
        args, log = heard.args, heard.log
        match heard.name, heard.nth:
            case "ModelRegistered", 0:
                return await _model(views, ModelId(args["id"]), log)
            case "TaskSubmitted", 0:
                return await _task(reader, views, heard)
            case "TaskSubmitted", 1 if self._start > 0:
                return await _model(views, ModelId(args["model"]), log)
            case "TaskRetracted", 0:
                return await _retracted(views, heard)
            case "SolutionSubmitted", 0:
                return await _solution(views, heard)
            case "SolutionSubmitted", nth if self._start > 0:
                order = await views.task(TaskId(args["task"]), log.block_hash)
                if not await self._before(reader, order.blocktime):
                    return None
                # ordered before the index begins: in which transaction, nothing says
                return (
                    _order(log, TaskId(args["task"]), order, None)
                    if nth == 1
                    else await _model(views, order.model, log)
                )
            case "SolutionClaimed", 0:
                return await _claimed(views, heard)
            case "ContestationSubmitted", 0:
                return await _opened(views, heard)
            case "ContestationVoteFinish", 0 | 1:
                return await _counted(views, heard)
        return None

    async def _before(self, reader: Once, blocktime: UnixTime) -> bool:
        """Whether a task of this time may be older than the index."""
        return blocktime <= (await reader.block(BlockNumber(self._start - 1))).time


def _denied(heard: Heard, why: str) -> MalformedLog:
    return MalformedLog(why, event=heard.name, block=heard.log.block, log=heard.log.log_index)


async def _task(reader: Once, views: EngineViews, heard: Heard) -> ChainEvent:
    """The order with its input, where the call data of its transaction has it; else with none."""
    log, task = heard.log, TaskId(heard.args["id"])
    found = await views.task(task, log.block_hash)
    if (found.model, found.fee) != (heard.args["model"], heard.args["fee"]):
        raise _denied(heard, "the task is another at its block")

    async def look() -> Inputs:
        # beside the loop: somebody may have made the call data to be slow
        return await asyncio.to_thread(Inputs, await _call_data(reader, log.tx_hash))

    # however many tasks a transaction submits, its call data are looked through once
    inputs = await reader.of(("inputs", log.tx_hash), look)
    return _order(log, task, found, inputs.of(found.cid))


async def _retracted(views: EngineViews, heard: Heard) -> ChainEvent:
    task = TaskId(heard.args["id"])
    try:
        await views.task(task, heard.log.block_hash)
    except NotThere:
        return TaskClosed(heard.log.at, task, "retracted")
    raise _denied(heard, "the task stands at its block")


async def _solution(views: EngineViews, heard: Heard) -> ChainEvent:
    log, task = heard.log, TaskId(heard.args["task"])
    solution = await views.solution(task, log.block_hash)
    if solution.validator != heard.args["addr"]:
        raise _denied(heard, "the solution is another's at its block")
    return Committed(
        at=log.at,
        commitment=CommitmentId(task),
        task=task,
        model=(await views.task(task, log.block_hash)).model,
        provider=solution.validator,
        output_root=output_root(solution.cid),
        state_root=ZERO,
        output_data=solution.cid,
        output_uri="",
        output_length=len(solution.cid),
        committed_at=solution.blocktime,
        closes=UnixTime(solution.blocktime + await views.claim_time(log.block_hash)),
    )


async def _claimed(views: EngineViews, heard: Heard) -> ChainEvent:
    log, task = heard.log, TaskId(heard.args["task"])
    solution = await views.solution(task, log.block_hash)
    if solution.validator != heard.args["addr"] or not solution.claimed:
        raise _denied(heard, "the solution is not claimed at its block, or another's")
    return JobClosed(log.at, CommitmentId(task), JobStatus.FINAL)


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
    """A run is of the task's id, which the seed comes from, and the requester's bytes: that is its input in the record."""
    given = b"" if data is None else task + data
    return TaskOpened(
        at=log.at,
        task=task,
        model=found.model,
        requester=found.owner,
        input_root=ZERO if data is None else Hash32(keccak(given)),
        input_data=given,
        input_uri="",
        input_length=len(given),
        entropy=ZERO,
        fee=Wei(found.fee),
        deadline=NO_DEADLINE,
    )


async def _opened(views: EngineViews, heard: Heard) -> ChainEvent:
    log, task = heard.log, TaskId(heard.args["task"])
    contest = await views.contest(task, log.block_hash)
    if contest.challenger != heard.args["addr"]:
        raise _denied(heard, "the contestation is another's at its block")
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


async def _counted(views: EngineViews, heard: Heard) -> ChainEvent | None:
    """The first piece decides the job; the piece that reaches the last winner ends the dispute."""
    log, task = heard.log, TaskId(heard.args["id"])
    first, end = heard.args["start_idx"], heard.args["end_idx"]
    contest, rules = await views.contest(task, log.block_hash), await views.rules(log.block_hash)
    if contest.paid < end:
        raise _denied(heard, f"the count has come to {contest.paid} at its block")
    if heard.nth == 1:
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
            raise ValueError(f"it does not know its transaction 0x{tx_hash.hex()}, of which it serves a log")
        if wire.hash32(wire.field(answer, "hash")) != tx_hash:
            raise ValueError("the answer is another transaction")
        return wire.blob(wire.field(answer, "input"))

    return bytes(await reader.read("eth_getTransactionByHash", [wire.to_hex(tx_hash)], parse))
