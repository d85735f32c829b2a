"""What replays and rulings prove of one commitment, and where they contradict each other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from challenger.audit.hops import When
from challenger.domain import DisputeOutcome, Part, UnixTime, VerdictKind
from challenger.store.audits import AuditRow
from challenger.store.handoffs import Happened, Story
from challenger.store.rows import CommitmentRow, DisputeRow, VerdictRow
from challenger.substitution import Substitution

_VALID, _FRAUD = VerdictKind.VALID.value, VerdictKind.FRAUD.value


@dataclass(frozen=True, slots=True)
class Proofs:
    """``right``: a replay gave the committed roots. ``false``: two unrelated backends gave the same other ones. ``ruled_false``
    and ``cleared``: a dispute ended against, or for, the provider. ``ran``: the model was had and run here. ``computed``: the
    roots of the proof. ``substituted``: what lay in the place of which data when it was looked for first, and when that was. ``watched``: VALID or reproduced FRAUD by the watcher itself, audits aside. ``input_seen``,
    ``output_seen``: chain time at which the data was had. ``reason``: why there is no verdict, as the replay said it; ``doubt``
    in a sentence."""

    right: bool
    false: bool
    ruled_false: bool
    cleared: bool
    ran: bool
    watched: VerdictKind | None
    input_seen: UnixTime | None
    output_seen: UnixTime | None
    reason: str
    doubt: str
    computed: dict[str, bytes] = field(default_factory=dict)
    substituted: Mapping[Part, tuple[Substitution, UnixTime]] = field(default_factory=dict)

    @property
    def contradiction(self) -> str:
        """Why nobody may be accused although something is proved; empty where nothing contradicts."""
        if self.right and self.false:
            return "replays here contradict each other"
        if self.right and self.ruled_false:
            return "the adjudicator found it false and the replay here right: one of them is wrong"
        return ""


def proofs_of(story: Story) -> Proofs:
    first, second, audits = story.verdict, story.confirmation, story.audits
    right = [one for one in (first, *audits) if one is not None and one.kind == _VALID]
    reproduced = second if first is not None and second is not None and first.kind == second.kind == _FRAUD else None
    false = [one for one in (reproduced, *audits) if one is not None and one.kind == _FRAUD and _is_proof(one)]
    ran = [one for one in (first, *audits) if one is not None and one.kind in (_VALID, _FRAUD)]
    outcomes = {one.outcome for one in story.disputes}
    proof: VerdictRow | AuditRow | None = next(iter([*right, *false]), None)
    return Proofs(
        right=bool(right),
        false=bool(false),
        ruled_false=DisputeOutcome.CHALLENGER in outcomes,
        cleared=DisputeOutcome.PROVIDER in outcomes,
        ran=bool(ran),
        watched=_watched(first, reproduced),
        input_seen=ran[0].time if ran else None,
        output_seen=right[0].time if right else None,
        reason="" if first is None else first.detail,
        doubt=_doubt(first, second),
        computed=_computed(proof),
        substituted=_substituted(first, audits),
    )


def part_of(reason: str) -> str:
    """The part that an UNAVAILABLE names; the reason's first word otherwise."""
    return reason.partition(":")[0]


def roots_of(row: CommitmentRow | DisputeRow) -> dict[str, bytes]:
    return {"output_root": row.output_root, "state_root": row.state_root}


def when_of(event: Happened | None) -> When:
    return When() if event is None else When(event.time, event.block, event.tx_hash)


def _is_proof(one: VerdictRow | AuditRow) -> bool:
    """An audit's fraud may lack the second backend; a confirmation is one."""
    return bool(one.confirmed) if isinstance(one, AuditRow) else one.fresh


def _watched(first: VerdictRow | None, reproduced: VerdictRow | None) -> VerdictKind | None:
    if first is not None and first.kind == _VALID:
        return VerdictKind.VALID
    return None if reproduced is None else VerdictKind.FRAUD


def _doubt(first: VerdictRow | None, second: VerdictRow | None) -> str:
    if first is None:
        return "no replay has judged it"
    if first.kind == _FRAUD:
        against = "" if second is None else f": it says {second.kind}"
        return f"one replay says FRAUD, and no second backend has reproduced it{against}"
    return f"the replay came to no result: {first.kind} {first.detail}".rstrip()


def _substituted(first: VerdictRow | None, audits: Iterable[AuditRow]) -> dict[Part, tuple[Substitution, UnixTime]]:
    found: dict[Part, tuple[Substitution, UnixTime]] = {}
    for one in (first, *audits):
        told = None if one is None or one.kind != VerdictKind.UNAVAILABLE else Substitution.read(one.detail)
        if one is not None and told is not None:
            found.setdefault(told[0], (told[1], UnixTime(one.time)))
    return found


def _computed(proof: VerdictRow | AuditRow | None) -> dict[str, bytes]:
    if proof is None or proof.output_root is None or proof.state_root is None:
        return {}
    return {"output_root": proof.output_root, "state_root": proof.state_root}
