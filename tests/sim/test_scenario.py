"""The plan is pure: the same for the same knobs, and it says of every commitment what it is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.sim.scenario import CHEATS, DIGITS, MODELS, Kind, Knobs, plan
from challenger.sim.sentences import SENTENCES

knobs = st.builds(
    Knobs,
    tasks=st.integers(1, 120),
    seed=st.integers(0, 2**32),
    cheating=st.integers(0, 100),
    sentences=st.integers(0, 50),
    texts=st.integers(0, 50),
    by_uri=st.integers(0, 100),
    round_size=st.integers(1, 30),
    cheats=st.lists(st.sampled_from(CHEATS), unique=True).map(tuple),
    models=st.sampled_from([MODELS, (DIGITS,)]),
)


@given(knobs)
def test_a_plan_is_determined_by_its_knobs_and_consistent(chosen: Knobs) -> None:
    scenario = plan(chosen)
    assert scenario == plan(chosen)
    assert [task.index for task in scenario.tasks] == list(range(chosen.tasks))
    assert [task for tasks in scenario.rounds for task in tasks] == list(scenario.tasks)
    assert all(len(tasks) <= chosen.round_size for tasks in scenario.rounds)
    for task in scenario.tasks:
        assert task.kind is (task.provider.kind if task.cheats else Kind.HONEST)
        assert not (task.cheats and task.provider.kind is Kind.HONEST)
        if task.kind is Kind.WITHHOLD:
            assert task.output_by_uri
        assert (task.copy_of is not None) == (task.kind is Kind.COPY)
        if task.copy_of is not None:
            other = scenario.tasks[task.copy_of]
            assert (other.model, other.cheats) == (task.model, False)
            assert other.index < task.index
    for model in chosen.models:
        samples = [task.sample for task in scenario.tasks if task.model == model]
        assert samples == list(range(len(samples)))


@given(knobs)
def test_no_cheat_exceeds_its_share_by_more_than_one(chosen: Knobs) -> None:
    served, false = Counter(), Counter()
    for task in plan(chosen).tasks:
        served[task.provider.name] += 1
        false[task.provider.name] += task.cheats
    for name, count in false.items():
        assert count <= served[name] * chosen.cheating / 100 + 1


def test_the_demonstration_shows_what_it_promises() -> None:
    scenario = plan(Knobs())
    assert len(scenario.tasks) >= 60
    kinds = Counter(provider.kind for provider in scenario.providers)
    assert kinds.pop(Kind.HONEST) == 4
    assert kinds == dict.fromkeys(CHEATS, 1)
    lies = Counter(task.kind for task in scenario.tasks if task.cheats)
    assert all(lies[kind] >= 2 for kind in CHEATS)
    assert {task.model for task in scenario.tasks} == set(MODELS)
    assert {True, False} == {t.input_by_uri for t in scenario.tasks} == {t.output_by_uri for t in scenario.tasks}


def test_sentences_are_many_and_distinct() -> None:
    assert len(set(SENTENCES)) == len(SENTENCES) >= 30


def test_knobs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one task"):
        Knobs(tasks=0)
    with pytest.raises(ValueError, match="percentage"):
        Knobs(cheating=101)
