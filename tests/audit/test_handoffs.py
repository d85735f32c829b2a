"""The hand-off ledger: an honest life names nobody, and whoever lets a hop down is named at that hop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from handoff_lives import (
    CHALLENGER,
    PROVIDER,
    ROLES,
    T0,
    K,
    Life,
    audit,
    demand,
    dispute,
    h,
    honest_lives,
    verdict,
)
from hypothesis import given
from hypothesis import strategies as st

from challenger.audit.handoffs import Summary, ledger_of
from challenger.audit.hops import Certainty, Fault, Hop, Party, Role, Status, Step
from challenger.domain import (
    DemandOutcome,
    DisputeOutcome,
    Hash32,
    JobStatus,
    Part,
    State,
)
from challenger.store.handoffs import Undone
from challenger.substitution import Substitution


@given(honest_lives())
def test_an_honest_life_names_nobody(life: Life) -> None:
    ledger = ledger_of(life.story())
    assert ledger.first is None, ledger.sentence()
    assert all(hop.responsible is None for hop in ledger.hops)
    order = list(Step)
    assert [order.index(hop.step) for hop in ledger.hops] == sorted(order.index(hop.step) for hop in ledger.hops)
    assert {hop.step for hop in ledger.hops} >= set(Step) - {Step.DEMAND, Step.RULING}


def _lost(part: Part) -> Callable[[Life], None]:
    def tamper(life: Life) -> None:
        life.demands.append(demand(part, DemandOutcome.LOST))
        life.status = JobStatus.FRAUD if part in (Part.OUTPUT, Part.OPENING) else JobStatus.VOID

    return tamper


def _false(life: Life) -> None:
    life.verdict, life.confirmation = verdict(K.FRAUD, "output"), verdict(K.FRAUD, "output", fresh=True, number=2)
    life.selected, life.audits = True, []


def _replayed(life: Life) -> None:
    _false(life)
    life.changes["twin"] = life.story().commitment._replace(commitment=h("another"), state_root=h("its own"))  # type: ignore[union-attr]


def _audited_false(life: Life) -> None:
    life.verdict = life.confirmation = None
    life.audits = [audit(K.FRAUD, "numpy")]


def _ruled(life: Life) -> None:
    life.verdict = life.confirmation = None
    life.audits, life.status = [], JobStatus.FRAUD
    life.disputes.append(dispute(DisputeOutcome.CHALLENGER))


def _lapsed(life: Life) -> None:
    life.lapsed, life.disabled, life.demands, life.disputes, life.audits = True, None, [], [], []
    life.verdict = life.confirmation = None


def _revoked(life: Life) -> None:
    life.verdict = life.confirmation = None
    life.disabled, life.audits = 6, []


def _elsewhere(life: Life) -> None:
    life.verdict = life.confirmation = None
    life.audits = []
    life.changes["condemned"] = demand(Part.WEIGHTS, DemandOutcome.LOST)._replace(commitment=h("another"))


def _watcher_late(state: State) -> Callable[[Life], None]:
    def tamper(life: Life) -> None:
        life.selected, life.verdict, life.confirmation, life.state = True, None, None, state

    return tamper


def _fell_silent(life: Life) -> None:
    life.disputes.append(dispute(DisputeOutcome.EXPIRED))
    life.status = JobStatus.VOID


def _cried_wolf(life: Life) -> None:
    life.disputes.append(dispute(DisputeOutcome.PROVIDER))


def _taken_back(life: Life) -> None:
    life.status = JobStatus.COMMITTED
    life.undone = [Undone("chain-job-closed", 19, h("fork"), T0 + 300)]


def _vanished(life: Life) -> None:
    life.state = State.ORPHANED
    life.changes |= {"commitment": None, "task": None, "model": None}
    life.undone = [Undone("observed", 10, h("fork"), T0 + 120)]


def _substituted(part: Part, *, by_audit: bool = False) -> Callable[[Life], None]:
    """Other bytes lay behind the address, and nobody showed the right ones since."""

    def tamper(life: Life) -> None:
        detail = Substitution(7, h("other bytes"), "https://x/o").detail(part)
        life.input_uri, life.output_uri, life.disabled = "https://i", "https://o", None
        life.verdict = life.confirmation = None
        life.demands, life.audits, life.selected = [], [], True
        if by_audit:
            life.audits = [audit(K.UNAVAILABLE)._replace(detail=detail)]
        else:
            life.verdict = verdict(K.UNAVAILABLE, detail)

    return tamper


S, F, R, C = Step, Fault, Role, Certainty
TAMPERINGS: dict[str, tuple[Callable[[Life], None], Step, Fault, Role, Certainty]] = {
    "requester withholds the input": (_lost(Part.INPUT), S.INPUT, F.WITHHELD, R.REQUESTER, C.CHAIN),
    "registrar withholds the weights": (_lost(Part.WEIGHTS), S.MODEL, F.WITHHELD, R.REGISTRAR, C.CHAIN),
    "registrar withholds them over another": (_elsewhere, S.MODEL, F.WITHHELD, R.REGISTRAR, C.CHAIN),
    "registrar retires the model": (_revoked, S.MODEL, F.REVOKED, R.REGISTRAR, C.CHAIN),
    "provider does not answer": (_lapsed, S.COMMITMENT, F.LATE, R.PROVIDER, C.CHAIN),
    "provider answers falsely": (_false, S.INFERENCE, F.WRONG, R.PROVIDER, C.REPLAY),
    "so an audit": (_audited_false, S.INFERENCE, F.WRONG, R.PROVIDER, C.REPLAY),
    "so the adjudicator": (_ruled, S.INFERENCE, F.WRONG, R.PROVIDER, C.CHAIN),
    "provider hands in an old answer": (_replayed, S.INFERENCE, F.REPLAYED, R.PROVIDER, C.REPLAY),
    "provider withholds the output": (_lost(Part.OUTPUT), S.OUTPUT, F.WITHHELD, R.PROVIDER, C.CHAIN),
    "requester serves another input": (_substituted(Part.INPUT), S.INPUT, F.SUBSTITUTED, R.REQUESTER, C.OBSERVED),
    "registrar serves other weights": (_substituted(Part.WEIGHTS), S.MODEL, F.SUBSTITUTED, R.REGISTRAR, C.OBSERVED),
    "provider serves another output": (_substituted(Part.OUTPUT), S.OUTPUT, F.SUBSTITUTED, R.PROVIDER, C.OBSERVED),
    "so an audit saw": (_substituted(Part.OUTPUT, by_audit=True), S.OUTPUT, F.SUBSTITUTED, R.PROVIDER, C.OBSERVED),
    "provider withholds an opening": (_lost(Part.OPENING), S.OUTPUT, F.WITHHELD, R.PROVIDER, C.CHAIN),
    "watcher sheds": (_watcher_late(State.SHED), S.REPLAY, F.LATE, R.WATCHER, C.OBSERVED),
    "watcher is too late": (_watcher_late(State.EXPIRED), S.REPLAY, F.LATE, R.WATCHER, C.OBSERVED),
    "challenger accuses falsely": (_cried_wolf, S.DISPUTE, F.WRONG, R.CHALLENGER, C.CHAIN),
    "adjudicator is silent": (_fell_silent, S.RULING, F.LATE, R.ADJUDICATOR, C.CHAIN),
    "settlement taken back": (_taken_back, S.SETTLEMENT, F.REVOKED, R.CHAIN, C.OBSERVED),
    "commitment taken back": (_vanished, S.COMMITMENT, F.REVOKED, R.CHAIN, C.OBSERVED),
}


@pytest.mark.parametrize("name", TAMPERINGS)
@given(life=honest_lives())
def test_each_tampering_is_named_at_its_hop(name: str, life: Life) -> None:
    tamper, step, fault, role, certainty = TAMPERINGS[name]
    tamper(life)
    ledger = ledger_of(life.story())
    first = ledger.first
    assert first is not None, ledger.sentence()
    found = (first.step, first.fault, first.responsible, first.certainty)
    assert found == (step, fault, Party(role, ROLES.get(role, "")), certainty)
    assert ledger.sentence().endswith(certainty)
    assert ROLES.get(role, "") in ledger.sentence()
    told = json.loads(json.dumps(ledger.as_json()))
    assert told["hops"][told["first_divergence"]]["responsible"] == {"role": role.value, "address": ROLES.get(role)}


@pytest.mark.parametrize("part", [Part.INPUT, Part.WEIGHTS, Part.OUTPUT])
def test_what_lay_in_its_place_is_told_and_called_no_proof(part: Part) -> None:
    life = Life()
    _substituted(part)(life)
    hop = ledger_of(life.story()).first
    assert hop is not None
    assert hop.did == {"served_sha256": h("other bytes")}
    assert hop.should
    assert (hop.when.block, hop.when.time) == (None, T0 + 200)
    assert "7 bytes" in hop.said
    assert "https://x/o" in hop.said
    assert "proves nothing" in hop.said


@pytest.mark.parametrize("part", [Part.INPUT, Part.WEIGHTS, Part.OUTPUT])
def test_who_showed_the_right_data_substituted_none(part: Part) -> None:
    life = Life()
    _substituted(part)(life)
    life.audits = [audit(K.VALID)]
    assert ledger_of(life.story()).first is None
    if part is not Part.WEIGHTS:
        life.audits, life.demands = [], [demand(part, DemandOutcome.ANSWERED)]
        assert ledger_of(life.story()).first is None


@pytest.mark.parametrize("part", [Part.INPUT, Part.WEIGHTS, Part.OUTPUT])
def test_a_demand_that_was_lost_outranks_what_we_alone_saw(part: Part) -> None:
    life = Life()
    _substituted(part)(life)
    _lost(part)(life)
    first = ledger_of(life.story()).first
    assert first is not None
    assert (first.fault, first.certainty) == (F.WITHHELD, C.CHAIN)
    assert "other bytes" in first.said
    assert first.did == {"served_sha256": h("other bytes")}


@given(
    st.text(),
    st.sampled_from([Part.INPUT, Part.WEIGHTS, Part.OUTPUT]),
    st.integers(0, 2**63),
    st.binary(min_size=32, max_size=32),
)
def test_a_detail_is_read_as_it_was_written(where: str, part: Part, size: int, digest: bytes) -> None:
    told = Substitution(size, Hash32(digest), where)
    assert Substitution.read(told.detail(part)) == (part, told)
    assert told.detail(part).partition(":")[0] == part.value
    for other in (where, f"{part.value}: {told}", f"weights: the artefact is not to be had: {told.detail(part)}"):
        assert Substitution.read(other) is None


def test_a_fraud_that_was_proved_and_not_filed_in_time() -> None:
    life = Life(state=State.EXPIRED, detail="window: it closed before the filing landed")
    _false(life)
    ledger = ledger_of(life.story())
    diverged = [(hop.step, hop.fault, hop.holder.role) for hop in ledger.hops if hop.status is Status.DIVERGED]
    assert diverged == [(S.INFERENCE, F.WRONG, R.PROVIDER), (S.DISPUTE, F.LATE, R.WATCHER)]
    # mode watch files nothing: that is no lateness
    life.detail = "the job is final although its fraud was confirmed here"
    ledger = ledger_of(life.story())
    assert [hop.step for hop in ledger.hops if hop.status is Status.DIVERGED] == [S.INFERENCE]


def test_an_adjudicator_that_rules_against_a_proof() -> None:
    life = Life(disputes=[dispute(DisputeOutcome.PROVIDER)])
    _false(life)
    diverged = [(hop.step, hop.fault, hop.holder.role) for hop in ledger_of(life.story()).hops if hop.fault]
    assert diverged == [(S.INFERENCE, F.WRONG, R.PROVIDER), (S.RULING, F.WRONG, R.ADJUDICATOR)]


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": verdict(K.VALID), "disputes": [dispute(DisputeOutcome.CHALLENGER)], "status": JobStatus.FRAUD},
        {"verdict": verdict(K.VALID), "audits": [audit(K.FRAUD, "numpy")]},
    ],
)
def test_proofs_that_contradict_each_other_accuse_nobody(change: dict[str, Any]) -> None:
    ledger = ledger_of(replace(Life(), **change).story())
    assert ledger.first is None, ledger.sentence()
    (inference,) = [hop for hop in ledger.hops if hop.step is S.INFERENCE]
    assert inference.status is Status.UNKNOWN
    assert "contradict" in inference.said or "one of them is wrong" in inference.said


def test_what_the_contract_does_not_let_happen_is_the_records_fault() -> None:
    story = Life().story()
    assert story.task is not None
    for task in (
        story.task._replace(provider=CHALLENGER),
        story.task._replace(deadline=T0),
        story.task._replace(model=h("another")),
        story.task._replace(seed=h("another")),
    ):
        ledger = ledger_of(replace(story, task=task))
        assert ledger.first is None
        assert any("the record is wrong" in hop.said for hop in ledger.hops), task
    ledger = ledger_of(replace(story, commitment=story.commitment._replace(status="void")))  # type: ignore[union-attr]
    assert ledger.hops[-1].status is Status.UNKNOWN


def test_digests_stand_beside_each_other() -> None:
    life = Life()
    _false(life)
    (inference,) = [hop for hop in ledger_of(life.story()).hops if hop.step is S.INFERENCE]
    assert inference.should == {"output_root": h("right output"), "state_root": h("right state")}
    assert inference.did == {"output_root": h("output"), "state_root": h("state")}
    assert (inference.when.block, inference.when.tx, inference.when.time) == (10, h("tx 10"), T0 + 120)


def test_nobody_is_accused_without_a_certainty() -> None:
    accused = Party(Role.PROVIDER, PROVIDER)
    for more in (
        {"status": Status.DIVERGED},
        {"status": Status.DIVERGED, "fault": F.WRONG, "responsible": accused},
        {"status": Status.UNKNOWN, "fault": F.WRONG, "responsible": accused, "certainty": C.CHAIN},
        {"status": Status.HELD, "responsible": accused},
    ):
        with pytest.raises(ValueError, match="a fault has a party and a certainty"):
            Hop(S.INFERENCE, accused, said="", **more)  # type: ignore[arg-type]


def test_the_summary_counts_by_party_and_fault() -> None:
    summary = Summary()
    for name in ("provider answers falsely", "provider answers falsely", "provider withholds the output"):
        life = Life(output_uri="https://o")
        TAMPERINGS[name][0](life)
        summary.add(ledger_of(life.story()))
    summary.add(ledger_of(Life(verdict=verdict(K.VALID)).story()))
    told = summary.as_json()
    assert (told["ledgers"], told["diverged"]) == (4, 3)
    assert [(one["fault"], one["count"], one["first"]) for one in told["faults"]] == [
        ("wrong", 2, 2),
        ("withheld", 1, 1),
    ]
    assert told["hops"]["inference"] == {"held": 1, "diverged": 2, "unknown": 1, "idle": 0}
