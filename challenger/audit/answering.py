"""The hops up to the answer and its data: what requester, registrar and provider owe. Pure."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from challenger.audit.hops import CHAIN, Certainty, Fault, Hop, Party, Role, Status, Step, When, diverged, provider
from challenger.audit.proofs import Proofs, part_of, roots_of, when_of
from challenger.domain import DemandOutcome, Part, UnixTime
from challenger.store.handoffs import Story
from challenger.store.rows import CommitmentRow, ModelRow, TaskRow

LOST, ANSWERED = DemandOutcome.LOST.value, DemandOutcome.ANSWERED.value
ON_CHAIN = "it stands on chain, hashed by the contract"
_LATEST = 2**63


def order(story: Story, task: TaskRow, proofs: Proofs) -> list[Hop]:
    """From the requester to whoever took the task."""
    return [_tokenisation(task, story.model), _input(story, task, proofs), _task(story, task), _assignment(story, task)]


def answer(story: Story, row: CommitmentRow, proofs: Proofs) -> list[Hop]:
    """The provider's part."""
    return [_inference(story, row, proofs), _commitment(story, row), _output(story, row, proofs)]


def _tokenisation(task: TaskRow, model: ModelRow | None) -> Hop:
    # the program root binds the tokenizer's digest, where the model has one; nothing binds the text
    said = "the chain carries token ids and no text: whether they are the requester's words cannot be seen"
    bound = {} if model is None else {"program_root": model.program_root}
    return Hop(Step.TOKENISATION, _requester(task), Status.UNKNOWN, said, should=bound)


def _input(story: Story, task: TaskRow, proofs: Proofs) -> Hop:
    due = {"input_root": task.input_root}
    when = when_of(story.first("TaskOpened", task.task))
    hop = Hop(Step.INPUT, _requester(task), Status.HELD, ON_CHAIN, Certainty.CHAIN, due, due, when)
    return _data(story, hop, (Part.INPUT,), task.input_uri, proofs, proofs.input_seen)


def _task(story: Story, task: TaskRow) -> Hop:
    crossed = {"task": task.task, "input_root": task.input_root, "entropy": task.entropy}
    when = when_of(story.first("TaskOpened", task.task))
    said = "the order stands on chain, its fee paid in"
    return Hop(Step.TASK, _requester(task), Status.HELD, said, Certainty.CHAIN, crossed, crossed, when)


def _assignment(story: Story, task: TaskRow) -> Hop:
    if task.provider is None or task.seed is None:
        said = f"nobody took it: {task.closed}" if task.closed else "nobody has taken it yet"
        return Hop(Step.ASSIGNMENT, _requester(task), Status.IDLE, said)
    holder, when = provider(task.provider), when_of(story.first("TaskTaken", task.task))
    did = {"seed": task.seed}
    due = _seed(story, task)
    if due is None:
        said = (
            f"{holder} took it; the contract computes the seed, and its beacon is not in the ledger to compute it again"
        )
        return Hop(Step.ASSIGNMENT, holder, Status.HELD, said, Certainty.CHAIN, {}, did, when)
    if due != task.seed:
        said = "the seed is not the one that follows from the recorded beacon: an endpoint or the record is wrong"
        return Hop(Step.ASSIGNMENT, holder, Status.UNKNOWN, said, None, {"seed": due}, did, when)
    said = f"{holder} took it; the seed follows from the task, its entropy and the block after it"
    return Hop(Step.ASSIGNMENT, holder, Status.HELD, said, Certainty.CHAIN, did, did, when)


def _seed(story: Story, task: TaskRow) -> bytes | None:
    chain, _, market = story.deployment.partition("/")
    if story.beacon is None or not chain.isdecimal() or len(market) != 42:
        return None
    place = int(chain).to_bytes(32, "big") + bytes.fromhex(market[2:])
    return sha256(b"seed/1" + place + task.task + task.entropy + story.beacon).digest()


def registration(story: Story, model: ModelRow, proofs: Proofs) -> Hop:
    """The registrar's part."""
    holder = Party(Role.REGISTRAR, model.registrar)
    due = {
        "file_digest": model.file_digest,
        "artefact_root": model.artefact_root,
        "program_root": model.program_root,
    }
    born = when_of(story.first("ModelRegistered", model.model))
    begin, end = _span(story)
    lost = next((one for one in story.demands if one.part == Part.WEIGHTS and one.outcome == LOST), None)
    elsewhere = story.condemned
    if lost is None and elsewhere is not None and not proofs.ran and (elsewhere.closed_block or 0) <= end:
        lost = elsewhere
    if lost is not None:
        over = "" if lost in story.demands else f", over the answer 0x{lost.commitment.hex()}"
        said = f"{holder} did not show the model's weights when they were demanded (demand {lost.demand}{over})"
        when = when_of(story.first("DemandClosed", lost.demand)) if not over else When(block=lost.closed_block)
        return _with_what_lay(
            diverged(Step.MODEL, holder, Fault.WITHHELD, Certainty.CHAIN, said, due, {}, when), proofs
        )
    disabled = story.first("ModelDisabled", model.model)
    early = disabled is not None and begin < disabled.block <= (
        end if story.commitment is None else story.commitment.block
    )
    if proofs.ran:
        later = "; it was taken out of service before the answer came" if early else ""
        said = f"the files behind the registered digests were had and run here{later}"
        return Hop(Step.MODEL, holder, Status.HELD, said, Certainty.REPLAY, due, due, born)
    if early and disabled is not None:
        said = f"{holder} took the model out of service while the task was open"
        return diverged(Step.MODEL, holder, Fault.REVOKED, Certainty.CHAIN, said, due, {}, when_of(disabled))
    if Part.WEIGHTS in proofs.substituted:
        return _substituted(Hop(Step.MODEL, holder, Status.UNKNOWN, "", None, due), Part.WEIGHTS, proofs)
    why = "nobody demanded its weights, and it was not run here"
    if proofs.reason.startswith(("model:", f"{Part.WEIGHTS}:", Part.WEIGHTS.value)):
        why = f"it could not be run here ({proofs.reason}), which may be our fault as well as the registrar's"
    return Hop(Step.MODEL, holder, Status.UNKNOWN, why, None, due, {}, born)


def unanswered(story: Story, task: TaskRow) -> Hop:
    """Where no commitment came."""
    if task.provider is None:
        return Hop(Step.COMMITMENT, _requester(task), Status.IDLE, "no answer was owed: nobody took it")
    holder = provider(task.provider)
    if task.closed != "lapsed":
        return Hop(Step.COMMITMENT, holder, Status.UNKNOWN, "the answer is not there yet, or the index has it not")
    said = f"{holder} took the task and let its deadline pass without an answer"
    when = when_of(story.first("TaskClosed", task.task))
    return diverged(Step.COMMITMENT, holder, Fault.LATE, Certainty.CHAIN, said, {"task": task.task}, {}, when)


# --- the answer ---------------------------------------------------------------------------------------------------


def _inference(story: Story, row: CommitmentRow, proofs: Proofs) -> Hop:
    holder, did = provider(row.provider), roots_of(row)
    when = when_of(story.first("Committed", row.commitment))
    if proofs.contradiction:
        return Hop(Step.INFERENCE, holder, Status.UNKNOWN, proofs.contradiction, None, proofs.computed, did, when)
    if proofs.false or proofs.ruled_false:
        how = Certainty.REPLAY if proofs.false else Certainty.CHAIN
        twin = story.twin
        if twin is not None and twin.state_root != row.state_root:
            said = f"{holder} handed in another task's answer again, the output of 0x{twin.commitment.hex()}"
            return diverged(Step.INFERENCE, holder, Fault.REPLAYED, how, said, proofs.computed, did, when)
        differs = [name for name, root in proofs.computed.items() if root != did[name]]
        which = f" (differs: {', '.join(name.removesuffix('_root') for name in differs)})" if differs else ""
        said = f"{holder} committed to what the model does not yield from the task's input{which}"
        return diverged(Step.INFERENCE, holder, Fault.WRONG, how, said, proofs.computed, did, when)
    if proofs.right:
        said = "a replay of the registered model on the task's input gives the committed roots, bit for bit"
        return Hop(Step.INFERENCE, holder, Status.HELD, said, Certainty.REPLAY, proofs.computed, did, when)
    if proofs.cleared:
        said = "it was disputed, and the adjudicator ruled for the provider; it was not judged here"
        return Hop(Step.INFERENCE, holder, Status.HELD, said, Certainty.CHAIN, {}, did, when)
    return Hop(Step.INFERENCE, holder, Status.UNKNOWN, proofs.doubt, None, {}, did, when)


def _commitment(story: Story, row: CommitmentRow) -> Hop:
    holder, task = provider(row.provider), story.task
    when = when_of(story.first("Committed", row.commitment))
    crossed = {"commitment": row.commitment, **roots_of(row)}
    odd = []
    if task is not None:
        odd += ["another provider took the task"] if task.provider != row.provider else []
        odd += ["its model is not the task's"] if task.model != row.model else []
        odd += ["it came after the deadline"] if row.committed_at >= task.deadline else []
    if odd:
        said = f"{'; '.join(odd)}, which the contract does not let happen: an endpoint or the record is wrong"
        return Hop(Step.COMMITMENT, holder, Status.UNKNOWN, said, None, {}, crossed, when)
    moved = [one for one in story.undone if one.kind != "chain-job-closed"]
    again = f"; a reorganisation had taken it back from block {moved[-1].block} before" if moved else ""
    said = f"the taker's answer stands on chain, in time{again}"
    return Hop(Step.COMMITMENT, holder, Status.HELD, said, Certainty.CHAIN, crossed, crossed, when)


def _output(story: Story, row: CommitmentRow, proofs: Proofs) -> Hop:
    due = {"output_root": row.output_root}
    when = when_of(story.first("Committed", row.commitment))
    hop = Hop(Step.OUTPUT, provider(row.provider), Status.HELD, ON_CHAIN, Certainty.CHAIN, due, due, when)
    return _data(story, hop, (Part.OUTPUT, Part.OPENING), row.output_uri, proofs, proofs.output_seen)


def gone(story: Story) -> Hop:
    """Where a reorganisation took the commitment away."""
    lost = [one for one in story.undone if one.kind != "chain-job-closed"]
    when = When(lost[-1].time, lost[-1].block) if lost else When()
    due = {"commitment": story.identity}
    said = "the chain took the commitment back in a reorganisation"
    return diverged(Step.COMMITMENT, CHAIN, Fault.REVOKED, Certainty.OBSERVED, said, due, {}, when)


def _data(
    story: Story,
    hop: Hop,
    parts: tuple[Part, ...],
    uri: str,
    proofs: Proofs,
    seen: UnixTime | None,
) -> Hop:
    """The hop of data that its holder owes to everybody, inline or behind an address. ``hop``: as it is where the data
    stands on chain; ``parts``: the data first, and what else can be demanded of the holder; ``seen``: when it was had here."""
    asked = [one for one in story.demands if one.part in parts]
    lost = next((one for one in asked if one.outcome == LOST), None)
    if lost is not None:
        said = f"{hop.holder} did not show the {lost.part} when it was demanded (demand {lost.demand})"
        when = when_of(story.first("DemandClosed", lost.demand))
        at_last = diverged(hop.step, hop.holder, Fault.WITHHELD, Certainty.CHAIN, said, hop.should, {}, when)
        return _with_what_lay(at_last, proofs)
    if not uri:
        return hop
    shown = next((one for one in asked if one.outcome == ANSWERED and one.part == parts[0]), None)
    if shown is not None:
        said = f"it was posted on chain in answer to demand {shown.demand}"
        return replace(hop, said=said, when=when_of(story.first("DemandClosed", shown.demand)))
    if seen is not None:
        said = "it was fetched from its address, and is what its root says"
        return replace(hop, said=said, certainty=Certainty.OBSERVED, when=When(seen))
    if parts[0] in proofs.substituted:
        return _substituted(hop, parts[0], proofs)
    said = "nobody demanded it, and it was not needed here"
    if part_of(proofs.reason) in parts:
        said = "it could not be had here; one watcher that cannot fetch proves nothing, and no demand for it was lost"
    return replace(hop, status=Status.UNKNOWN, said=said, certainty=None, did={}, when=When())


def _substituted(hop: Hop, part: Part, proofs: Proofs) -> Hop:
    """Other bytes were served than those committed: seen by us, and by nobody who could show it."""
    lay, time = proofs.substituted[part]
    said = (
        f"{hop.holder} owes the {part}, and what its address served us was {lay}: others may be served other bytes, and "
        "what one watcher saw proves nothing"
    )
    did = {"served_sha256": lay.digest}
    return diverged(hop.step, hop.holder, Fault.SUBSTITUTED, Certainty.OBSERVED, said, hop.should, did, When(time))


def _with_what_lay(hop: Hop, proofs: Proofs) -> Hop:
    """A hop that is proved withheld, and beside it what we were served in its place."""
    parts = {Step.INPUT: Part.INPUT, Step.MODEL: Part.WEIGHTS, Step.OUTPUT: Part.OUTPUT}
    there = proofs.substituted.get(parts[hop.step])
    if there is None:
        return hop
    said = f"{hop.said}; its address had served us other bytes: {there[0]}"
    return replace(hop, said=said, did={"served_sha256": there[0].digest})


def _requester(task: TaskRow) -> Party:
    return Party(Role.REQUESTER, task.requester)


def _span(story: Story) -> tuple[int, int]:
    """Blocks from the task's opening to the job's end, or far away."""
    row, task = story.commitment, story.task
    begin = 0 if task is None else task.block
    if row is not None:
        return begin, row.closed_block or _LATEST
    closed = None if task is None else story.first("TaskClosed", task.task)
    return begin, _LATEST if closed is None else closed.block
