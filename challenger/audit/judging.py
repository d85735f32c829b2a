"""The hops after the answer: what watcher, challengers and adjudicator owe, and what the chain made of it. Pure."""

from __future__ import annotations

from challenger.audit.hops import (
    ADJUDICATOR,
    CHAIN,
    WATCHER,
    Certainty,
    Fault,
    Hop,
    Party,
    Role,
    Status,
    Step,
    When,
    diverged,
)
from challenger.audit.proofs import Proofs, roots_of, when_of
from challenger.domain import DemandOutcome, DisputeOutcome, JobStatus, Part, State, VerdictKind
from challenger.store.handoffs import Story
from challenger.store.rows import CommitmentRow, DemandRow, DisputeRow

LOST = DemandOutcome.LOST.value


def aftermath(story: Story, row: CommitmentRow, proofs: Proofs) -> list[Hop]:
    """From the draw to the money."""
    hops = [_replay(story, proofs), *(_demand(story, one) for one in story.demands)]
    hops += [_dispute(story, one, proofs) for one in story.disputes] or [_undisputed(story, proofs)]
    return [*hops, *(_ruling(story, one, proofs) for one in story.disputes), _settlement(story, row)]


def _replay(story: Story, proofs: Proofs) -> Hop:
    ours = story.work
    if ours is None or ours.selected is None:
        return Hop(Step.REPLAY, WATCHER, Status.UNKNOWN, "there is no draw of it on record (yet)")
    drawn: dict[str, bytes] = {} if ours.draw_hash is None else {"draw_hash": ours.draw_hash}
    if not ours.selected:
        said = f"it was not drawn, at a rate of {(ours.p_millionths or 0) / 10_000:g} %"
        return Hop(Step.REPLAY, WATCHER, Status.IDLE, said, None, {}, drawn)
    when = When() if story.verdict is None else When(story.verdict.time)
    if proofs.watched:
        said = f"it was drawn and judged: {'right' if proofs.watched is VerdictKind.VALID else 'false, reproduced'}"
        return Hop(Step.REPLAY, WATCHER, Status.HELD, said, Certainty.REPLAY, {}, drawn | proofs.computed, when)
    judged_late = story.verdict is None and ours.state in (State.EXPIRED, State.FINALISED)
    doubted = story.verdict is not None and story.verdict.kind == VerdictKind.FRAUD
    if ours.state == State.SHED or judged_late or (doubted and ours.state == State.EXPIRED):
        said = f"the watcher drew it and did not judge it in time: {ours.detail or 'the job was closed'}"
        return diverged(Step.REPLAY, WATCHER, Fault.LATE, Certainty.OBSERVED, said, {}, drawn, When(ours.updated))
    return Hop(Step.REPLAY, WATCHER, Status.UNKNOWN, f"it was drawn; {proofs.doubt}", None, {}, drawn, when)


def _demand(story: Story, row: DemandRow) -> Hop:
    said = f"demand {row.demand} for the {row.part} by {row.demander}: {row.outcome}"
    when = when_of(story.first("DemandOpened", row.demand))
    return Hop(Step.DEMAND, Party(Role.CHALLENGER, row.demander), Status.HELD, said, Certainty.CHAIN, when=when)


def _dispute(story: Story, row: DisputeRow, proofs: Proofs) -> Hop:
    holder = Party(Role.CHALLENGER, row.challenger)
    claim = roots_of(row)
    when = when_of(story.first("DisputeOpened", row.dispute))
    if row.outcome == DisputeOutcome.PROVIDER and not proofs.false:
        said = f"{holder} disputed what the adjudicator found right (dispute {row.dispute})"
        return diverged(Step.DISPUTE, holder, Fault.WRONG, Certainty.CHAIN, said, proofs.computed, claim, when)
    said = f"{holder} disputed it (dispute {row.dispute})"
    return Hop(Step.DISPUTE, holder, Status.HELD, said, Certainty.CHAIN, proofs.computed, claim, when)


def _undisputed(story: Story, proofs: Proofs) -> Hop:
    ours = story.work
    if proofs.watched is not VerdictKind.FRAUD or ours is None:
        return Hop(Step.DISPUTE, WATCHER, Status.IDLE, "nobody disputed it")
    if ours.state == State.EXPIRED and ours.detail.startswith("window:"):
        said = f"the watcher had proof and did not file it in time: {ours.detail}"
        return diverged(Step.DISPUTE, WATCHER, Fault.LATE, Certainty.OBSERVED, said, when=When(ours.updated))
    said = f"it is proved false here, and nobody disputed it{': ' if ours.detail else ''}{ours.detail}"
    return Hop(Step.DISPUTE, WATCHER, Status.IDLE, said)


def _ruling(story: Story, row: DisputeRow, proofs: Proofs) -> Hop:
    when = when_of(story.first("DisputeClosed", row.dispute))
    which = f"dispute {row.dispute}"
    match DisputeOutcome(row.outcome):
        case DisputeOutcome.OPEN:
            return Hop(Step.RULING, ADJUDICATOR, Status.UNKNOWN, f"{which} is open")
        case DisputeOutcome.MOOT:
            return Hop(
                Step.RULING, ADJUDICATOR, Status.IDLE, f"{which} fell away: the job was decided before", when=when
            )
        case DisputeOutcome.EXPIRED:
            said = f"{ADJUDICATOR} did not rule on {which} in its time"
            return diverged(Step.RULING, ADJUDICATOR, Fault.LATE, Certainty.CHAIN, said, when=when)
        case DisputeOutcome.PROVIDER if proofs.false and not proofs.right:
            said = f"{ADJUDICATOR} ruled for a provider whose answer is proved false ({which})"
            return diverged(Step.RULING, ADJUDICATOR, Fault.WRONG, Certainty.REPLAY, said, when=when)
    if proofs.contradiction:
        return Hop(Step.RULING, ADJUDICATOR, Status.UNKNOWN, f"{which}: {proofs.contradiction}", when=when)
    said = f"{which} ended for the {row.outcome}"
    return Hop(Step.RULING, ADJUDICATOR, Status.HELD, said, Certainty.CHAIN, when=when)


def _settlement(story: Story, row: CommitmentRow) -> Hop:
    status = JobStatus(row.status)
    undone = [one for one in story.undone if one.kind == "chain-job-closed"]
    if status is JobStatus.COMMITTED:
        if undone:
            said = f"the chain took the settlement of block {undone[-1].block} back in a reorganisation"
            when = When(undone[-1].time, undone[-1].block)
            return diverged(Step.SETTLEMENT, CHAIN, Fault.REVOKED, Certainty.OBSERVED, said, when=when)
        return Hop(Step.SETTLEMENT, CHAIN, Status.UNKNOWN, "it is not settled yet")
    when, due = when_of(story.first("JobClosed", row.commitment)), _due(story)
    if status is not due:
        said = f"the job is {status}, which does not follow from its disputes and demands on record"
        return Hop(Step.SETTLEMENT, CHAIN, Status.UNKNOWN, said, when=when)
    ends = {
        JobStatus.FINAL: "final: the fee is the provider's",
        JobStatus.FRAUD: "fraud: the provider lost its collateral, the fee went back",
        JobStatus.VOID: "void: nobody earned the fee",
    }
    again = f"; a reorganisation had taken back the settlement of block {undone[-1].block}" if undone else ""
    said = f"{ends[status]}{again}; who withdrew it when is not indexed"
    return Hop(Step.SETTLEMENT, CHAIN, Status.HELD, said, Certainty.CHAIN, when=when)


def _due(story: Story) -> JobStatus:
    """How a job ends by the rules, from its disputes and demands."""
    lost = {one.part for one in story.demands if one.outcome == LOST}
    ended = {one.outcome for one in story.disputes}
    if DisputeOutcome.CHALLENGER in ended or lost & {Part.OUTPUT, Part.OPENING}:
        return JobStatus.FRAUD
    return JobStatus.VOID if lost or DisputeOutcome.EXPIRED in ended else JobStatus.FINAL
