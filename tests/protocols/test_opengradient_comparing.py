"""Outputs beside ours, inputs as the engine takes them, and what the chain alone gives away: pure, as values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import At
from challenger.protocols.findings import Ground
from challenger.protocols.opengradient.checks import look
from challenger.protocols.opengradient.comparing import Outcome, Tolerance, compare
from challenger.protocols.opengradient.join import Inference
from challenger.protocols.opengradient.numbers import Number, NumberTensor, decode_tensor, encode_tensor
from challenger.protocols.opengradient.replaying import Unfit, bundle, paired
from challenger.protocols.opengradient.wire import Mode, ModelInput, ModelOutput, Request, StringTensor
from challenger.sim.opengradient.nodes import told
from replay.layout import decode_bundle

STATED = Tolerance(1e-4, 1e-3)
NODES = "0x" + "f4" * 20
_O = Outcome
floats = st.floats(-(2.0**100), 2.0**100, width=32)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("theirs", "ours", "outcome"),
    [
        ({"p": f32(0.5, -0.0)}, {"p": f32(0.5, 0.0)}, _O.EQUAL),
        ({"p": f32(0.50001)}, {"p": f32(0.5)}, _O.WITHIN),
        ({"p": f32(0.5)}, {"p": f32(0.502)}, _O.BEYOND),
        ({"p": f32(1001)}, {"p": f32(1000)}, _O.WITHIN),
        ({"p": f32(1002)}, {"p": f32(1000)}, _O.BEYOND),
        ({"p": f32(1, 2)}, {"p": f32(1, 2, 3)}, _O.BEYOND),
        ({"p": f32(1, 2).reshape(1, 2)}, {"p": f32(1, 2)}, _O.EQUAL),
        ({"p": f32(1, 2, 3, 4).reshape(2, 2)}, {"p": f32(1, 2, 3, 4)}, _O.BEYOND),
        ({"label": f32(3)}, {"label": np.array([3], np.int64)}, _O.EQUAL),
        ({"label": f32(4)}, {"label": np.array([3], np.int64)}, _O.BEYOND),
        ({"b": f32(1), "a": f32(2)}, {"a": f32(2), "b": f32(1)}, _O.EQUAL),
        ({"odd name": f32(1)}, {"output0": f32(1)}, _O.EQUAL),
        ({"q": f32(1)}, {"p": f32(1)}, _O.INCOMPARABLE),
        ({}, {"p": f32(1)}, _O.INCOMPARABLE),
        ({"p": f32(1)}, {"nonfinite": np.array([1, 2], np.int32)}, _O.INCOMPARABLE),
        ({"p": f32(1)}, {"p": f32(math.inf)}, _O.INCOMPARABLE),
    ],
)
def test_what_is_said_of_two_outputs(theirs, ours, outcome) -> None:
    assert compare(theirs, ours, STATED).outcome is outcome


def test_one_output_beyond_is_named_alone() -> None:
    found = compare({"a": f32(1), "b": f32(2)}, {"a": f32(1), "b": f32(1)}, STATED)
    assert found.beyond == "'b': 1 of 1 differ: max 1 absolute, 1 relative, 8388608 ulp"
    assert found.said.startswith("'a': all 1 equal; 'b'")


@given(st.lists(floats, min_size=1, max_size=8))
def test_whatever_an_honest_node_tells_of_our_own_output_is_equal(values: list[float]) -> None:
    """Tiny numbers too, of which the protocol cannot tell every digit: the last bit accuses nobody there."""
    ours = f32(*values)
    theirs = decode_tensor(told("p", ours))
    assert compare({"p": theirs}, {"p": ours}, Tolerance(0, 0)).outcome is _O.EQUAL


@given(floats, st.integers(1, 1000))
def test_one_step_is_seen_where_it_can_be_told(value: float, steps: int) -> None:
    ours = f32(value)
    theirs = (ours.view(np.int32) + np.int32(steps)).view(np.float32)
    if abs(value) >= 1e-9 and np.isfinite(theirs).all():
        assert compare({"p": theirs}, {"p": ours}, Tolerance(0, 0)).outcome is _O.BEYOND


def test_names_or_order() -> None:
    assert paired(["b", "a"], ["a", "b"]) == [1, 0]
    assert paired(["x", "y"], ["input0", "input1"]) == [0, 1]
    assert paired(["x"], ["input0", "b"]) is None
    assert paired(["x", "y"], ["input0", "b"]) is None
    assert paired(["a", "a"], ["a", "a"]) is None


def test_inputs_by_the_models_types() -> None:
    given = ModelInput(
        (
            NumberTensor("ids", (Number(30, 1), Number(7, 0)), (1, 2)),
            encode_tensor("x", f32(0.5, 2).reshape(2, 1)),
            NumberTensor("mask", (Number(1, 0),), (1,)),
        )
    )
    ports = [
        {"name": "x", "type": "float32[2, 1]"},
        {"name": "ids", "type": "int64[1, 2]"},
        {"name": "mask", "type": "bool[1]"},
    ]
    made = decode_bundle(bundle(given, ports))
    assert list(made) == ["x", "ids", "mask"]
    assert [array.dtype.name for array in made.values()] == ["float32", "int64", "int32"]
    assert made["ids"].tolist() == [[3, 7]]


@pytest.mark.parametrize(
    ("tensor", "kind", "why"),
    [
        (NumberTensor("x", (Number(5, 1),), (1,)), "int64", "no whole numbers"),
        (NumberTensor("x", (Number(1 << 40, 0),), (1,)), "int32", "does not fit int32"),
        (NumberTensor("x", (Number(1, 30),), (1,)), "float32", "decimals"),
        (NumberTensor("x", (Number(1, 0),), (2,)), "float32", "1 values for 2 places"),
        (NumberTensor("x", (), (0,)), "float32", "each dimension is at least 1"),
    ],
)
def test_what_is_no_input_of_the_model(tensor: NumberTensor, kind: str, why: str) -> None:
    with pytest.raises(Unfit, match=why):
        bundle(ModelInput((tensor,)), [{"name": "x", "type": f"{kind}[1]"}])


# --- from the chain alone

GIVEN = ModelInput((encode_tensor("x", f32(0.1)),))
RIGHT = ModelOutput((encode_tensor("p", f32(0.5)),))


def inference(**changes: object) -> Inference:
    asked = Request(Mode.VANILLA, "model", GIVEN)
    known = {
        "at": At(1, b"b" * 32, 2, b"t" * 32), "sender": "0x" + "05" * 20, "inference": "id", "mode": Mode.VANILLA,
        "model": "model", "asked": asked, "request": asked, "output": RIGHT,
    }  # fmt: skip
    return Inference(**(known | changes))  # type: ignore[arg-type]


def kinds(**changes: object) -> list[str]:
    return [one.kind for one in look(inference(**changes), NODES).findings]


def test_an_honest_inference_gives_nothing_away() -> None:
    looked = look(inference(), NODES)
    assert looked.findings == ()
    assert looked.outputs is not None
    assert kinds(asked=None) == kinds(request=None) == []


def test_pairs_of_one_number_are_no_substitution() -> None:
    same = Request(Mode.VANILLA, "model", ModelInput((NumberTensor("x", (Number(10, 2),), (1,)),)))
    other = Request(Mode.VANILLA, "model", ModelInput((NumberTensor("x", (Number(11, 2),), (1,)),)))
    assert kinds(request=same) == []
    assert kinds(request=other) == ["request-substituted"]
    assert kinds(request=Request(Mode.VANILLA, "model", ModelInput(GIVEN.numbers, (StringTensor("s", ()),)))) == [
        "request-substituted"
    ]


def test_every_difference_is_named() -> None:
    asked = Request(Mode.TEE, "other", ModelInput(()))
    (found,) = look(inference(asked=asked), NODES).findings
    assert (found.facts["differs"], found.facts["asked_mode"]) == ("mode and model and input", "TEE")
    assert (found.ground, found.party) == (Ground.PROOF, NODES)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (None, "no-result"),
        (ModelOutput(()), "no-result"),
        (ModelOutput((), simulated=True), "simulated-result"),
        (ModelOutput(RIGHT.numbers, simulated=True), "simulated-result"),
        (ModelOutput(RIGHT.numbers * 2), "malformed-number"),
        (ModelOutput((NumberTensor("p", (Number(1, -39),), (1,)),)), "malformed-number"),
        (ModelOutput((NumberTensor("p", (Number(1, 0),), (3,)),)), "malformed-number"),
    ],
)
def test_outputs_that_are_none(output: ModelOutput | None, kind: str) -> None:
    looked = look(inference(output=output), NODES)
    assert [one.kind for one in looked.findings] == [kind]
    assert looked.outputs is None


def test_strings_and_json_are_results_too() -> None:
    assert kinds(output=ModelOutput((), (StringTensor("label", ("cat",)),))) == []
    assert kinds(output=ModelOutput((), (), (("label", "{}"),))) == []


def test_where_no_log_would_show_an_answer_nobody_is_accused_of_silence() -> None:
    assert look(inference(output=None, told=False), NODES).findings == ()
    assert [one.kind for one in look(inference(output=None), NODES).findings] == ["no-result"]
