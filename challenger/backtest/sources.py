"""Histories, read: from the watcher's database, from a recording, or from the endpoints' logs. No key is ever loaded, and
nothing is written anywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from challenger.backtest.logs import MarketReader
from challenger.backtest.past import Fold, History, Rows, Times, Truth, pasts
from challenger.chain import wire
from challenger.chain.rpc import Rpc
from challenger.domain import Address, BlockNumber, ChainId, CommitmentId, Part, VerdictKind
from challenger.endpoints import open_endpoints
from challenger.errors import ConfigError, NoDatabase
from challenger.parts import course
from challenger.pipeline.learned import ENOUGH, Predictions, action_of, gap
from challenger.protocols.base import TERMS
from challenger.protocols.reference import ReferenceAdapter
from challenger.protocols.reference_views import MarketViews, Params
from challenger.recording.history import history as recorded
from challenger.recording.lines import PART, Answer, Deployment, deployment_of, recorded_lines
from challenger.settings import Settings, addresses, without_key
from challenger.store.engine import open_store
from challenger.store.hindsight import Hindsight
from challenger.telemetry.instruments import Instruments
from replay.recording import Recording, RecordingMalformed, open_recording

#: Blocks whose distance is taken for that of all.
_RECENT = 1_000
_TRUTHS = {
    VerdictKind.VALID: Truth.RIGHT,
    VerdictKind.FRAUD: Truth.WRONG,
    VerdictKind.UNAVAILABLE: Truth.WITHHELD,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """``first`` and ``last`` block of the commitments, None for as far as there are any; ``ours``: accounts whose disputes
    are the watcher's own; ``replay`` and ``confirm``: seconds, None as learned."""

    first: int | None = None
    last: int | None = None
    ours: Collection[Address] = ()
    replay: float | None = None
    confirm: float | None = None


async def from_database(settings: Settings, asked: Asked) -> History:
    """What the index of ``settings`` holds, with verdicts and audits. Raises ConfigError, StoreError."""
    async with open_store(settings.store.url) as store, store.read() as view:
        told = await view.settings.get(TERMS)
        if told is None:
            raise ConfigError(
                "this database does not say the market's terms: start the watcher on it once, or use --chain",
                database=store.where,
            )
        past = view.hindsight
        params = Params.from_text(told)
        first, last = _range(asked, await past.range())
        rows = Rows(await past.commitments(first, last), await past.fees(), await past.disputes(), await past.demands())
        ledger = await past.block_times()
        times = Times([*ledger, *((row.block, row.committed_at) for row in rows.commitments)])
        judged, ours = await _judged(past), {*asked.ours, *(await past.accounts())}
        predicted = _predictions(params, settings, gap(ledger[-_RECENT:]), await view.latencies.all())
        name = f"database {store.where}"
    return _history(name, (first, last), params, predicted, rows, times, judged, ours, asked)


async def from_recording(settings: Settings, path: Path, asked: Asked) -> History:
    """A recorded chain, by its own word. Raises ``RecordingError``, ConfigError."""
    with open_recording(path) as recording:
        deployment = deployment_of(recording)
        params = await _recorded_params(recording, deployment)
        fold, known = Fold(), []
        for block, events in recorded(recording):
            known.append((block.number, block.time))
            for event in events:
                fold.take(event)
    first, last = _range(asked, (deployment.first, deployment.last))
    predicted = _predictions(params, settings, gap(known[-_RECENT:]), {})
    rows = fold.rows(first, last)
    return _history(
        f"recording {path}", (first, last), params, predicted, rows, Times(known), {}, set(asked.ours), asked
    )


async def from_chain(given: Settings, asked: Asked, rpc: Rpc | None = None) -> History:
    """The endpoints' logs up to the newest settled block, and what replays said in the settings' database, where there is
    one. ``rpc`` stands in for the first endpoint. Raises ConfigError, WrongChain, and what ``Rpc`` raises."""
    settings = addresses(without_key(given))
    chain = settings.chain
    async with open_endpoints(settings, Instruments(), rpc) as endpoints:
        adapter = ReferenceAdapter(endpoints.rpc, ChainId(chain.chain_id), chain.market)
        await adapter.check()
        head = await endpoints.rpc.block("latest")
        settled = BlockNumber(head.number if chain.embedded else max(0, head.number - chain.confirmations))
        first, last = _range(asked, (BlockNumber(chain.start_block), settled))
        reader = MarketReader(endpoints.rpc, chain.market, chain.start_block)
        await reader.read(first, last, settled)
        recent = [(block.number, block.time) for block in await reader.headers(settled)]
        rows, name = reader.fold.rows(first, last), f"chain {chain.chain_id} as {endpoints.rpc.name} serves it"
    times = Times([*recent, *reader.times, *((row.block, row.committed_at) for row in rows.commitments)])
    predicted = _predictions(adapter.params, settings, gap(recent), {})
    judged: dict[CommitmentId, Truth] = {}
    ours = set(asked.ours)
    try:
        async with open_store(settings.store.url) as store, store.read() as view:
            judged, ours = await _judged(view.hindsight), ours | await view.hindsight.accounts()
    except NoDatabase:
        pass  # nobody has replayed anything here: the chain's word is all there is
    return _history(name, (first, last), adapter.params, predicted, rows, times, judged, ours, asked)


def _history(
    source: str,
    span: tuple[BlockNumber, BlockNumber],
    params: Params,
    predicted: Predictions,
    rows: Rows,
    times: Times,
    judged: Mapping[CommitmentId, Truth],
    ours: Collection[Address],
    asked: Asked,
) -> History:
    found, contested = pasts(rows, params, times, judged, ours)
    samples = dict(predicted.samples)
    for model in {past.model for past in found}:
        wanted = (("replay", asked.replay), ("confirm", asked.confirm))
        for (stage, seconds), backend in zip(wanted, predicted.backends, strict=True):
            if seconds is not None:
                samples[action_of(stage, model, backend)] = (ENOUGH, seconds)
    return History(source, *span, params, replace(predicted, samples=samples), found, contested)


def _predictions(
    params: Params, settings: Settings, block_time: float | None, samples: Mapping[str, tuple[int, float]]
) -> Predictions:
    backends = (settings.replay.backend, settings.replay.confirm_backend)
    predicted = Predictions(course(params.terms, settings.chain.confirmations), backends, samples)
    return predicted if block_time is None else replace(predicted, block_time=block_time)


def _range(asked: Asked, span: tuple[BlockNumber, BlockNumber]) -> tuple[BlockNumber, BlockNumber]:
    """What was asked for, of what there is."""
    first = span[0] if asked.first is None else BlockNumber(asked.first)
    last = span[1] if asked.last is None else BlockNumber(asked.last)
    if asked.first is not None and asked.last is not None and first > last:
        raise ConfigError("the first block comes after the last", first=first, last=last)
    if first > span[1] or last < span[0]:
        raise ConfigError("there is nothing in this range", first=first, last=last, known=f"{span[0]} to {span[1]}")
    return max(first, span[0]), min(last, span[1])


async def _judged(past: Hindsight) -> dict[CommitmentId, Truth]:
    """Withheld is what the provider withheld: for inputs and weights others answer."""
    said = (await past.said()).values()
    return {
        one.commitment: _TRUTHS[one.kind]
        for one in said
        if one.kind is not VerdictKind.UNAVAILABLE or one.detail.partition(":")[0] == Part.OUTPUT.value
    }


async def _recorded_params(recording: Recording, deployment: Deployment) -> Params:
    answers = [line for line in recorded_lines(recording) if isinstance(line, Answer)]
    return await MarketViews(_Answers(answers), deployment.market).params(bytes(32))


class _Answers:
    """The contract, as far as its answers were recorded."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes:  # noqa: ARG002
        asked = ({"to": to, "data": wire.to_hex(data)},)
        for answer in self._answers:
            if answer.method == "eth_call" and answer.params == asked:
                return wire.blob(answer.result)
        raise RecordingMalformed("the market's parameters are not in it", part=PART)
