"""Re-checks a whole epoch: neither skipped nor cherry-picked. Pure: rows in, findings out.

What it proves: every commitment that the chain shows in the epoch has a row; its rate is the policy's answer to the
recorded inputs; its draw is the HMAC of the revealed secret; the recorded decision is the draw's; what was selected
was carried on with. What it cannot prove without an anchor: that the secret was fixed beforehand. It then says so.

A draw is made as soon as its block is there, and a reorganisation may take that block away. What the record then still
rests on is excused where the journal tells of the draw, and after it of the reorganisation, under a published head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from challenger.domain import BlockNumber, CommitmentId, Hash32, Millionths, State
from challenger.sampling.draw import Epoch, draw, selects
from challenger.sampling.past import PastDraw
from challenger.sampling.policy import Inputs, Policy, rate


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the record says about one commitment. ``drawn``: the draw's number, big-endian, None where it was not kept.
    ``judged``: ids of its verdicts VALID and FRAUD; ``past``: its draws as the journal tells them, wanted where ``plain``
    does not hold."""

    commitment: CommitmentId
    block: BlockNumber
    inputs: Inputs | None
    p: Millionths | None
    draw_block: BlockNumber | None
    draw_hash: Hash32 | None
    selected: bool | None
    state: State
    judged: frozenset[int] = frozenset()
    drawn: bytes | None = None
    past: tuple[PastDraw, ...] = ()

    @property
    def replayed(self) -> bool:
        return bool(self.judged)


@dataclass(frozen=True, slots=True)
class Anchor:
    """The epoch's commitment as the chain has it, and the block in which it was written."""

    commitment: Hash32
    block: BlockNumber


class Promise(NamedTuple):
    """What is fixed before an epoch opens."""

    epoch: Epoch
    policy: Policy


@dataclass(frozen=True, slots=True)
class Finding:
    commitment: CommitmentId | None
    what: str


@dataclass(slots=True)
class Report:
    """``findings`` break the promise; ``notes`` limit what could be shown. ``anchored``: late draws aside.

    ``kept`` draws were made before a reorganisation that left them in force, ``redrawn`` commitments were replayed by a draw
    that one voided; ``unbound``: what would be either, if a published head bound the journal's entries."""

    epoch: int
    anchored: bool
    commitments: int = 0
    selected: int = 0
    pending: int = 0
    before_anchor: int = 0
    unjudged: int = 0
    kept: int = 0
    redrawn: int = 0
    unbound: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.findings


#: States that a commitment may not rest in once its draw is made, by what the draw said.
_ONLY_UNSELECTED = frozenset({State.SKIPPED})
_ONLY_SELECTED = frozenset({State.SAMPLED, State.REPLAYED, State.CONFIRMED, State.FILING, State.FILED, State.DISPUTING})


def plain(row: Drawn, epoch: Epoch, block: BlockNumber, canonical: Hash32 | None) -> bool:
    """Whether the draw of ``row``, whose commitment stands in ``block``, needs no past to be as promised. ``canonical``: the
    hash of its draw block, None where that is not known."""
    in_place = row.draw_block == epoch.draw_block(block) and canonical in (None, row.draw_hash)
    return row.selected is None or (in_place and (row.selected or not row.replayed))


def check_epoch(
    epoch: Epoch,
    policy: Policy,
    recorded_commitment: Hash32,
    on_chain: Mapping[CommitmentId, BlockNumber],
    rows: Iterable[Drawn],
    hashes: Mapping[BlockNumber, Hash32],
    anchor: Anchor | None,
    *,
    promises: Mapping[int, Promise] | None = None,
    bound: int = 0,
) -> Report:
    """``on_chain``: every commitment the chain shows in the epoch; ``hashes``: canonical hashes of draw blocks, as
    far as the caller could get them (a missing one is noted, not held against the watcher). ``promises``: of all epochs,
    by number, for commitments that a reorganisation took from one to another; ``bound``: the last entry of the journal
    that a published head binds."""
    check = _Check(
        Promise(epoch, policy),
        dict(promises or {}) | {epoch.number: Promise(epoch, policy)},
        bound,
        Report(epoch.number, anchored=anchor is not None),
    )
    report = check.report
    say = report.findings.append
    if epoch.commitment() != recorded_commitment:
        say(Finding(None, "the revealed secret, delay and policy do not open the recorded commitment"))
    if policy.digest() != epoch.policy_digest:
        say(Finding(None, "the policy is not the one the epoch was opened with"))
    if anchor is None:
        report.notes.append("unanchored: nothing outside this database shows that the secret was fixed beforehand")
    elif anchor.commitment != recorded_commitment:
        say(Finding(None, "the anchor on chain is another commitment"))
    seen: set[CommitmentId] = set()
    unknown = 0
    for row in rows:
        seen.add(row.commitment)
        if row.commitment not in on_chain:
            if row.state is not State.ORPHANED:
                say(Finding(row.commitment, "recorded, yet not on chain in this epoch"))
            continue
        report.commitments += 1
        if row.selected is None:
            report.pending += 1
            continue
        canonical = None if row.draw_block is None else hashes.get(row.draw_block)
        check.row(row, on_chain[row.commitment], canonical)
        if anchor is not None and row.draw_block is not None and row.draw_block <= anchor.block:
            report.before_anchor += 1
        unknown += canonical is None
    for missing in on_chain.keys() - seen:
        say(Finding(missing, "on chain in this epoch, yet never recorded"))
    if unknown:
        report.notes.append(f"{unknown} draw blocks could not be compared with the chain")
    report.notes += [f"{count} commitments {what}" for count, what in _counted(report) if count]
    return report


def _counted(report: Report) -> tuple[tuple[int, str], ...]:
    return (
        (report.before_anchor, "were drawn with blocks that precede the anchor"),
        (report.unjudged, "were drawn and have no verdict of VALID or FRAUD"),
        (report.pending, "are not drawn yet"),
        (report.kept, "were drawn before a reorganisation that left the draw in force: money was on its way"),
        (report.redrawn, "were replayed by a draw that a reorganisation voided"),
        (report.unbound, "would be explained by entries that no published head binds yet"),
    )


class _Check:
    """What is said of single rows goes to ``report``."""

    def __init__(self, promise: Promise, promises: Mapping[int, Promise], bound: int, report: Report) -> None:
        self._promise = promise
        self._promises = promises
        self._bound = bound
        self.report = report

    def row(self, row: Drawn, block: BlockNumber, canonical: Hash32 | None) -> None:
        report = self.report

        def say(what: str) -> None:
            report.findings.append(Finding(row.commitment, what))

        if row.inputs is None or row.p is None or row.draw_hash is None:
            say("decided without recorded inputs, rate or draw")
            return
        if row.block != block:
            say(f"recorded in block {row.block}, on chain in block {block}")
        epoch, policy = self._promise
        kept = None if plain(row, epoch, block, canonical) else self._kept(row, canonical)
        if kept is not None:
            epoch, policy = kept
            report.kept += 1
        else:
            if row.draw_block != epoch.draw_block(block):
                say(f"drawn with block {row.draw_block}, promised was {epoch.draw_block(block)}")
            if canonical not in (None, row.draw_hash):
                say("the draw used a hash that is not the draw block's")
        if rate(policy, row.inputs) != row.p:
            say(f"rate {row.p} is not the policy's {rate(policy, row.inputs)}")
        value = draw(epoch.secret, row.commitment, row.draw_hash)
        if row.drawn is not None and int.from_bytes(row.drawn, "big") != value:
            say("the number that is kept of the draw is not what the secret gives")
        chosen = selects(value, row.p)
        if chosen != row.selected:
            say("selected against the draw" if row.selected else "skipped against the draw")
        report.selected += chosen
        report.unjudged += chosen and not row.replayed
        if chosen and row.state in _ONLY_UNSELECTED:
            say("drawn, yet skipped")
        if not chosen and (row.state in _ONLY_SELECTED or (row.replayed and not self._redrawn(row))):
            say("replayed although it was not drawn")

    def _kept(self, row: Drawn, canonical: Hash32 | None) -> Promise | None:
        """What had promised the draw of ``row``, where that was made in its place and a reorganisation left it in force: it
        selected, and money was on its way."""
        last = row.past[-1] if row.past else None
        if last is None or last.voided or not (row.selected and last.selected):
            return None
        promise = self._promises.get(last.epoch)
        if promise is None or (last.draw_block, last.draw_hash) != (row.draw_block, row.draw_hash):
            return None
        told = last.moved or (0 if canonical is None else last.replaced.get(canonical, 0))
        return promise if last.in_place(promise.epoch) and self._binds(told) else None

    def _redrawn(self, row: Drawn) -> bool:
        """Whether every verdict was found under a draw that selected, as promised, and that a reorganisation voided."""
        voided: set[int] = set()
        last = 0
        for one in row.past:
            promise = self._promises.get(one.epoch)
            if one.voided and one.selected and promise is not None and one.as_promised(*promise, row.commitment):
                voided |= one.judged
                last = one.voided
        excused = row.judged <= voided and self._binds(last)
        self.report.redrawn += excused
        return excused

    def _binds(self, entry: int) -> bool:
        """Whether a published head binds the journal up to ``entry``; 0: there is none."""
        self.report.unbound += entry > self._bound
        return 0 < entry <= self._bound
