"""Do independent endpoints show the same case? Asked before anything that spends.

A case is the commitment, the task it answers and the model it names: a false input or another model would make an
honest answer look wrong. Each endpoint is asked alone, about one block: is it canonical, do its receipts show each
event of the case field for field in a canonical block, is the window the same there, is the code (with all that
proxies and beacons delegate to)? It agrees, it contradicts, or it gives no answer. An endpoint that lags, has pruned
its history or is away gives none, and is never held to contradict. One contradiction stops the filing; without one, as
many agreeing hosts as the quorum wants let it pass. Last, the logs of the case are proved against the blocks' hashes.

All are asked at once, since all cases wait meanwhile. One that is known to be unwell is asked too, and a contradiction
stops the filing whoever says it; it is only not waited for where the others are enough.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from challenger.chain.answers import RawLog, Receipt
from challenger.chain.receipts import Asks, prove
from challenger.domain import Address, Block, ChainEvent, CommitmentId, Committed, Hash32, Window
from challenger.errors import Expected, MalformedLog, NoAnswer, UnknownBlock, Unproven
from challenger.protocols.base import BESIDE, CodeReader, beside, code_hashes

#: Blocks behind the index's head at which state is compared: the newest ones differ between honest nodes.
DEPTH = 2
#: Blocks whose proven logs are remembered.
_KEPT = 64
#: Seconds for which one that gave no answer in time is not waited for again, unless it answers before.
_QUIET = 300.0


class Witness(CodeReader, Asks, Protocol):
    """One endpoint."""

    async def receipt(self, tx_hash: bytes) -> Receipt | None: ...
    async def block(self, which: int | bytes | str) -> Block: ...


class Contract(Protocol):
    """What is asked of the protocol's adapter."""

    @property
    def pins(self) -> Mapping[Address, Hash32]:
        """The code hashes found at start."""
        ...

    async def shown(self, reader: Any, log: RawLog) -> ChainEvent | None:
        """What ``log`` says, as ``reader`` has what it leaves to the chain's state; as ``decode`` otherwise."""
        ...

    async def window_at(self, reader: Any, commitment: CommitmentId, block: Hash32) -> Window:
        """The window as ``reader`` has it in the state after ``block``."""
        ...


class Stance(StrEnum):
    AGREES = "agrees"
    CONTRADICTS = "contradicts"
    SILENT = "no answer"


@dataclass(frozen=True, slots=True)
class Statement:
    """What one endpoint said; ``detail`` names what it contradicts or why it is silent. ``late``: it did not answer in time."""

    endpoint: str
    host: str
    stance: Stance
    detail: str = ""
    late: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One endpoint and what makes it independent of others: its host's name is all we can check. ``fit``: whether it is
    well as far as is known, from the health that the pool keeps."""

    witness: Witness
    host: str
    fit: Callable[[], bool] = lambda: True


class _Contradicted(Exception):
    """an endpoint shows something else"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``reason``: why the case may not be acted on, empty when it may. ``against``: whether an endpoint contradicts;
    ``unproven``: whether the logs do not fit their blocks' hashes."""

    reason: str
    statements: tuple[Statement, ...]
    against: bool = False
    unproven: bool = False


class Quorum:
    """``needed``: how many independent hosts must agree. ``bound``: seconds for which an answer is waited for, twice as many
    more where too few have one; ``ear``: those in which one that is unwell may speak once the others have. ``clock`` is
    monotonic."""

    def __init__(
        self,
        sources: Sequence[Source],
        contract: Contract,
        needed: int,
        *,
        bound: float = 20.0,
        ear: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._contract = contract
        self._needed = needed
        self._bound = bound
        self._ear = ear
        self._clock = clock
        self._quiet_until = [float("-inf")] * len(sources)
        self._proofs: OrderedDict[Hash32, list[RawLog]] = OrderedDict()

    async def ask(self, case: Sequence[ChainEvent], at: Block | None = None, window: Window | None = None) -> Outcome:
        """``at``: the block at which window and code are held against ``window`` and the pins; None: the case's logs alone.
        Beside the proof it takes three times ``bound`` at most, and ``bound`` only at times where enough answer at once."""
        told = await self._told(case, at, window)
        against = [one for one in told if one.stance is Stance.CONTRADICTS]
        if against:
            return Outcome(f"quorum: {against[0].endpoint} {against[0].detail}", told, against=True)
        if (agreeing := _agreeing(told)) < self._needed:
            silent = "; ".join(f"{one.endpoint} {one.detail}" for one in told if one.stance is Stance.SILENT)
            have = f"{agreeing} of {self._needed} independent endpoints agree"
            return Outcome(f"quorum: {have}{f' ({silent})' if silent else ''}", told)
        agree = [one.stance is Stance.AGREES for one in told]
        order = sorted(range(len(told)), key=lambda n: not agree[n])
        witnesses = [self._sources[n].witness for n in order if agree[n] or self._well(n)]
        try:
            why = await self._proof(case, witnesses)
        except Expected as error:
            return Outcome(f"proof: {error}", told)
        return Outcome(why, told, unproven=bool(why))

    # all endpoints

    async def _told(self, case: Sequence[ChainEvent], at: Block | None, window: Window | None) -> tuple[Statement, ...]:
        asked = [asyncio.create_task(self._ask(source, case, at, window)) for source in self._sources]
        try:
            await _settled([task for n, task in enumerate(asked) if self._well(n)], self._bound)
            told = [task.result() for task in asked if task.done()]
            enough = _agreeing(told) >= self._needed or any(one.stance is Stance.CONTRADICTS for one in told)
            await _settled(asked, self._ear if enough else 2 * self._bound)
            return tuple([self._said(n, task) for n, task in enumerate(asked)])
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _said(self, n: int, task: asyncio.Task[Statement]) -> Statement:
        """What the source said; that it did not is remembered."""
        source = self._sources[n]
        said = Statement(source.witness.name, source.host, Stance.SILENT, "no answer in time")
        if task.done():
            said = task.result()
        if not task.done() or said.late:
            self._quiet_until[n] = self._clock() + _QUIET
        else:
            self._quiet_until[n] = float("-inf")
        return said

    def _well(self, n: int) -> bool:
        return self._clock() >= self._quiet_until[n] and self._sources[n].fit()

    # one endpoint

    async def _ask(
        self, source: Source, case: Sequence[ChainEvent], at: Block | None, window: Window | None
    ) -> Statement:
        name = source.witness.name
        try:
            for event in case:
                await self._shown(source.witness, event)
            if at is not None:
                await self._state(source.witness, case, at, window)
        except _Contradicted as error:
            return Statement(name, source.host, Stance.CONTRADICTS, str(error))
        except Expected as error:
            late = isinstance(error, NoAnswer)
            return Statement(name, source.host, Stance.SILENT, error.detail or str(error), late)
        return Statement(name, source.host, Stance.AGREES)

    async def _shown(self, witness: Witness, event: ChainEvent) -> None:
        await _canonical(witness, event.at.block, event.at.block_hash)
        receipt = await witness.receipt(event.at.tx_hash)
        if receipt is None:
            raise Expected(f"has the block but not the receipt of the {type(event).__name__}")
        if receipt.block_hash != event.at.block_hash:
            raise Expected("answers for several forks at once")
        if not await self._among(witness, receipt.logs, event):
            raise _Contradicted(f"shows another {type(event).__name__}")

    async def _state(self, witness: Witness, case: Sequence[ChainEvent], at: Block, window: Window | None) -> None:
        await _canonical(witness, at.number, at.hash)
        code = await code_hashes(witness, self._contract.pins, at.hash)
        if code != self._contract.pins:
            pins = dict(self._contract.pins)
            changed = sorted(a for a in pins | code if code.get(a) != pins.get(a))
            raise _Contradicted(f"shows other code at {', '.join(changed)}")
        for event in case:
            if isinstance(event, Committed) and window is not None:
                theirs = await self._contract.window_at(witness, event.commitment, at.hash)
                if theirs != window:
                    raise _Contradicted(f"shows a window of {theirs.opens} to {theirs.closes}")

    async def _among(self, witness: Witness, logs: Sequence[RawLog], event: ChainEvent) -> bool:
        for log in logs:
            nth, index = divmod(event.at.log_index, BESIDE)
            if log.log_index != index:
                continue
            try:
                if await self._contract.shown(witness, beside(log, nth)) == event:
                    return True
            except MalformedLog:
                continue
        return False

    # the proof

    async def _proof(self, case: Sequence[ChainEvent], witnesses: Sequence[Witness]) -> str:
        """Why the case is not proved, empty when it is. ``witnesses``: those that agree first."""
        for event in case:
            logs, why = await self._logs_of(event, witnesses)
            if logs is not None:
                # no receipt names its transaction: that hash is what the endpoints agree on
                ours = [log._replace(tx_hash=event.at.tx_hash) for log in logs]
                # what a log leaves to the state every endpoint that agreed has shown already
                if await self._among(witnesses[0], ours, event):
                    continue
                why = f"block {event.at.block} does not hold the {type(event).__name__}, by its own hash"
            return f"proof: {why}"
        return ""

    async def _logs_of(self, event: ChainEvent, witnesses: Sequence[Witness]) -> tuple[list[RawLog] | None, str]:
        """All logs of the event's block, proved by any endpoint; else why none could."""
        digest, why = event.at.block_hash, "no endpoint"
        if digest in self._proofs:
            self._proofs.move_to_end(digest)
            return self._proofs[digest], ""
        for witness in witnesses:
            try:
                block = await witness.block(digest)
                logs = await prove(witness, block)
            except Unproven as error:
                why = str(error)
            except Expected as error:
                why = f"logs of block {event.at.block} cannot be proved: {error}"
            else:
                self._proofs[digest] = logs
                if len(self._proofs) > _KEPT:
                    self._proofs.popitem(last=False)
                return logs, ""
        return None, why


async def _canonical(witness: Witness, number: int, digest: Hash32) -> None:
    """``UnknownBlock`` from an endpoint that is not there yet."""
    try:
        block = await witness.block(number)
    except UnknownBlock:
        raise Expected(f"has no block {number} yet") from None
    if block.hash != digest:
        raise _Contradicted(f"has another block {number}")


def _agreeing(told: Sequence[Statement]) -> int:
    return len({one.host for one in told if one.stance is Stance.AGREES})


async def _settled(tasks: Sequence[asyncio.Task[Statement]], seconds: float) -> None:
    """All have ended, or the time has."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
