"""What an evidence bundle says, as values and as JSON both ways. Pure; docs/evidence.md is the description for others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeVar

from challenger.chain.answers import RawLog
from challenger.chain.proofs import MAX_NODES, LogProof
from challenger.domain import Address, BlockNumber, ChainId, CommitmentId, Hash32, Millionths, UnixTime, VerdictKind
from challenger.evidence.reader import Member, base64_of, told
from challenger.store.rows import HeadRow, JournalRow, VerdictRow
from replay.difference import Difference

T = TypeVar("T")
#: Bounds on lists: no honest bundle comes near.
_LOGS, _VERDICTS, _ENTRIES, _FILES = 256, 256, 2_000, 64


class ShownLog(NamedTuple):
    """One log of the chain. ``proof`` binds it to its block's hash; where there is none, ``log`` is an endpoint's word and
    ``why`` says why."""

    log_index: int
    tx_hash: Hash32
    proof: LogProof | None
    log: RawLog | None = None
    why: str = ""


class Datum(NamedTuple):
    """Committed data: its root, and the bytes, or why they are not in here."""

    root: Hash32
    data: bytes | None
    why: str


class Observation(NamedTuple):
    """What the replay for this bundle came to; ``output`` is left out where it is large."""

    backend: str
    output_root: Hash32
    state_root: Hash32
    output: bytes | None


class Sampling(NamedTuple):
    """Why it was looked at. ``secret`` is None until the epoch is revealed; ``policy`` and ``inputs`` are canonical JSON."""

    epoch: int
    opens: BlockNumber
    closes: BlockNumber
    delay: int
    policy: str
    policy_digest: Hash32
    commitment: Hash32
    anchor_tx: Hash32 | None
    anchor_block: BlockNumber | None
    secret: Hash32 | None
    p: Millionths
    inputs: str
    draw_block: BlockNumber
    draw_hash: Hash32
    drawn: Hash32 | None
    selected: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """``verdict``: the id of the one that this is about, ``confirmation`` of the second backend's, where there is one.
    ``difference``: of the computed output (mine) and the committed one (theirs).
    ``files``: the model's manifest and files by name, those that are small; ``made_by`` says which program wrote it,
    ``made_at`` (chain time) when."""

    chain: ChainId
    market: Address
    commitment: CommitmentId
    logs: tuple[ShownLog, ...]
    verdict: int
    confirmation: int | None
    verdicts: tuple[VerdictRow, ...]
    input: Datum
    output: Datum
    files: Mapping[str, bytes]
    observed: Observation | None
    difference: Difference | None
    sampling: Sampling | None
    journal: tuple[JournalRow, ...]
    heads: tuple[HeadRow, ...]
    made_by: str
    made_at: UnixTime

    def of(self, identity: int | None) -> VerdictRow | None:
        return next((row for row in self.verdicts if row.id == identity), None)


def as_json(evidence: Evidence) -> dict[str, Any]:
    """For the canonical form."""
    return {
        "chain": evidence.chain,
        "market": evidence.market,
        "commitment": told(evidence.commitment),
        "logs": [_log_json(one) for one in evidence.logs],
        "verdict": evidence.verdict,
        "confirmation": evidence.confirmation,
        "verdicts": [_verdict_json(row) for row in evidence.verdicts],
        "input": _datum_json(evidence.input),
        "output": _datum_json(evidence.output),
        "files": {name: base64_of(data) for name, data in evidence.files.items()},
        "observed": _observed_json(evidence.observed),
        "difference": None if evidence.difference is None else asdict(evidence.difference),
        "sampling": None if evidence.sampling is None else told(evidence.sampling._asdict()),
        "journal": [told(row._asdict()) for row in evidence.journal],
        "heads": [told(row._asdict()) for row in evidence.heads],
        "made_by": evidence.made_by,
        "made_at": evidence.made_at,
    }


def from_json(body: Member) -> Evidence:
    """Raises BundleRefused for whatever ``as_json`` could not have written."""
    names = Evidence.__dataclass_fields__.keys()
    member = dict(zip(names, body.fields(*names), strict=True))
    return Evidence(
        chain=ChainId(member["chain"].number(2**64)),
        market=member["market"].address(),
        commitment=CommitmentId(member["commitment"].hash()),
        logs=tuple(map(_log, member["logs"].items(_LOGS))),
        verdict=member["verdict"].number(),
        confirmation=_or_none(member["confirmation"], Member.number),
        verdicts=tuple(map(_verdict, member["verdicts"].items(_VERDICTS))),
        input=_datum(member["input"]),
        output=_datum(member["output"]),
        files=_files(member["files"]),
        observed=_or_none(member["observed"], _observed),
        difference=_or_none(member["difference"], _difference),
        sampling=_or_none(member["sampling"], _sampling),
        journal=tuple(map(_entry, member["journal"].items(_ENTRIES))),
        heads=tuple(map(_head, member["heads"].items(_ENTRIES))),
        made_by=member["made_by"].text(),
        made_at=UnixTime(member["made_at"].number()),
    )


def _or_none(member: Member, read: Callable[[Member], T]) -> T | None:
    return None if member.absent else read(member)


def _log_json(one: ShownLog) -> dict[str, Any]:
    proof = one.proof and {
        "header": dict(one.proof.header),
        "transaction": one.proof.transaction,
        "position": one.proof.position,
        "nodes": told(one.proof.nodes),
    }
    raw = one.log
    log = raw and told(
        {
            "address": raw.address,
            "topics": raw.topics,
            "data": raw.data,
            "block": raw.block,
            "block_hash": raw.block_hash,
        }
    )
    return {"log_index": one.log_index, "tx_hash": told(one.tx_hash), "proof": proof, "log": log, "why": one.why}


def _log(member: Member) -> ShownLog:
    index, tx_hash, proof, log, why = member.fields("log_index", "tx_hash", "proof", "log", "why")
    if proof.absent == log.absent:
        raise member.refuse("must have a proof or, where there is none, a log")
    place = index.number(), tx_hash.hash()
    return ShownLog(*place, _or_none(proof, _proof), _or_none(log, lambda one: _raw(one, *place)), why.text())


def _proof(member: Member) -> LogProof:
    header, transaction, position, nodes = member.fields("header", "transaction", "position", "nodes")
    way = tuple(node.hex() for node in nodes.items(MAX_NODES))
    return LogProof(header.words(), transaction.number(1 << 20), position.number(1 << 20), way)


def _raw(member: Member, log_index: int, tx_hash: Hash32) -> RawLog:
    address, topics, data, block, block_hash = member.fields("address", "topics", "data", "block", "block_hash")
    said = address.address(), tuple(topic.hash() for topic in topics.items(4)), data.hex()
    return RawLog(*said, BlockNumber(block.number()), block_hash.hash(), log_index, tx_hash)


def _verdict_json(row: VerdictRow) -> dict[str, Any]:
    return {**told(row._asdict()), "environment": json.loads(row.environment)}


def _verdict(member: Member) -> VerdictRow:
    (
        identity, commitment, kind, detail, backend, fresh, output_root, state_root, environment, microseconds, time
    ) = member.fields(*VerdictRow._fields)  # fmt: skip
    if kind.text() not in {one.value for one in VerdictKind}:
        raise kind.refuse("is no verdict")
    words = json.dumps(environment.words(), sort_keys=True, separators=(",", ":"))
    return VerdictRow(
        identity.number(),
        CommitmentId(commitment.hash()),
        kind.text(),
        detail.text(),
        backend.text(),
        fresh.flag(),
        _or_none(output_root, Member.hash),
        _or_none(state_root, Member.hash),
        words,
        microseconds.number(),
        UnixTime(time.number()),
    )


def _datum_json(datum: Datum) -> dict[str, Any]:
    return {
        "root": told(datum.root),
        "data": None if datum.data is None else base64_of(datum.data),
        "why": datum.why,
    }


def _datum(member: Member) -> Datum:
    root, data, why = member.fields(*Datum._fields)
    return Datum(root.hash(), _or_none(data, Member.data), why.text())


def _files(member: Member) -> dict[str, bytes]:
    found = {name: one.data() for name, one in member.pairs()}
    if len(found) > _FILES:
        raise member.refuse(f"must be at most {_FILES} files")
    return found


def _observed_json(observed: Observation | None) -> dict[str, Any] | None:
    if observed is None:
        return None
    output = None if observed.output is None else base64_of(observed.output)
    return {**told(observed._asdict()), "output": output}


def _observed(member: Member) -> Observation:
    backend, output_root, state_root, output = member.fields(*Observation._fields)
    return Observation(backend.text(), output_root.hash(), state_root.hash(), _or_none(output, Member.data))


def _difference(member: Member) -> Difference:
    name, element, tile, mine, theirs, note = member.fields(*Difference.__dataclass_fields__)
    return Difference(name.text(), element.number(), tile.number(), mine.text(), theirs.text(), note.text())


def _sampling(member: Member) -> Sampling:
    (
        epoch, opens, closes, delay, policy, policy_digest, commitment, anchor_tx, anchor_block, secret, p, inputs,
        draw_block, draw_hash, drawn, selected,
    ) = member.fields(*Sampling._fields)  # fmt: skip
    return Sampling(
        epoch.number(),
        BlockNumber(opens.number()),
        BlockNumber(closes.number()),
        delay.number(10_000),
        policy.text(),
        policy_digest.hash(),
        commitment.hash(),
        _or_none(anchor_tx, Member.hash),
        _or_none(anchor_block, lambda one: BlockNumber(one.number())),
        _or_none(secret, Member.hash),
        Millionths(p.number(1_000_000)),
        inputs.text(),
        BlockNumber(draw_block.number()),
        draw_hash.hash(),
        _or_none(drawn, Member.hash),
        selected.flag(),
    )


def _entry(member: Member) -> JournalRow:
    seq, prev, digest, time, kind, subject, payload = member.fields(*JournalRow._fields)
    where = seq.number(), prev.hash(), digest.hash(), UnixTime(time.number())
    return JournalRow(*where, kind.text(), subject.text(), payload.text())


def _head(member: Member) -> HeadRow:
    seq, digest, signer, signature, published_at = member.fields(*HeadRow._fields)
    return HeadRow(seq.number(), digest.hash(), signer.text(), signature.hex(), UnixTime(published_at.number()))
