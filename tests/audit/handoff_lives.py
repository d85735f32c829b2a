"""Lives of a commitment as the hand-off ledger reads them: honest ones, for tests to tamper with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from hypothesis import strategies as st

from challenger.audit.hops import Role
from challenger.domain import (
    Address,
    DemandOutcome,
    DisputeOutcome,
    JobStatus,
    Part,
    State,
    VerdictKind,
    Wei,
)
from challenger.store import codec
from challenger.store.audits import AuditRow
from challenger.store.handoffs import Happened, Story, Undone
from challenger.store.rows import CommitmentRow, DemandRow, DisputeRow, ModelRow, TaskRow, VerdictRow, WorkRow

T0 = 1_700_000_000
REQUESTER, REGISTRAR, PROVIDER, CHALLENGER = (Address("0x" + f"{n}1" * 20) for n in (1, 2, 3, 4))
MARKET = "0x" + "ab" * 20
ROLES = {
    Role.REQUESTER: REQUESTER,
    Role.REGISTRAR: REGISTRAR,
    Role.PROVIDER: PROVIDER,
    Role.CHALLENGER: CHALLENGER,
}


def h(name: str) -> Any:
    return sha256(name.encode()).digest()


MODEL, TASK, JOB = h("model"), h("task"), h("job")
BEACON = h("beacon")
SEED = sha256(b"seed/1" + (7).to_bytes(32, "big") + b"\xab" * 20 + TASK + h("entropy") + BEACON).digest()


def happened(kind: str, subject: bytes | int, block: int) -> Happened:
    return Happened(
        kind, codec.subject_bytes(subject), block, 0, h(f"block {block}"), h(f"tx {block}"), T0 + 12 * block
    )


def verdict(kind: VerdictKind, detail: str = "", *, fresh: bool = False, number: int = 1) -> VerdictRow:
    judged = kind in (VerdictKind.VALID, VerdictKind.FRAUD)
    output = h("output" if kind is VerdictKind.VALID else "right output") if judged else None
    state = h("state" if kind is VerdictKind.VALID else "right state") if judged else None
    backend = "numpy" if fresh else "torch"
    return VerdictRow(number, JOB, kind.value, detail, backend, fresh, output, state, "{}", 1, T0 + 200)


def audit(kind: VerdictKind, confirmed: str = "") -> AuditRow:
    one = verdict(kind)
    roots = (one.output_root, one.state_root)
    return AuditRow(
        1, JOB, "record", 10, h("block 10"), PROVIDER, h("output"), h("state"), kind.value, "", "torch", *roots, confirmed,
        "{}", 1, T0 + 900,
    )  # fmt: skip


def demand(part: Part, outcome: DemandOutcome, number: int = 5, closed: int | None = 14) -> DemandRow:
    return DemandRow(
        number,
        12,
        0,
        h("tx 12"),
        JOB,
        CHALLENGER,
        part.value,
        0,
        Wei(1),
        T0 + 500,
        outcome.value,
        Wei(0),
        Wei(0),
        closed,
        0,
    )


def dispute(outcome: DisputeOutcome, number: int = 9) -> DisputeRow:
    roots = (h("right output"), h("right state"))
    closed = None if outcome is DisputeOutcome.OPEN else 16
    return DisputeRow(
        number,
        15,
        0,
        h("tx 15"),
        JOB,
        CHALLENGER,
        *roots,
        h("evidence"),
        Wei(1),
        T0 + 600,
        outcome.value,
        Wei(0),
        Wei(0),
        closed,
    )


@dataclass
class Life:
    """An honest commitment; a test changes what it likes."""

    input_uri: str = ""
    output_uri: str = ""
    selected: bool | None = True
    state: State = State.REPLAYED
    detail: str = ""
    status: JobStatus = JobStatus.FINAL
    lapsed: bool = False
    disabled: int | None = None
    verdict: VerdictRow | None = None
    confirmation: VerdictRow | None = None
    demands: list[DemandRow] = field(default_factory=list)
    disputes: list[DisputeRow] = field(default_factory=list)
    audits: list[AuditRow] = field(default_factory=list)
    undone: list[Undone] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)

    def story(self) -> Story:
        events = [
            happened("ModelRegistered", MODEL, 1),
            happened("TaskOpened", TASK, 5),
            happened("TaskTaken", TASK, 7),
        ]
        if self.disabled is not None:
            events.append(happened("ModelDisabled", MODEL, self.disabled))
        events.append(happened("TaskClosed", TASK, 11) if self.lapsed else happened("Committed", JOB, 10))
        for asked in self.demands:
            events.append(happened("DemandOpened", asked.demand, 12))
            events += [happened("DemandClosed", asked.demand, 14)] if asked.closed_block else []
        for one in self.disputes:
            events.append(happened("DisputeOpened", one.dispute, 15))
            events += [happened("DisputeClosed", one.dispute, 16)] if one.closed_block else []
        closed = None if self.status is JobStatus.COMMITTED else 20
        events += [happened("JobClosed", JOB, 20)] if closed and not self.lapsed else []
        model = ModelRow(
            MODEL, 1, 0, REGISTRAR, h("file"), h("artefact"), h("program"), 1, "exact", 3, 9, "https://m", h("known"),
            disabled=self.disabled is not None,
        )  # fmt: skip
        task = TaskRow(
            TASK, 5, 0, MODEL, REQUESTER, h("input"), self.input_uri, 9, h("entropy"), Wei(1), T0 + 400, PROVIDER, SEED, 7,
            "lapsed" if self.lapsed else None,
        )  # fmt: skip
        row = CommitmentRow(
            JOB, 10, 0, h("tx 10"), TASK, MODEL, PROVIDER, h("output"), h("state"), self.output_uri, 9, T0 + 120,
            T0 + 3720, self.status.value, closed,
        )  # fmt: skip
        work = WorkRow(
            JOB, self.state.value, None, 10, T0 + 120, T0 + 3720, 1, 50_000, 12, h("block 12"), b"", self.selected, "{}",
            None if self.verdict is None else 1, None if self.confirmation is None else 2, self.detail, 1, 0, T0 + 300, 1,
        )  # fmt: skip
        made = Story(
            TASK if self.lapsed else JOB,
            None if self.lapsed else row,
            task,
            model,
            tuple(sorted(events, key=lambda one: one.block)),
            tuple(self.disputes),
            tuple(self.demands),
            None if self.lapsed else work,
            self.verdict,
            self.confirmation,
            tuple(self.audits),
            undone=tuple(self.undone),
            beacon=BEACON,
            deployment=f"7/{MARKET}",
        )
        return replace(made, **self.changes)


K = VerdictKind
NO_PROOF = [
    (None, None),
    (verdict(K.VALID), None),
    (verdict(K.INCONCLUSIVE, "crashed: signal 9"), None),
    (verdict(K.INCONCLUSIVE, "model: its registered known answer is not what this machine computes"), None),
    (verdict(K.UNAVAILABLE, "input"), None),
    (verdict(K.UNAVAILABLE, "output"), None),
    (verdict(K.UNAVAILABLE, "weights: not-found"), None),
    (verdict(K.FRAUD, "output"), None),
    (verdict(K.FRAUD, "output"), verdict(K.VALID, fresh=True, number=2)),
    (verdict(K.FRAUD, "state"), verdict(K.INCONCLUSIVE, "timeout", fresh=True, number=2)),
]


@st.composite
def honest_lives(draw: st.DrawFn) -> Life:
    first, second = draw(st.sampled_from(NO_PROOF))
    selected = draw(st.sampled_from([True, False, None]))
    if not selected:
        first = second = None
    shown = st.sampled_from([DemandOutcome.OPEN, DemandOutcome.ANSWERED, DemandOutcome.MOOT])
    parts = draw(st.lists(st.sampled_from(list(Part)), unique=True, max_size=2))
    disputed = draw(st.lists(st.sampled_from([DisputeOutcome.OPEN, DisputeOutcome.MOOT]), max_size=2))
    state = draw(st.sampled_from([State.SAMPLED, State.INCONCLUSIVE, State.UNAVAILABLE])) if selected else State.SKIPPED
    return Life(
        input_uri=draw(st.sampled_from(["", "https://i"])),
        output_uri=draw(st.sampled_from(["", "https://o"])),
        selected=selected,
        state=state,
        status=draw(st.sampled_from([JobStatus.COMMITTED, JobStatus.FINAL])),
        disabled=draw(st.sampled_from([None, 15, 30])),
        verdict=first,
        confirmation=second,
        demands=[demand(part, draw(shown), 20 + n) for n, part in enumerate(parts)],
        disputes=[dispute(outcome, 30 + n) for n, outcome in enumerate(disputed)],
        audits=draw(st.sampled_from([[], [audit(K.FRAUD)], [audit(K.UNAVAILABLE)]])),
    )
