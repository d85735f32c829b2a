"""Gathers a bundle: from the record what was decided, from the chain the proofs, from the stores the data, and one replay
more, which must come to what the record says. Writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import select

from challenger import program_version
from challenger.chain.answers import RawLog
from challenger.chain.proofs import log_proof
from challenger.chain.receipts import HEADER_FIELDS, Asks, parse_header, receipts_of
from challenger.domain import Address, At, Block, ChainId, CommitmentId, Hash32, UnixTime, Verdict, VerdictKind
from challenger.errors import EndpointError, NoEvidence, OurDoing, RpcError
from challenger.evidence.form import Datum, Evidence, Observation, Sampling, ShownLog
from challenger.pipeline.engine import Replays
from challenger.pipeline.judge import judge
from challenger.pipeline.observe import Question, question_of
from challenger.store.engine import Store
from challenger.store.rows import CommitmentRow, EpochRow, HeadRow, JournalRow, VerdictRow, WorkRow
from challenger.store.schema import journal_heads
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.substitution import Substitution
from replay.artifacts import ArtifactError
from replay.artifacts.manifest import MANIFEST_NAME, manifest_files
from replay.difference import Difference, first_difference
from replay.layout import LayoutError

#: Data and models of more bytes than this are left out, unless more is asked for.
SMALL = 1 << 20


class Chain(Asks, Protocol):
    async def block(self, which: int | bytes | str) -> Block: ...
    async def logs_in(
        self, addresses: Sequence[Address], blocks: Sequence[Block], topics: Any = None
    ) -> list[RawLog]: ...


class Files(Protocol):
    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = ...) -> Path: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a bundle's parts come from. ``engine`` replays on ``backend`` and fetches data, ``files`` hands out models of up to
    ``model_bytes``; what has more than ``small`` bytes is left out."""

    store: Store
    chain: Chain
    chain_id: ChainId
    market: Address
    engine: Replays
    files: Files
    backend: str
    model_bytes: int
    small: int = SMALL


class _Case(NamedTuple):
    """What the record holds, in one snapshot."""

    row: CommitmentRow
    question: Question
    verdicts: list[VerdictRow]
    verdict: VerdictRow
    confirmation: VerdictRow | None
    places: list[At]
    sampling: Sampling | None
    journal: list[JournalRow]
    heads: list[HeadRow]
    now: UnixTime


async def gather(sources: Sources, commitment: CommitmentId) -> Evidence:
    """The bundle on the watcher's last verdict. Raises NoEvidence where there is none, or where the replay for the bundle
    contradicts it; what the endpoint raises."""
    async with sources.store.read() as view:
        case = await _recorded(view, commitment)
    logs = await _shown(sources, case.places)
    asked = case.question
    given = await _datum(sources, asked.input, asked.input_uri, asked.input_root, asked.input_length)
    shown = await _datum(sources, asked.output, asked.output_uri, asked.output_root, asked.output_length)
    observed = await _observed(sources, case, given, shown)
    committed = asked.output or shown.data
    difference = None if observed is None else _parted(observed.output, committed)
    if observed is not None and observed.output is not None and len(observed.output) > sources.small:
        observed = observed._replace(output=None)
    return Evidence(
        sources.chain_id,
        sources.market,
        commitment,
        tuple(logs),
        case.verdict.id,
        None if case.confirmation is None else case.confirmation.id,
        tuple(case.verdicts),
        _small(given, sources.small),
        _small(shown, sources.small),
        await _model(sources, asked),
        observed,
        difference,
        case.sampling,
        tuple(case.journal),
        tuple(case.heads),
        f"inference-challenger {program_version()}",
        case.now,
    )


async def _recorded(view: View, commitment: CommitmentId) -> _Case:
    row = await view.chain.commitment(commitment)
    item = await view.work.get(commitment)
    question = None if row is None else await question_of(view, row)
    head = await view.chain.head()
    if row is None or item is None or question is None or head is None:
        raise NoEvidence(
            "the record does not hold the commitment with its task and model", commitment=subject_of(commitment)
        )
    verdicts = await view.verdicts.of(commitment)
    said = next((one for one in verdicts if one.id == item.verdict), None)
    if said is None:
        raise NoEvidence(f"the watcher came to no verdict: it is {item.state}", commitment=subject_of(commitment))
    second = next((one for one in verdicts if one.id == item.confirmation), None)
    journal = await view.journal.about(subject_of(commitment))
    return _Case(
        row,
        question,
        verdicts,
        said,
        second,
        await _places(view, row),
        await _sampling(view, item),
        journal,
        await _heads(view, journal),
        head.time,
    )


async def _places(view: View, row: CommitmentRow) -> list[At]:
    """Of every event that the commitment's life is made of, in chain order."""
    told = [
        *await view.chain.history("model", row.model),
        *await view.chain.history("task", row.task),
        *await view.chain.history("commitment", row.commitment),
    ]
    for dispute in await view.chain.disputes(commitment=CommitmentId(row.commitment)):
        told += await view.chain.history("dispute", dispute.dispute)
    for demand in await view.chain.demands(commitment=CommitmentId(row.commitment)):
        told += await view.chain.history("demand", demand.demand)
    return sorted((event.at for event in told), key=lambda at: (at.block, at.log_index))


async def _sampling(view: View, work: WorkRow) -> Sampling | None:
    epoch: EpochRow | None = None if work.epoch is None else await view.epochs.get(work.epoch)
    decided = (work.p_millionths, work.draw_block, work.draw_hash, work.selected, work.inputs)
    if epoch is None or None in decided:
        return None
    assert work.p_millionths is not None and work.draw_block is not None and work.draw_hash is not None  # noqa: PT018
    assert work.inputs is not None, "checked above"
    return Sampling(
        epoch.number,
        epoch.opens_block,
        epoch.closes_block,
        epoch.delay,
        epoch.policy,
        Hash32(epoch.policy_digest),
        epoch.commitment,
        epoch.anchor_tx,
        epoch.anchor_block,
        None if epoch.revealed_at is None else Hash32(epoch.secret),
        work.p_millionths,
        work.inputs,
        work.draw_block,
        work.draw_hash,
        # the draw is an HMAC under the secret: it tells nothing of it, nor of any other draw
        None if work.drawn is None else Hash32(work.drawn),
        bool(work.selected),
    )


async def _heads(view: View, journal: Sequence[JournalRow]) -> list[HeadRow]:
    """The first published head that binds all of ``journal``, if there is one yet."""
    if not journal:
        return []
    query = select(journal_heads).where(journal_heads.c.seq >= journal[-1].seq).order_by(journal_heads.c.seq).limit(1)
    return [HeadRow(*row) for row in await view.connection.execute(query)]


async def _shown(sources: Sources, places: Iterable[At]) -> list[ShownLog]:
    """Each log, with its proof as far as the endpoint serves what it takes."""
    found: list[ShownLog] = []
    blocks: dict[Hash32, tuple[dict[str, Any], list[Any]] | str] = {}
    for at in places:
        if at.block_hash not in blocks:
            blocks[at.block_hash] = await _block(sources.chain, at)
        served = blocks[at.block_hash]
        why = served if isinstance(served, str) else ""
        if not isinstance(served, str):
            try:
                found.append(ShownLog(at.log_index, at.tx_hash, log_proof(*served, at.log_index)))
                continue
            except ValueError as error:
                why = str(error)
        found.append(ShownLog(at.log_index, at.tx_hash, None, await _unproved(sources, at), why))
    return found


async def _block(chain: Chain, at: At) -> tuple[dict[str, Any], list[Any]] | str:
    """Header and receipts as they are served; or why not."""
    wanted = "0x" + at.block_hash.hex()
    header: dict[str, Any] = await chain.read("eth_getBlockByHash", [wanted, False], partial(_fields, wanted))
    try:
        parsed = parse_header(header)
        return header, await receipts_of(chain, parsed)
    except (RpcError, EndpointError, ValueError) as error:
        return f"the endpoint serves no receipts that prove it: {error}"


def _fields(wanted: str, answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict) or answer.get("hash") != wanted:
        raise ValueError("it does not have the block")
    return {name: answer.get(name) for name in (*HEADER_FIELDS, "transactions")}


async def _unproved(sources: Sources, at: At) -> RawLog:
    block = await sources.chain.block(at.block_hash)
    logs = await sources.chain.logs_in([sources.market], [block])
    log = next((one for one in logs if one.log_index == at.log_index), None)
    if log is None:
        raise NoEvidence("the endpoint does not serve the log", block=at.block, log=at.log_index)
    return log


async def _datum(sources: Sources, inline: bytes, uri: str, root: Hash32, length: int) -> Datum:
    if inline:
        return Datum(root, None, "it stands on the chain")
    if not uri:
        return Datum(root, None, "the chain names no place where it lies")
    try:
        data = await sources.engine.bundle(uri, root, length)
    except OurDoing as error:
        return Datum(root, None, str(error))
    if isinstance(data, bytes):
        return Datum(root, data, "")
    if isinstance(data, Substitution):
        return Datum(root, None, f"another thing lies in its place: {data}")
    return Datum(root, None, "it cannot be had" if data is None else f"it cannot be had: {data}")


def _parted(computed: bytes | None, committed: bytes | None) -> Difference | None:
    """Where the outputs part; None where one is not at hand, or is no bundle: a provider may write anything beside its roots."""
    if not computed or not committed:
        return None
    try:
        return first_difference(computed, committed)
    except LayoutError:
        return None


def _small(datum: Datum, most: int) -> Datum:
    if datum.data is None or len(datum.data) <= most:
        return datum
    return Datum(datum.root, None, f"{len(datum.data)} bytes, left out")


async def _observed(sources: Sources, case: _Case, given: Datum, shown: Datum) -> Observation | None:
    """One replay more; None where there is nothing to replay. Raises NoEvidence when it contradicts the record."""
    asked, data = case.question, case.question.input or given.data
    if data is None or case.verdict.kind not in (VerdictKind.VALID.value, VerdictKind.FRAUD.value):
        return None
    claim = asked.output or shown.data or b""
    seen = await sources.engine.observe(asked.facts, data, sources.backend, fresh=False, seed=asked.seed, claim=claim)
    if isinstance(seen, Verdict):
        raise NoEvidence(
            f"the replay for the bundle gives {seen.kind}: {seen.detail}", commitment=subject_of(case.row.commitment)
        )
    again = judge(asked.input_root, asked.output_root, asked.state_root, seen)
    before = (case.verdict.kind, case.verdict.detail, case.verdict.output_root, case.verdict.state_root)
    if (again.kind.value, again.detail, again.output_root, again.state_root) != before:
        raise NoEvidence(
            f"the record says {case.verdict.kind}, the replay for the bundle {again.kind}: neither is evidence",
            commitment=subject_of(case.row.commitment),
        )
    return Observation(seen.backend, seen.output_root, seen.state_root, seen.output or None)


async def _model(sources: Sources, asked: Question) -> Mapping[str, bytes]:
    """The manifest and, where all of them together are small, the files that it names."""
    facts = asked.facts
    try:
        manifest = await sources.files.fetch_model(facts.uri, facts.file_digest, sources.model_bytes)
        return await asyncio.to_thread(_read_model, manifest, sources.small)
    except (ArtifactError, OSError):
        return {}  # whoever verifies brings the model, as for a large one


def _read_model(manifest: Path, most: int) -> dict[str, bytes]:
    found = {MANIFEST_NAME: manifest.read_bytes()}
    places = [manifest.parent / name for name in manifest_files(found[MANIFEST_NAME])]
    if sum(place.stat().st_size for place in places) <= most:
        found |= {place.name: place.read_bytes() for place in places}
    return found
