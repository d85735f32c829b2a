"""The audit of inferences in a range of blocks: found over JSON-RPC, joined, looked at, drawn, run again and compared.

Everything on chain is one endpoint's word, and says so; nothing here records, files or sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Protocol

import numpy as np

from challenger.chain.answers import Called, RawLog
from challenger.domain import Address
from challenger.errors import MalformedLog, RangeTooLarge
from challenger.protocols.findings import Finding, Ground
from challenger.protocols.opengradient.checks import MODEL, RESULT, finding, look, named
from challenger.protocols.opengradient.comparing import Outcome, Tolerance, compare
from challenger.protocols.opengradient.join import Inference, Unjoined, join
from challenger.protocols.opengradient.numbers import Floats
from challenger.protocols.opengradient.replaying import NotRun, Ran, Replayer
from challenger.protocols.opengradient.wire import Inferred, Reported, Wire
from replay.artifacts.ipfs.cid import Cid
from replay.artifacts.ipfs.errors import IpfsError
from replay.layout import Array

#: Blocks of one question for logs; an endpoint that wants less is asked for less.
_WIDTH = 5_000


class Chain(Protocol):
    """What is asked of the JSON-RPC client (``chain.rpc.Rpc`` answers it)."""

    async def logs(
        self, addresses: Sequence[Address], first: int, last: int, topics: Sequence[Sequence[bytes]]
    ) -> list[RawLog]: ...
    async def called(self, which: Iterable[bytes]) -> list[Called | None]: ...


class Standing(StrEnum):
    """What became of one inference."""

    EQUAL = "equal"
    WITHIN = "within"
    BEYOND = "beyond"
    WRONG = "wrong"
    NO_MODEL = "no-model"
    NO_OUTPUT = "no-output"
    OPEN = "open"
    UNDRAWN = "not-drawn"


@dataclass(frozen=True, slots=True)
class Checked:
    """``said``: the distance, or why it stands as it does."""

    inference: Inference
    standing: Standing
    said: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """How outputs are judged. ``exact``: CIDs of models that are declared to be run on the canonical numerics. ``confirm``:
    the backend that must reproduce ours, in a fresh process, before an output is called wrong."""

    tolerance: Tolerance
    exact: frozenset[str] = frozenset()
    backend: str = "torch"
    confirm: str = "numpy"


class Audit:
    """``drawn``: whether an inference is run again; the looks that need no replay are taken at all of them."""

    def __init__(
        self,
        chain: Chain,
        wire: Wire,
        replayer: Replayer,
        terms: Terms,
        drawn: Callable[[Inference], bool] = lambda _: True,
        together: int = 1,
    ) -> None:
        self._chain = chain
        self._wire = wire
        self._replayer = replayer
        self._terms = terms
        self._drawn = drawn
        self._gate = asyncio.Semaphore(together)

    async def range(self, first: int, last: int) -> AsyncIterator[Checked | Unjoined]:
        """Of blocks ``first ≤ b ≤ last``, in chain order. Raises what the endpoint raises."""
        async for logs in self._logs(first, last):
            transactions = [(tx, list(group)) for tx, group in groupby(logs, lambda log: log.tx_hash)]
            calls = await self._chain.called(tx for tx, _ in transactions)
            for (_, group), called in zip(transactions, calls, strict=True):
                events, left = self._decoded(group)
                inferences: tuple[Inference, ...] = ()
                if any(event is not None for event in events):
                    joined = join(self._wire, called, events)
                    inferences, left = joined.inferences, [*left, *joined.unjoined]
                for one in left:
                    yield one
                for checked in await asyncio.gather(*(self._checked(one) for one in inferences)):
                    yield checked

    async def _checked(self, inference: Inference) -> Checked:
        async with self._gate:
            return await self.check(inference)

    async def check(self, inference: Inference) -> Checked:
        looked = look(inference, self._wire.precompile)
        if looked.outputs is None:
            why = ", ".join(one.kind for one in looked.findings) or "no log would show an output"
            return Checked(inference, Standing.NO_OUTPUT, why, looked.findings)
        if not self._drawn(inference):
            return Checked(inference, Standing.UNDRAWN, "", looked.findings)
        standing, said, more = await self._replayed(inference, looked.outputs)
        return Checked(inference, standing, said, (*looked.findings, *more))

    async def _replayed(
        self, inference: Inference, theirs: Mapping[str, Floats]
    ) -> tuple[Standing, str, tuple[Finding, ...]]:
        terms, nodes = self._terms, self._wire.precompile
        ran = await self._replayer.run(inference, terms.backend)
        if isinstance(ran, NotRun):
            if ran.lack is None:
                return Standing.OPEN, ran.why, ()
            said = f"{named(inference)} used model {inference.model}: {ran.why}."
            party = _party(inference.model)
            missing = finding(inference, ran.lack, MODEL, party, Ground.ABSENCE, said, told=ran.told)
            return Standing.NO_MODEL, ran.why, (missing,)
        compared = compare(theirs, ran.outputs, terms.tolerance)
        told = {"distance": compared.said, "tolerance": str(terms.tolerance), "backend": ran.backend}
        if compared.outcome is Outcome.INCOMPARABLE:
            return Standing.OPEN, compared.said, ()
        if compared.outcome is Outcome.EQUAL:
            return Standing.EQUAL, compared.said, ()
        if inference.model in terms.exact:
            second = await self._replayer.run(inference, terms.confirm, fresh=True)
            if not _reproduced(ran, second):
                why = second.why if isinstance(second, NotRun) else "another result"
                return Standing.OPEN, f"{terms.confirm} does not confirm it: {why}", ()
            said = f"{named(inference)} has another output than its model has on the numerics declared for it."
            wrong = finding(
                inference, "wrong-output", RESULT, nodes, Ground.PROOF, said, **told, confirmed=terms.confirm
            )
            return Standing.WRONG, compared.said, (wrong,)
        if compared.outcome is Outcome.WITHIN:
            return Standing.WITHIN, compared.said, ()
        said = f"{named(inference)} lies farther from our run than was stated, {terms.tolerance}: {compared.beyond}."
        return (
            Standing.BEYOND,
            compared.said,
            (finding(inference, "distant-output", RESULT, nodes, Ground.DISTANCE, said, **told),),
        )

    def _decoded(self, logs: Sequence[RawLog]) -> tuple[list[Inferred | Reported | None], list[Unjoined]]:
        """None in the place of what cannot be read."""
        events: list[Inferred | Reported | None] = []
        left = []
        for log in logs:
            try:
                event = self._wire.decode(log)
            except MalformedLog as error:
                left.append(Unjoined(log.at, str(error)))
                events.append(None)
                continue
            events += [] if event is None else [event]
        return events, left

    async def _logs(self, first: int, last: int) -> AsyncIterator[list[RawLog]]:
        """Piece by piece, each as wide as the endpoint allows; no transaction is in two."""
        width = _WIDTH
        while first <= last:
            until = min(last, first + width - 1)
            try:
                found = await self._chain.logs(self._wire.emitters, first, until, [self._wire.topics])
            except RangeTooLarge:
                if first == until:
                    raise
                width = (until - first + 1) // 2
                continue
            if found:
                yield found
            first = until + 1


def _reproduced(first: Ran, second: Ran | NotRun) -> bool:
    """Whether the second run gave the same bits."""
    if isinstance(second, NotRun) or list(first.outputs) != list(second.outputs):
        return False
    return all(_bits(one) == _bits(second.outputs[name]) for name, one in first.outputs.items())


def _bits(array: Array) -> tuple[object, ...]:
    return array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes()


def _party(model: str) -> str:
    """Of whoever registered a model the chain knows the CID alone."""
    try:
        return "0x" + Cid.parse(model).binary.hex()
    except IpfsError:
        return model[:160]
