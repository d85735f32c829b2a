"""Re-checks a whole epoch: neither skipped nor cherry-picked. Pure: rows in, findings out.

What it proves: every commitment that the chain shows in the epoch has a row; its rate is the policy's answer to the
recorded inputs; its draw is the HMAC of the revealed secret; the recorded decision is the draw's; what was selected
was carried on with. What it cannot prove without an anchor: that the secret was fixed beforehand. It then says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from challenger.domain import BlockNumber, CommitmentId, Hash32, Millionths, State
from challenger.sampling.draw import Epoch, draw, selects
from challenger.sampling.policy import Inputs, Policy, rate


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the record says about one commitment. ``drawn``: the draw's number, big-endian, None where it was not kept."""

    commitment: CommitmentId
    block: BlockNumber
    inputs: Inputs | None
    p: Millionths | None
    draw_block: BlockNumber | None
    draw_hash: Hash32 | None
    selected: bool | None
    state: State
    replayed: bool
    drawn: bytes | None = None


@dataclass(frozen=True, slots=True)
class Anchor:
    """The epoch's commitment as the chain has it, and the block in which it was written."""

    commitment: Hash32
    block: BlockNumber


@dataclass(frozen=True, slots=True)
class Finding:
    commitment: CommitmentId | None
    what: str


@dataclass(slots=True)
class Report:
    """``findings`` break the promise; ``notes`` limit what could be shown. ``anchored``: late draws aside."""

    epoch: int
    anchored: bool
    commitments: int = 0
    selected: int = 0
    pending: int = 0
    before_anchor: int = 0
    unjudged: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.findings


#: States that a commitment may not rest in once its draw is made, by what the draw said.
_ONLY_UNSELECTED = frozenset({State.SKIPPED})
_ONLY_SELECTED = frozenset({State.SAMPLED, State.REPLAYED, State.CONFIRMED, State.FILING, State.FILED, State.DISPUTING})


def check_epoch(
    epoch: Epoch,
    policy: Policy,
    recorded_commitment: Hash32,
    on_chain: Mapping[CommitmentId, BlockNumber],
    rows: Iterable[Drawn],
    hashes: Mapping[BlockNumber, Hash32],
    anchor: Anchor | None,
) -> Report:
    """``on_chain``: every commitment the chain shows in the epoch; ``hashes``: canonical hashes of draw blocks, as
    far as the caller could get them (a missing one is noted, not held against the watcher)."""
    report = Report(epoch.number, anchored=anchor is not None)
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
        _check_row(epoch, policy, row, on_chain[row.commitment], report)
        if anchor is not None and row.draw_block is not None and row.draw_block <= anchor.block:
            report.before_anchor += 1
        canonical = None if row.draw_block is None else hashes.get(row.draw_block)
        if canonical is not None:
            if canonical != row.draw_hash:
                say(Finding(row.commitment, "the draw used a hash that is not the draw block's"))
        else:
            unknown += 1
    for missing in on_chain.keys() - seen:
        say(Finding(missing, "on chain in this epoch, yet never recorded"))
    if unknown:
        report.notes.append(f"{unknown} draw blocks could not be compared with the chain")
    if report.before_anchor:
        report.notes.append(f"{report.before_anchor} commitments were drawn with blocks that precede the anchor")
    if report.unjudged:
        report.notes.append(f"{report.unjudged} drawn commitments have no verdict of VALID or FRAUD")
    if report.pending:
        report.notes.append(f"{report.pending} commitments are not drawn yet")
    return report


def _check_row(epoch: Epoch, policy: Policy, row: Drawn, block: BlockNumber, report: Report) -> None:
    say = report.findings.append
    if row.inputs is None or row.p is None or row.draw_hash is None:
        say(Finding(row.commitment, "decided without recorded inputs, rate or draw"))
        return
    if row.block != block:
        say(Finding(row.commitment, f"recorded in block {row.block}, on chain in block {block}"))
    if row.draw_block != epoch.draw_block(block):
        say(Finding(row.commitment, f"drawn with block {row.draw_block}, promised was {epoch.draw_block(block)}"))
    if rate(policy, row.inputs) != row.p:
        say(Finding(row.commitment, f"rate {row.p} is not the policy's {rate(policy, row.inputs)}"))
    value = draw(epoch.secret, row.commitment, row.draw_hash)
    if row.drawn is not None and int.from_bytes(row.drawn, "big") != value:
        say(Finding(row.commitment, "the number that is kept of the draw is not what the secret gives"))
    chosen = selects(value, row.p)
    if chosen != row.selected:
        say(Finding(row.commitment, "selected against the draw" if row.selected else "skipped against the draw"))
    report.selected += chosen
    report.unjudged += chosen and not row.replayed
    if chosen and row.state in _ONLY_UNSELECTED:
        say(Finding(row.commitment, "drawn, yet skipped"))
    if not chosen and (row.replayed or row.state in _ONLY_SELECTED):
        say(Finding(row.commitment, "replayed although it was not drawn"))
