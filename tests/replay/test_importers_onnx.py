"""ONNX graphs: each supported node against onnx's own reference, everything else refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from replay.errors import (
    LimitExceeded,
    MalformedFile,
    ModelRefused,
    ProgramError,
    UnsupportedModel,
    UnsupportedOperator,
)
from replay.importers.manifest import ModelFiles
from replay.importers.onnx import import_onnx
from replay.run import execute

RANDOM = np.random.default_rng(11)
W = RANDOM.standard_normal((6, 4)).astype(np.float32)
ROW = RANDOM.standard_normal(4).astype(np.float32)
X = RANDOM.standard_normal((3, 6)).astype(np.float32)


def graph(nodes, constants=None, shape=("N", 6), outputs=("y",), opset=21, code=TensorProto.FLOAT):
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", code, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def load(model):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return import_onnx(ModelFiles("onnx", {"model.onnx": bytearray(data)}, {}))


def node(kind, *inputs, out="y", domain="", **attributes):
    return helper.make_node(kind, inputs, [out], domain=domain, name=f"the {kind}", **attributes)


SUPPORTED = {
    "matmul": ([node("MatMul", "x", "w")], {"w": W}),
    "matmul+add": ([node("MatMul", "x", "w", out="p"), node("Add", "p", "b")], {"w": W, "b": ROW}),
    "add+matmul": ([node("MatMul", "x", "w", out="p"), node("Add", "b", "p")], {"w": W, "b": ROW[None]}),
    "gemm": ([node("Gemm", "x", "w", "b")], {"w": W, "b": ROW}),
    "gemm turned": ([node("Gemm", "x", "w", "b", transB=1)], {"w": np.ascontiguousarray(W.T), "b": ROW[:1]}),
    "gemm plain": ([node("Gemm", "x", "w")], {"w": W}),
    "identity": ([node("Identity", "x", out="i"), node("Relu", "i")], {}),
    "cast": ([node("Cast", "x", out="i", to=TensorProto.FLOAT), node("Tanh", "i")], {}),
    "sigmoid": ([node("Sigmoid", "x")], {}),
    "gelu": ([node("Gelu", "x")], {}),
    "gelu tanh": ([node("Gelu", "x", approximate="tanh")], {}),
    "softmax": ([node("Softmax", "x")], {}),
    "softmax axis": ([node("Softmax", "x", axis=1)], {}),
    "layer norm": ([node("LayerNormalization", "x", "g", "b")], {"g": W[:, 0].copy(), "b": W[:, 1].copy()}),
    "layer norm plain": ([node("LayerNormalization", "x", "g", epsilon=1e-3)], {"g": W[:, 0].copy()}),
    "sub": ([node("Sub", "x", "c")], {"c": W[:, 0].copy()}),
    "mul scalar": ([node("Mul", "c", "x")], {"c": np.float32(0.3).reshape(())}),
    "div": ([node("Div", "x", "c")], {"c": np.full((1, 6), 3, np.float32)}),
    "residual": ([node("Relu", "x", out="r"), node("Add", "x", "r")], {}),
    "reshape": ([node("Reshape", "x", "s", out="r"), node("Softmax", "r")], {"s": np.array([0, 2, 3])}),
    "reshape open": ([node("Reshape", "x", "s", out="r"), node("Relu", "r")], {"s": np.array([-1, 3, 2])}),
    "flatten": ([node("Reshape", "x", "s", out="r"), node("Flatten", "r", out="f"), node("Relu", "f")],
                {"s": np.array([-1, 3, 2])}),
    "transpose": ([node("Relu", "x", out="r"), node("Transpose", "r")], {}),
    "argmax": ([node("ArgMax", "x", axis=1)], {}),
    "argmax flat": ([node("ArgMax", "x", axis=-1, keepdims=0)], {}),
    "dead code": ([node("Erf", "x", out="unused"), node("Relu", "x")], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SUPPORTED)
def test_each_supported_node_agrees_with_the_reference(name):
    nodes, constants = SUPPORTED[name]
    model = graph(nodes, constants)
    wanted = ReferenceEvaluator(model).run(None, {"x": X})[0]
    for backend in ("torch", "numpy"):
        got = execute(load(model), {"x": X}, backend).outputs["y"]
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() < 3e-6


def test_matmul_and_add_are_one_operator():
    nodes, constants = SUPPORTED["matmul+add"]
    assert [op.kind for op in load(graph(nodes, constants)).program.operators] == ["linear"]
    shared = [*nodes, node("Relu", "p", out="z")]
    kinds = [op.kind for op in load(graph(shared, constants, outputs=("y", "z"))).program.operators]
    assert kinds == ["linear", "add", "relu"]


def test_labels_are_taken_from_a_table():
    nodes = [
        node("ArgMax", "x", out="i", axis=1),
        node("ArrayFeatureExtractor", "t", "i", out="l", domain="ai.onnx.ml"),
        node("Reshape", "l", "s", out="r"),
        node("Cast", "r", to=TensorProto.INT64),
    ]
    constants = {"t": np.array([10, 11, 12, 13, 14, -3]), "s": np.array([-1])}
    run = execute(load(graph(nodes, constants)), {"x": X})
    assert run.outputs["y"].dtype == np.int32
    assert run.outputs["y"].tolist() == constants["t"][X.argmax(1)].tolist()


REFUSED = {
    "unknown": ([node("Erf", "x")], {}, "Erf"),
    "other domain": ([node("Relu", "x", domain="com.acme")], {}, "Relu"),
    "ml": ([node("Scaler", "x", domain="ai.onnx.ml", scale=[1.0], offset=[0.0])], {}, "Scaler"),
    "zipmap": ([node("ZipMap", "x", domain="ai.onnx.ml", classlabels_int64s=[1])], {}, "ZipMap"),
    "subgraph": (
        [helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph([], "t", [], []))],
        {},
        "If",
    ),
    "dynamic matmul": ([node("MatMul", "x", "x")], {}, "MatMul"),
    "softmax first axis": ([node("Softmax", "x", axis=0)], {}, "Softmax"),
    "argmax last": ([node("ArgMax", "x", axis=1, select_last_index=1)], {}, "ArgMax"),
    "argmax first axis": ([node("ArgMax", "x", axis=0)], {}, "ArgMax"),
    "gemm alpha": ([node("Gemm", "x", "w", alpha=0.5)], {"w": W}, "Gemm"),
    "gemm transA": ([node("Gemm", "x", "w", transA=1)], {"w": W}, "Gemm"),
    "gemm wide c": ([node("Gemm", "x", "w", "c")], {"w": W, "c": np.ones((3, 4), np.float32)}, "Gemm"),
    "cast": ([node("Cast", "x", to=TensorProto.INT64)], {}, "Cast"),
    "cast half": ([node("Cast", "x", to=TensorProto.FLOAT16)], {}, "Cast"),
    "constant left": ([node("Sub", "c", "x")], {"c": ROW[:1]}, "Sub"),
    "broadcast": ([node("Add", "x", "c")], {"c": np.ones((3, 1), np.float32)}, "Add"),
    "too wide": ([node("Add", "x", "c")], {"c": np.ones((2, 3, 6), np.float32)}, "Add"),
    "integers": ([node("Add", "x", "c")], {"c": np.ones(6, np.int64)}, "Add"),
    "reshape": ([node("Reshape", "x", "s")], {"s": np.array([7, 2])}, "Reshape"),
    "matmul shape": ([node("MatMul", "x", "w")], {"w": W.T.copy()}, "MatMul"),
    "two outputs": ([helper.make_node("Relu", ["x"], ["y", "z"])], {}, "Relu"),
    "unknown attribute": ([node("Relu", "x", alpha=1.0)], {}, "Relu"),
    "gelu": ([node("Gelu", "x", approximate="fast")], {}, "Gelu"),
    "take floats": ([node("ArrayFeatureExtractor", "t", "x", domain="ai.onnx.ml")], {"t": np.arange(9)}, "Array"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name(name):
    nodes, constants, operator = REFUSED[name]
    with pytest.raises(UnsupportedOperator, match=operator) as caught:
        load(graph(nodes, constants))
    assert operator in caught.value.operator
    assert "\n" not in str(caught.value)


def spoil(change):
    model = graph([node("MatMul", "x", "w")], {"w": W})
    change(model)
    return model


def external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def nan(model):
    model.graph.initializer[0].raw_data = np.full(24, np.nan, np.float32).tobytes()


SPOILT = {
    "external data": (external, UnsupportedModel),
    "huge dims": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**40), MalformedFile),
    "negative dims": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -6), MalformedFile),
    "dims lie": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 7), MalformedFile),
    "doubles": (lambda m: setattr(m.graph.initializer[0], "data_type", TensorProto.DOUBLE), UnsupportedModel),
    "nan": (nan, MalformedFile),
    "constant twice": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), MalformedFile),
    "no nodes": (lambda m: m.graph.ClearField("node"), MalformedFile),
    "no outputs": (lambda m: m.graph.ClearField("output"), MalformedFile),
    "too many nodes": (lambda m: m.graph.node.extend([node("Relu", "x", out="q")] * 5000), LimitExceeded),
    "functions": (lambda m: m.functions.add(name="f"), UnsupportedModel),
    "opset": (lambda m: setattr(m.opset_import[0], "version", 99), UnsupportedModel),
    "old opset": (lambda m: setattr(m.opset_import[0], "version", 9), UnsupportedModel),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "y"), MalformedFile),
    "undefined": (lambda m: m.graph.node[0].input.__setitem__(0, "nowhere"), MalformedFile),
    "output undefined": (lambda m: setattr(m.graph.output[0], "name", "nowhere"), MalformedFile),
    "output is input": (lambda m: setattr(m.graph.output[0], "name", "x"), (MalformedFile, ProgramError)),
    "written twice": (lambda m: m.graph.node.extend([node("Relu", "x")]), MalformedFile),
    "long output": (lambda m: m.graph.node[0].output.__setitem__(0, "y" * 40), (MalformedFile, ProgramError)),
}


@pytest.mark.parametrize("name", SPOILT)
def test_files_that_lie(name):
    change, error = SPOILT[name]
    with pytest.raises(error) as caught:
        load(spoil(change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        graph([node("Relu", "x")], code=TensorProto.INT64),
        graph([node("Relu", "x")], code=TensorProto.STRING),
        graph([node("Relu", "x")], shape=("N", "M")),
        graph([node("Relu", "x")], shape=()),
        graph([node("Relu", "x")], shape=(1,) * 5),
        b"",
        b"\x00" * 40,
        b"not a model",
        b"\x0a" * 100_000,
    ],
)
def test_inputs_and_files_that_are_none(model):
    with pytest.raises((ModelRefused, ProgramError)):
        load(model)


def test_batch_invariance():
    nodes, constants = SUPPORTED["matmul+add"]
    model = load(graph([*nodes[:1], node("Add", "p", "b", out="h"), node("Softmax", "h")], constants))
    whole = execute(model, {"x": X}).outputs["y"]
    assert whole.tobytes() == b"".join(execute(model, {"x": X[i : i + 1]}).outputs["y"].tobytes() for i in range(3))


BASE = graph(
    [node("MatMul", "x", "w", out="p"), node("Add", "p", "b", out="h"), node("Softmax", "h")], {"w": W, "b": ROW}
).SerializeToString()


@given(st.integers(0, len(BASE) - 1), st.integers(1, 255), st.booleans())
@settings(max_examples=300)
def test_a_damaged_file_is_another_model_or_refused(at, flip, cut):
    data = bytearray(BASE)
    if cut:
        del data[at:]
    else:
        data[at] ^= flip
    try:
        model = load(bytes(data))
    except (ModelRefused, ProgramError):
        return
    assert len(model.program_root) == 32
