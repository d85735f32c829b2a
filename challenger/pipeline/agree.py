"""Asks the quorum for a stage that wants to spend, and keeps on record who said what when endpoints contradict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from challenger.domain import Block, BlockNumber, ChainEvent, CommitmentId, Committed, UnixTime
from challenger.pipeline.investigate import case_of
from challenger.pipeline.quorum import DEPTH, Contract, Outcome, Quorum, Witness
from challenger.store.engine import Store
from challenger.store.journal import canonical
from challenger.store.rows import CommitmentRow
from challenger.store.subjects import subject_of
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import DISAGREEMENTS

#: How the journal calls a record of who said what.
DISAGREED = "endpoints-disagree"


class Chain(Witness, Protocol):
    """The pool: what we ourselves read from."""


class Believed:
    """Where the chain is a recording without receipts: there is one account of it, and nothing to hold against that.
    Nothing is ever filed on it."""

    async def disagreement(self, case: Sequence[ChainEvent]) -> str:  # noqa: ARG002
        return ""

    async def refusal(self, row: CommitmentRow, head: Block) -> str:  # noqa: ARG002
        return "a recording is believed for replays only"


class Agreement:
    """``store`` keeps the record; ``chain`` is what the window was read from."""

    def __init__(
        self, store: Store, quorum: Quorum, contract: Contract, chain: Chain, telemetry: Instruments | None = None
    ) -> None:
        self._store = store
        self._quorum = quorum
        self._contract = contract
        self._chain = chain
        self._telemetry = telemetry or Instruments()

    async def disagreement(self, case: Sequence[ChainEvent]) -> str:
        """Why an accusation may not rest on this case yet; empty when it may."""
        subject = next((e.commitment for e in case if isinstance(e, Committed)), CommitmentId(b""))
        outcome = await self._quorum.ask(case)
        if outcome.reason:
            await self._record(subject, outcome, (await self._chain.block("latest")).time)
        else:
            self._telemetry.alerts.clear("disagreement", subject_of(subject))
        return outcome.reason

    async def refusal(self, row: CommitmentRow, head: Block) -> str:
        """Why nothing may be filed over this commitment now: as ``disagreement``, with the window and all code."""
        async with self._store.read() as view:
            case = await case_of(view, row)
        if len(case) < 3:
            return "quorum: its task or model is not in the index"
        number = BlockNumber(max(row.block, head.number - DEPTH))
        at = await self._chain.block(number)
        window = await self._contract.window_at(self._chain, CommitmentId(row.commitment), at.hash)
        outcome = await self._quorum.ask(case, at, window)
        if outcome.reason:
            await self._record(CommitmentId(row.commitment), outcome, head.time)
        else:
            self._telemetry.alerts.clear("disagreement", subject_of(row.commitment))
        return outcome.reason

    async def _record(self, commitment: CommitmentId, outcome: Outcome, now: UnixTime) -> None:
        """Alerts and journals what is more than an endpoint that is away; the same words are journalled once."""
        if not (outcome.against or outcome.unproven):
            return
        subject = subject_of(commitment)
        if self._telemetry.alerts.alert("disagreement", about=subject, why=outcome.reason):
            self._telemetry.metrics.count(DISAGREEMENTS)
        said = [
            {"endpoint": one.endpoint, "host": one.host, "stance": one.stance.value, "detail": one.detail}
            for one in outcome.statements
        ]
        payload = {"reason": outcome.reason, "said": said}
        async with self._store.begin(now) as unit:
            before = [entry for entry in await unit.journal.about(subject) if entry.kind == DISAGREED]
            if not before or before[-1].payload != canonical(payload):
                await unit.journal.write(now, DISAGREED, subject, payload)
