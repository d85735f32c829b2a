"""ONNX's own node tests: what the importer accepts is right on every backend, and docs/onnx.md says so."""

from __future__ import annotations

from collections import Counter

import onnx_conformance
import pytest

#: Fewer would be a step back.
PASSING = 810


@pytest.fixture(scope="module")
def outcomes():
    return [onnx_conformance.run(case, ("numpy", "torch")) for case in onnx_conformance.cases()]


def test_nothing_is_wrong(outcomes):
    assert [outcome for outcome in outcomes if outcome.state == "WRONG"] == []


def test_most_of_what_can_pass_does(outcomes):
    states = Counter(outcome.state for outcome in outcomes)
    assert states["passed"] >= PASSING
    assert set(states) == {"passed", "refused"}


def test_every_refusal_has_a_reason(outcomes):
    assert [outcome for outcome in outcomes if outcome.state == "refused" and not outcome.reason] == []


def test_the_page_says_what_was_measured(outcomes):
    assert onnx_conformance.PAGE.read_text(encoding="utf-8") == onnx_conformance.page(outcomes)


def test_inputs_are_bound_only_where_they_decide_a_shape():
    """Of the tests that bind inputs, none binds all of them, so that every result is computed at run time."""
    for case in onnx_conformance.cases():
        bound = onnx_conformance.bound_names(case)
        names = {value.name for value in case.model.graph.input}
        outcome = onnx_conformance.run(case) if bound and bound == names else None
        assert outcome is None or outcome.state == "refused"


def test_constants_in_place_of_inputs_change_nothing(outcomes):
    """As exported models have them: of each test that passes, all inputs but one become constants, each in turn."""
    passed = {outcome.name for outcome in outcomes if outcome.state == "passed"}
    found = Counter()
    for case in onnx_conformance.cases():
        free = {value.name for value in case.model.graph.input} - onnx_conformance.bound_names(case)
        if case.name in passed and len(free) > 1:
            for place, value in enumerate(case.model.graph.input):
                if value.name in free:
                    outcome = onnx_conformance.run(case, ("numpy",), place)
                    assert outcome.state != "WRONG", outcome
                    found[outcome.state] += 1
    assert found["passed"] > 1000
