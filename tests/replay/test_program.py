"""A program is refused for each thing that can be wrong with it, and its root changes with each thing it says."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_programs import one

from replay.errors import InputRejected, ProgramError, ReplayError
from replay.importers.build import Builder
from replay.kernels import spec
from replay.layout import merkle_root
from replay.model import Model
from replay.operators import SIGNATURES, Operator, TensorType, WeightSpec
from replay.program import Port, Program, Result, operator_json


def small() -> Model:
    builder = Builder([Port("x", TensorType("float32", ("B", 4)))], {"B": 8})
    hidden = builder.add("relu", [builder.linear("x", "l", np.ones((3, 4), np.float32), np.ones(3, np.float32))])
    return builder.model({"y": builder.add("softmax", [hidden]), "h": hidden}, [hidden])


PROGRAM = small().program


def changed(index: int, **changes: object) -> Program:
    operators = list(PROGRAM.operators)
    operators[index] = replace(operators[index], **changes)
    return replace(PROGRAM, operators=tuple(operators))


def with_attributes(**changes: object) -> Program:
    return changed(0, attributes={**PROGRAM.operators[0].attributes, **changes})


BROKEN = {
    "spec": replace(PROGRAM, spec_version=2),
    "grid": replace(PROGRAM, grid="lo"),
    "tokenizer": replace(PROGRAM, tokenizer="AB"),
    "no inputs": replace(PROGRAM, inputs=()),
    "no operators": replace(PROGRAM, operators=()),
    "no outputs": replace(PROGRAM, outputs=()),
    "symbol undeclared": replace(PROGRAM, symbols={}),
    "symbol unused": replace(PROGRAM, symbols={"B": 8, "T": 3}),
    "symbol name": replace(PROGRAM, symbols={"b": 8}),
    "symbol zero": replace(PROGRAM, symbols={"B": 0}),
    "symbol huge": replace(PROGRAM, symbols={"B": 2**40}),
    "input name": replace(PROGRAM, inputs=(replace(PROGRAM.inputs[0], name="x y"),)),
    "input twice": replace(PROGRAM, inputs=PROGRAM.inputs * 2),
    "input dtype": replace(PROGRAM, inputs=(Port("x", TensorType("float64", ("B", 4))),)),
    "input rank": replace(PROGRAM, inputs=(Port("x", TensorType("float32", ("B", 1, 1, 1, 1, 1, 4))),)),
    "input shape": replace(PROGRAM, inputs=(Port("x", TensorType("float32", ("B", 0))),)),
    "weight unused": replace(PROGRAM, weights=(*PROGRAM.weights, WeightSpec("z", "float32", (1,)))),
    "weight missing": replace(PROGRAM, weights=PROGRAM.weights[:1]),
    "weight twice": replace(PROGRAM, weights=(*PROGRAM.weights, PROGRAM.weights[0])),
    "weight name": replace(PROGRAM, weights=(*PROGRAM.weights, WeightSpec("../z", "float32", (1,)))),
    "weight form": replace(PROGRAM, weights=(replace(PROGRAM.weights[0], form="raw"), PROGRAM.weights[1])),
    "weight shape": replace(PROGRAM, weights=(replace(PROGRAM.weights[0], shape=(3, 5)), PROGRAM.weights[1])),
    "bias shape": replace(PROGRAM, weights=(PROGRAM.weights[0], replace(PROGRAM.weights[1], shape=(4,)))),
    "kind": changed(1, kind="exec"),
    "arity": changed(1, inputs=("x", "x")),
    "no arity": changed(1, inputs=()),
    "too many weights": changed(1, weights=("l.weight",)),
    "reads the future": changed(0, inputs=("v2.softmax",)),
    "reads itself": changed(1, inputs=("v1.relu",)),
    "written twice": changed(1, output="v0.linear"),
    "shadows an input": changed(1, output="x"),
    "value name": changed(2, output="a/b"),
    "extra attribute": with_attributes(more=1),
    "missing attribute": changed(0, attributes={}),
    "wrong bits": with_attributes(a_bits=21),
    "bits as text": with_attributes(a_bits="22"),
    "output unknown": replace(PROGRAM, outputs=(Result("y", "nothing"),)),
    "output is an input": replace(PROGRAM, outputs=(*PROGRAM.outputs, Result("z", "x"))),
    "output twice": replace(PROGRAM, outputs=PROGRAM.outputs * 2),
    "output name": replace(PROGRAM, outputs=(Result("nonfinite", "v2.softmax"), PROGRAM.outputs[1])),
    "dead value": replace(PROGRAM, outputs=PROGRAM.outputs[1:], boundaries=()),
    "boundary unknown": replace(PROGRAM, boundaries=("x",)),
    "boundary twice": replace(PROGRAM, boundaries=("v1.relu", "v1.relu")),
    "boundary order": replace(PROGRAM, boundaries=("v1.relu", "v0.linear")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_fault_is_refused_in_one_line(name):
    with pytest.raises(ProgramError) as caught:
        BROKEN[name].validate()
    assert "\n" not in str(caught.value)
    with pytest.raises(ProgramError):
        _ = BROKEN[name].root


def test_the_root_is_the_definition():
    leaves = [sha256(b"\x05" + operator_json(op)).digest() for op in PROGRAM.operators]
    assert PROGRAM.root == sha256(b"\x04" + sha256(PROGRAM.header()).digest() + merkle_root(leaves)).digest()
    for text in (PROGRAM.header(), *map(operator_json, PROGRAM.operators)):
        assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode() == text


@pytest.mark.parametrize(
    "other",
    [
        replace(PROGRAM, tokenizer="0" * 64),
        replace(PROGRAM, symbols={"B": 9}),
        replace(PROGRAM, boundaries=()),
        replace(PROGRAM, boundaries=("v0.linear", "v1.relu")),
        replace(PROGRAM, outputs=PROGRAM.outputs[::-1]),
        changed(2, kind="tanh"),
        changed(2, inputs=("v0.linear",)),
    ],
)
def test_whatever_a_program_says_changes_its_root(other):
    assert other.root != PROGRAM.root


def test_equal_programs_have_equal_roots():
    assert small().program.root == PROGRAM.root


class TestRules:
    """Typing rules that no built program breaks: each refused at the operator."""

    def refuse(self, match, x, build):
        with pytest.raises(ProgramError, match=match):
            one(x, build)

    def test_embedding_ids_come_from_the_input(self):
        table = np.zeros((4, 2), np.float32)
        x = np.zeros((2, 4), np.float32)
        self.refuse("input", x, lambda b: b.add("embedding", [b.add("argmax", ["x"])], [b.weight("t", table)]))

    def test_take_needs_a_table_for_every_class(self):
        x = np.zeros((2, 4), np.float32)
        short = np.zeros(3, np.int32)
        self.refuse("take", x, lambda b: b.add("take", [b.add("argmax", ["x"])], [b.weight("t", short)]))
        ids = np.zeros(3, np.int32)
        self.refuse("take", ids, lambda b: b.add("take", ["x"], [b.weight("t", short)]))

    def test_positions_are_bounded_by_their_table(self):
        builder = Builder([Port("x", TensorType("int32", ("T",)))], {"T": 5})
        with pytest.raises(ProgramError, match="rows"):
            builder.add("position_rows", ["x"], [builder.weight("t", np.zeros((4, 2), np.float32))])

    def test_attention_is_bounded(self):
        builder = Builder([Port("x", TensorType("float32", ("T", 6)))], {"T": spec.TOKENS_MAX + 1})
        with pytest.raises(ProgramError, match="tokens"):
            builder.attention("x", 1, 1, 2, causal=True)

    def test_constants_are_frozen(self):
        for name, wrong in (("inv_d", spec.f64_hex(0.3)), ("bits", 21), ("eps", "7f800000"), ("eps", "00000000")):
            builder = Builder([Port("x", TensorType("float32", (1, 4)))], {})
            value = builder.layer_norm("x", "n", np.ones(4, np.float32), np.ones(4, np.float32), 1e-5)
            model = builder.model({"y": value}, [])
            op = model.program.operators[0]
            with pytest.raises(ProgramError, match=name):
                replace(model.program, operators=(replace(op, attributes={**op.attributes, name: wrong}),)).validate()

    def test_operands_must_fit(self):
        x = np.zeros((2, 4), np.float32)
        self.refuse("broadcast", x, lambda b: b.add("add", ["x"], [b.weight("w", np.zeros(3, np.float32))]))
        self.refuse("two operands", x, lambda b: b.add("add", ["x"]))
        self.refuse("reshape", x, lambda b: b.add("reshape", ["x"], shape=(3, 3)))
        self.refuse("perm", x, lambda b: b.add("transpose", ["x"], perm=(0, 0)))
        self.refuse("cannot cast", x, lambda b: b.add("cast", ["x"], to="float64"))


@given(
    st.sampled_from(sorted(SIGNATURES)),
    st.lists(st.sampled_from(["x", "v0.linear"]), max_size=3),
    st.lists(st.sampled_from(["l.weight", "l.bias"]), max_size=3),
    st.dictionaries(
        st.sampled_from(["shape", "perm", "bits", "a_bits", "scale", "eps", "heads", "kv_heads", "head_dim", "causal"]),
        st.one_of(st.integers(-2, 40), st.text(max_size=16), st.tuples(st.sampled_from([-1, 0, 1, 4, "B", "Z"]))),
        max_size=8,
    ),
)
def test_checking_is_total(kind, inputs, weights, attributes):
    """Whatever an operator claims, it is either well-formed or refused as a ProgramError."""
    op = Operator(kind, tuple(inputs), "last", tuple(weights), attributes)
    program = replace(PROGRAM, operators=(*PROGRAM.operators, op), outputs=(*PROGRAM.outputs, Result("z", "last")))
    try:
        program.validate()
    except ProgramError:
        return
    assert len(program.root) == 32


def test_binding_symbols():
    assert PROGRAM.bind({"x": (8, 4)}) == {"B": 8}
    for shape in ((9, 4), (8, 5), (8,), (0, 4), (8, 4, 1)):
        with pytest.raises(InputRejected):
            PROGRAM.bind({"x": shape})


def test_weights_must_be_the_declared_ones():
    weights = dict(small().weights)
    for wrong in (
        {},
        {**weights, "l.bias": np.ones(4, np.float32)},
        {**weights, "l.bias": np.ones(3, np.float64)},
        {**weights, "l.bias": np.full(3, np.nan, np.float32)},
        {**weights, "l.weight": np.full((3, 4), np.inf, np.float32)},
        {**weights, "l.weight": np.full((3, 4), 2.0**100, np.float32)},
    ):
        with pytest.raises(ProgramError):
            Model(PROGRAM, wrong)


def test_errors_cross_processes():
    import pickle

    error = ProgramError("why", operator="add")
    back = pickle.loads(pickle.dumps(error))
    assert isinstance(back, ReplayError)
    assert str(back) == str(error) == "the program is not well-formed: why (operator=add)"
