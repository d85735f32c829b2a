"""Checks a bundle from the bundle and the model alone: proofs, data, sampling, journal, and the replay itself.

Whoever made the bundle is believed in nothing that the bundle does not show. What no file can show (that a block is the
chain's, that data was away) is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

from challenger.audit.journal import Recovered
from challenger.audit.unread import UNREADABLE
from challenger.chain.proofs import proven_log
from challenger.domain import (
    Block,
    ChainEvent,
    Committed,
    DemandClosed,
    DemandOpened,
    DisputeOpened,
    Hash32,
    ModelRegistered,
    TaskOpened,
    TaskTaken,
    Verdict,
    VerdictKind,
)
from challenger.errors import MalformedLog
from challenger.evidence.form import Evidence, Sampling, ShownLog
from challenger.evidence.seal import Sealed
from challenger.pipeline.approval import evidence_digest
from challenger.pipeline.audits import question_of_case
from challenger.pipeline.engine import Engine
from challenger.pipeline.judge import judge
from challenger.pipeline.observe import Question
from challenger.protocols.reference_logs import MarketLogs
from challenger.protocols.reference_past import Case
from challenger.sampling.draw import Epoch, draw, selects
from challenger.sampling.past import PastDraw, past_draws
from challenger.sampling.policy import Inputs, Policy, rate
from challenger.store.heads import head_message
from challenger.store.journal import Entry, link
from challenger.store.rows import VerdictRow
from challenger.store.subjects import subject_of
from replay.artifacts import ArtifactError
from replay.artifacts.manifest import MANIFEST_NAME, manifest_files
from replay.backends import BACKENDS, unrelated
from replay.difference import first_difference
from replay.layout import LayoutError, bundle_root
from replay.shallow import parse_json

_JUDGED = (VerdictKind.VALID.value, VerdictKind.FRAUD.value)


class Finding(NamedTuple):
    """One thing looked at. ``holds`` None: the bundle cannot show it."""

    part: str
    holds: bool | None
    what: str


@dataclass(frozen=True, slots=True)
class Checked:
    """``blocks``: those that the logs rest on; that they are the chain's is for whoever has a node. ``provider``: whose answer
    it is about."""

    findings: tuple[Finding, ...]
    blocks: tuple[Block, ...]
    provider: str = ""

    @property
    def proved(self) -> bool:
        """Whether every log rests on a block's hash."""
        return bool(self.blocks) and not any(f.part == "chain" and f.holds is None for f in self.findings)

    @property
    def holds(self) -> bool:
        return all(finding.holds is not False for finding in self.findings)

    @property
    def replayed(self) -> bool:
        """Whether every backend asked reproduced the verdict here."""
        replays = [finding.holds for finding in self.findings if finding.part == "replay"]
        return bool(replays) and all(replays)


async def check(sealed: Sealed, engine: Engine | None, backends: Sequence[str]) -> Checked:
    """``engine`` replays on each of ``backends``, in fresh processes; None where the model is not at hand."""
    evidence = sealed.evidence
    found = [_signed(sealed)]
    blocks: dict[Hash32, Block] = {}
    events: list[ChainEvent] = []
    for one in evidence.logs:
        finding = _log(evidence, one, blocks, events)
        if finding is not None:
            found.append(finding)
    case = _case(evidence, events, blocks)
    if isinstance(case, Finding):
        return Checked((*found, case), _in_order(blocks))
    proved = sum(one.proof is not None for one in evidence.logs)
    found.append(Finding("chain", bool(proved) or None, f"{proved} logs proved by the hashes of {len(blocks)} blocks"))
    question = question_of_case(case)
    found += _verdicts(evidence, case.committed)
    found += _on_chain(evidence, events)
    found += _data(evidence, question)
    found += _files(evidence, question)
    found += await _replays(evidence, question, engine, backends)
    if evidence.sampling is not None:
        found.append(_sampling(evidence, evidence.sampling, case.committed))
    found += _journal(evidence)
    return Checked(tuple(found), _in_order(blocks), case.committed.provider)


def _in_order(blocks: dict[Hash32, Block]) -> tuple[Block, ...]:
    return tuple(sorted(blocks.values(), key=lambda block: block.number))


def _signed(sealed: Sealed) -> Finding:
    if sealed.signer is None:
        return Finding("signature", None, f"nobody signed it; its digest is 0x{sealed.digest.hex()}")
    return Finding("signature", True, f"0x{sealed.digest.hex()} signed by {sealed.signer}")


def _log(evidence: Evidence, one: ShownLog, blocks: dict[Hash32, Block], events: list[ChainEvent]) -> Finding | None:
    """Adds what the log says to ``events``; a finding where something is to be said of it."""
    try:
        block, log = (None, one.log) if one.proof is None else proven_log(one.proof, one.log_index, one.tx_hash)
        assert log is not None, "the form has one or the other"
        event = MarketLogs(evidence.market).decode(log)
    except (ValueError, MalformedLog) as error:
        return Finding("chain", False, f"a log is not proved: {error}")
    if event is None:
        return Finding("chain", False, f"a log of block {log.block} is not the market's")
    events.append(event)
    if block is None:
        return Finding("chain", None, f"{_named(event)} in block {log.block} is an endpoint's word: {one.why}")
    blocks[block.hash] = block
    return None


def _named(event: ChainEvent) -> str:
    return type(event).__name__


def _case(evidence: Evidence, events: Sequence[ChainEvent], blocks: Mapping[Hash32, Block]) -> Case | Finding:
    """What there is to judge: one commitment, with its task and model."""
    mine = [event for event in events if isinstance(event, Committed) and event.commitment == evidence.commitment]
    if len(mine) != 1:
        return Finding("chain", False, "the log of the commitment is not there, or there are several")
    committed = mine[0]
    block = blocks.get(committed.at.block_hash)
    if block is not None and block.time != committed.committed_at:
        return Finding("chain", False, "the commitment says another time than its block")
    task = tuple(e for e in events if isinstance(e, TaskOpened | TaskTaken) and e.task == committed.task)
    model = tuple(e for e in events if isinstance(e, ModelRegistered) and e.model == committed.model)
    if sum(isinstance(event, TaskOpened) for event in task) != 1 or len(model) != 1:
        return Finding("chain", False, "the log of its task or model is not there, or there are several")
    taken = [event for event in task if isinstance(event, TaskTaken)]
    if [event.provider for event in taken] != [committed.provider]:
        return Finding("chain", False, "the task was not taken by the provider of the commitment")
    demands = tuple(
        e for e in events if isinstance(e, DemandOpened | DemandClosed) and e.commitment == evidence.commitment
    )
    return Case(committed, task, model, demands, proved=True)


def _verdicts(evidence: Evidence, committed: Committed) -> Iterator[Finding]:
    """What is said of the commitment, against the roots that it holds."""
    said, second = evidence.of(evidence.verdict), evidence.of(evidence.confirmation)
    if said is None or (evidence.confirmation is not None and second is None):
        yield Finding("verdict", False, "the verdict that it is about is not in it")
        return
    name = f"{said.kind} {said.detail}".rstrip()
    differs = [
        part
        for part, mine, theirs in (
            ("output", said.output_root, committed.output_root),
            ("state", said.state_root, committed.state_root),
        )
        if mine != theirs
    ]
    right = {
        VerdictKind.VALID.value: not differs,
        VerdictKind.FRAUD.value: bool(differs) and said.detail == differs[0],
    }
    if any(row.commitment != evidence.commitment for row in evidence.verdicts):
        yield Finding("verdict", False, "a verdict in it is on another commitment")
    elif not right.get(said.kind, True):
        yield Finding("verdict", False, f"it says {name}; by its roots it is not")
    elif said.kind in _JUDGED:
        roots = (
            f"the {' and '.join(differs)} root is not the committed one"
            if differs
            else "both roots are the committed ones"
        )
        yield Finding("verdict", True, f"{name}: {roots}")
    else:
        yield Finding("verdict", None, f"{name}: what could not be had or done then, no file can show")
    if second is not None:
        same = (second.kind, second.output_root, second.state_root) == (said.kind, said.output_root, said.state_root)
        apart = second.fresh and unrelated(said.backend, second.backend)
        yield Finding(
            "confirmation",
            same and apart,
            f"{second.backend} {'reproduced' if same else 'did not reproduce'} what {said.backend} computed"
            + ("" if apart else ", and is no second backend in a fresh process"),
        )
    elif said.kind == VerdictKind.FRAUD.value:
        yield Finding("confirmation", None, "no second backend had reproduced it yet: nothing could be filed on it")


def _on_chain(evidence: Evidence, events: Sequence[ChainEvent]) -> Iterator[Finding]:
    said, second = evidence.of(evidence.verdict), evidence.of(evidence.confirmation)
    if said is None or second is None:
        return
    digest = evidence_digest(said, second)
    for event in events:
        if isinstance(event, DisputeOpened) and event.commitment == evidence.commitment and event.evidence == digest:
            yield Finding("dispute", True, f"dispute {event.dispute} of {event.challenger} names these two verdicts")


def _data(evidence: Evidence, question: Question) -> Iterator[Finding]:
    """Input and output as they are at hand, against their committed roots."""
    for part, inline, datum, root in (
        ("input", question.input, evidence.input, question.input_root),
        ("output", question.output, evidence.output, question.output_root),
    ):
        data = inline or datum.data
        if datum.root != root:
            yield Finding(part, False, "the root that it names is not the chain's")
        elif data is None:
            yield Finding(part, None, f"not in the bundle: {datum.why}")
        elif _root(data) == root:
            yield Finding(part, True, f"{len(data)} bytes hash to the committed root")
        else:
            # a provider may write anything beside its roots, which are what it answers for
            wrong = None if inline and part == "output" else False
            yield Finding(part, wrong, f"the {len(data)} bytes do not hash to the committed root")


def _files(evidence: Evidence, question: Question) -> Iterator[Finding]:
    """The model's files that are in the bundle, against the digest under which it is registered."""
    manifest = evidence.files.get(MANIFEST_NAME)
    if manifest is None:
        return
    try:
        names = manifest_files(manifest)
    except ArtifactError:
        names = {}
    right = sha256(manifest).digest() == question.facts.file_digest and all(
        sha256(data).digest() == names.get(name) for name, data in evidence.files.items() if name != MANIFEST_NAME
    )
    yield Finding(
        "model", right, f"{len(evidence.files)} files " + ("are" if right else "are not") + " the registered model's"
    )


def _root(data: bytes) -> bytes:
    try:
        return bundle_root(data)
    except LayoutError:
        return b""


async def _replays(
    evidence: Evidence, question: Question, engine: Engine | None, backends: Sequence[str]
) -> list[Finding]:
    said, data = evidence.of(evidence.verdict), question.input or evidence.input.data
    if said is None or said.kind not in _JUDGED:
        return []
    if data is None:
        return [Finding("replay", None, "not run: the input is not in the bundle")]
    if engine is None:
        return [Finding("replay", None, "not run: the bundle does not hold the model; give its folder with --model")]
    found = []
    for backend in backends:
        claim = question.output or evidence.output.data or b""
        seen = await engine.observe(question.facts, data, backend, fresh=True, seed=question.seed, claim=claim)
        if isinstance(seen, Verdict):
            found.append(Finding("replay", None, f"{backend} came to nothing: {seen.kind} {seen.detail}"))
            continue
        again = judge(question.input_root, question.output_root, question.state_root, seen)
        same = (again.kind.value, again.detail, again.output_root, again.state_root) == _of(said)
        found.append(Finding("replay", same, f"{backend}: {again.kind} {again.detail}".rstrip()))
        found += _observed(evidence, question, seen.output)
    return found


def _of(row: VerdictRow) -> tuple[str, str, Hash32 | None, Hash32 | None]:
    return row.kind, row.detail, row.output_root, row.state_root


def _observed(evidence: Evidence, question: Question, output: bytes) -> Iterator[Finding]:
    """The output that is in the bundle, and where it parts from the committed one; silent where that holds."""
    said, verdict = evidence.observed, evidence.of(evidence.verdict)
    if said is not None and said.output is not None and said.output != output:
        yield Finding("observed", False, "the computed output in the bundle is another than the replay's")
    if said is not None and verdict is not None:
        roots = (verdict.output_root, verdict.state_root)
        if (said.output_root, said.state_root) != roots or said.backend not in BACKENDS:
            yield Finding("observed", False, "the roots or the backend of the replay for the bundle are others")
    committed = question.output or evidence.output.data
    if committed is None:
        return
    try:
        found = first_difference(output, committed)
    except LayoutError:
        return  # what was committed is no bundle, as its root has shown
    if found != evidence.difference:
        yield Finding("difference", False, "it names another first difference than there is")


def _sampling(evidence: Evidence, said: Sampling, committed: Committed) -> Finding:
    try:
        policy = Policy(**parse_json(said.policy.encode()))
        owed = rate(policy, Inputs.from_json(parse_json(said.inputs.encode())))
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return Finding("sampling", False, "its policy or inputs cannot be read")
    before = _kept_draw(evidence, said)
    block = committed.at.block if before is None or before.block is None else before.block
    wrong = [
        what
        for what, holds in (
            ("the policy is not the one of the epoch", policy.digest() == said.policy_digest),
            (f"the rate is {said.p}, the policy's is {owed}", said.p == owed),
            ("the block is not of the epoch", said.opens <= block < said.closes),
            ("it was drawn with another block than promised", said.draw_block == block + said.delay),
        )
        if not holds
    ]
    if said.secret is not None:
        epoch = Epoch(said.epoch, said.opens, said.closes, said.delay, said.secret, said.policy_digest)
        value = draw(said.secret, committed.commitment, said.draw_hash)
        if epoch.commitment() != said.commitment:
            wrong.append("the secret does not open the epoch's commitment")
        if selects(value, said.p) != said.selected or said.drawn not in (None, value.to_bytes(32, "big")):
            wrong.append("the draw is another one")
    if wrong:
        return Finding("sampling", False, "; ".join(wrong))
    drawn = f"epoch {said.epoch}, rate {said.p / 10_000:g} %, {'drawn' if said.selected else 'not drawn'}"
    if before is not None:
        bound = any(head.seq >= before.moved for head in evidence.heads)
        drawn += (
            f", when it stood in block {block}, before a reorganisation that left the draw in force for money was on "
        )
        drawn += f"its way: so its journal, under {'the head' if bound else 'no published head yet'}"
    if said.secret is None:
        return Finding("sampling", None, f"{drawn}; the epoch's secret was not revealed when the bundle was made")
    anchor = "it names no anchor" if said.anchor_tx is None else f"its anchor 0x{said.anchor_tx.hex()}"
    return Finding(
        "sampling",
        None,
        f"{drawn} with block {said.draw_block}, 0x{said.draw_hash.hex()}: secret, promise and draw fit each other; "
        f"that they were fixed beforehand a node tells: {anchor}, and that block's hash",
    )


def _kept_draw(evidence: Evidence, said: Sampling) -> PastDraw | None:
    """The draw of ``said`` as the journal tells it, where the commitment came back in another block after it and the draw was
    left in force. That its hash is no more the chain's a node tells, as it would tell that it is."""
    try:
        past = past_draws(evidence.journal)
    except (*UNREADABLE, RecursionError):
        return None  # what is nothing of ours explains nothing
    last = past[-1] if past else None
    if last is None or last.voided or not last.moved or not (last.selected and said.selected):
        return None
    same = (last.epoch, last.draw_block, last.draw_hash) == (said.epoch, said.draw_block, said.draw_hash)
    return last if same else None


def _payload(text: str) -> dict[str, Any]:
    try:
        found = parse_json(text.encode())
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("id"), int) else {}


def _journal(evidence: Evidence) -> Iterator[Finding]:
    subject = subject_of(evidence.commitment)
    told: dict[Any, dict[str, Any]] = {}
    for entry in evidence.journal:
        if entry.subject != subject or link(entry.prev, entry.seq, Entry(*entry[3:])) != entry.hash:
            yield Finding("journal", False, f"entry {entry.seq} is on something else, or its hash is not its own")
            return
        if entry.kind == "verdict":
            payload = _payload(entry.payload)
            told[payload.get("id")] = payload
    for before, entry in pairwise(evidence.journal):
        next_one = entry.seq == before.seq + 1
        if entry.seq <= before.seq or (next_one and entry.prev != before.hash):
            yield Finding("journal", False, f"entry {entry.seq} does not follow entry {before.seq}")
            return
    for row in evidence.verdicts:
        said = told.get(row.id, {})
        roots = tuple(None if root is None else "0x" + root.hex() for root in (row.output_root, row.state_root))
        if (said.get("kind"), said.get("backend"), (said.get("output_root"), said.get("state_root"))) != (
            row.kind,
            row.backend,
            roots,
        ):
            yield Finding("journal", False, f"verdict {row.id} is not what its entry says")
            return
    heads = Recovered()
    for head in evidence.heads:
        if evidence.journal and head.seq < evidence.journal[-1].seq:
            yield Finding("journal", False, f"the head {head.seq} lies before the entries")
            return
        if any(entry.seq == head.seq and entry.hash != head.hash for entry in evidence.journal):
            yield Finding("journal", False, f"the head {head.seq} is that of another journal")
            return
        if not heads.verify(head.signer, head_message(head.seq, head.hash), head.signature):
            yield Finding("journal", False, f"the head {head.seq} is not signed by {head.signer}")
            return
    bound = f"head {evidence.heads[0].seq} by {evidence.heads[0].signer}" if evidence.heads else "no head yet"
    yield Finding("journal", True, f"{len(evidence.journal)} entries, each with its hash; {bound}")
