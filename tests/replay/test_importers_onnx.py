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
from replay.run import execute as run_prepared
from replay.run import load_backend, prepare_with

RANDOM = np.random.default_rng(11)
W = RANDOM.standard_normal((6, 4)).astype(np.float32)
ROW = RANDOM.standard_normal(4).astype(np.float32)
X = RANDOM.standard_normal((3, 6)).astype(np.float32)


def graph(nodes, constants=None, shape=("N", 6), outputs=("y",), opset=21, code=TensorProto.FLOAT, inputs=None):
    """``inputs``: (name, element type, shape) each, in place of the one x."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*one) for one in inputs or [("x", code, shape)]],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def execute(model, inputs, backend="numpy"):
    return run_prepared(prepare_with(load_backend(backend), model), inputs)


def load(model, bound=None):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return import_onnx(ModelFiles("onnx", {"model.onnx": bytearray(data)}, {}), bound)


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
    "shape arithmetic": (
        [
            node("Shape", "x", out="s"), node("Gather", "s", "zero", out="b"), node("Unsqueeze", "b", "axis", out="u"),
            node("Concat", "u", "rest", out="t", axis=0), node("Reshape", "x", "t", out="r"), node("Softmax", "r"),
        ],
        {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([2, 3])},
    ),
    "shape kept by ones": (
        [
            node("Shape", "x", out="s"), node("Mul", "s", "one", out="t"), node("Equal", "t", "minus", out="e"),
            node("Where", "e", "s", "t", out="w"), node("Expand", "row", "w"), node("Add", "x", "y", out="z"),
        ],
        {"one": np.array([1, 1]), "minus": np.array([-1, -1]), "row": W[:, 0].copy()},
        ("z",),
    ),
    "shape slice": (
        [
            node("Shape", "x", out="s"), node("Slice", "s", "from", "to", out="b"), node("Concat", "b", "rest", out="t", axis=0),
            node("ConstantOfShape", "t", out="c", value=numpy_helper.from_array(np.array([2], np.float32))),
            node("Concat", "x", "c", axis=1),
        ],
        {"from": np.array([0]), "to": np.array([1]), "rest": np.array([2])},
    ),
    "erf": ([node("Erf", "x")], {}),
    "softmax first axis": ([node("Transpose", "x", out="t"), node("Softmax", "t", axis=0)], {}),
    "gemm alpha": ([node("Gemm", "x", "w", "b", alpha=0.5, beta=2.0)], {"w": W, "b": ROW}),
    "constant left": ([node("Sub", "c", "x")], {"c": ROW[:1].copy()}),
    "self product": ([node("Transpose", "x", out="t"), node("MatMul", "t", "x", out="p"), node("Relu", "p")], {}, ("y",), (3, 6)),
    "argmax last": ([node("ArgMax", "x", axis=1, select_last_index=1)], {}),
    "reduce open": ([node("ReduceMean", "x", "a", keepdims=0)], {"a": np.array([0])}),
    "reduce row": ([node("ReduceSumSquare", "x", "a")], {"a": np.array([1])}),
    "split": ([helper.make_node("Split", ["x", "p"], ["a", "b"], axis=1), node("Mul", "a", "b")], {"p": np.array([3, 3])}),
    "concat": ([node("Concat", "x", "x", axis=1)], {}),
    "pad": ([node("Pad", "x", "p", "v")], {"p": np.array([0, 1, 0, 2]), "v": np.array(0.5, np.float32)}),
    "slice back": ([node("Slice", "x", "s", "e", "a", "t")],
                   {"s": np.array([-1]), "e": np.array([-(2**63)]), "a": np.array([1]), "t": np.array([-2])}),
    "clip": ([node("Clip", "x", "l")], {"l": np.array(-0.25, np.float32)}),
    "clip infinite": ([node("Clip", "x", "l", "h")], {"l": np.array(-np.inf, np.float32), "h": np.array(0.5, np.float32)}),
    "einsum": ([node("Einsum", "x", "w", equation="nk,kj->jn")], {"w": W}),
    "einsum implied": ([node("Einsum", "x", "x", equation="...i,...i")], {}),
    "top": ([helper.make_node("TopK", ["x", "k"], ["y", "i"])], {"k": np.array([3])}),
    "gather negative": ([node("Gather", "x", "i", axis=1)], {"i": np.array([[-1, 0], [2, 2]])}),
    "constant outputs": ([node("Sqrt", "c", out="y"), node("Add", "x", "y", out="z")], {"c": ROW[:1] ** 2}, ("y", "z")),
    "dead code": ([node("Erf", "x", out="unused"), node("Relu", "x")], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SUPPORTED)
def test_each_supported_node_agrees_with_the_reference(name):
    nodes, constants, *more = SUPPORTED[name]
    outputs, shape = (*more, *(("y",), ("N", 6))[len(more) :])
    model = graph(nodes, constants, shape, outputs)
    wanted = ReferenceEvaluator(model).run(None, {"x": X})
    runs = [execute(load(model), {"x": X}, backend).outputs for backend in ("torch", "numpy")]
    for one, other, array in zip(*(run.values() for run in runs), wanted, strict=True):
        assert one.tobytes() == other.tobytes()
        assert one.shape == array.shape
        assert one.dtype == array.dtype
        assert np.abs(one - array).max() < 5e-6


def test_matmul_and_add_are_one_operator():
    nodes, constants, *_ = SUPPORTED["matmul+add"]
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
    assert [op.kind for op in load(graph(nodes, constants)).program.operators] == ["argmax", "take"]
    assert run.outputs["y"].dtype == np.int64
    assert run.outputs["y"].tolist() == constants["t"][X.argmax(1)].tolist()


def subgraph(depth):
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "t", [], [])
    for _ in range(depth):
        inner = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body) if depth < 12 else None
        body = helper.make_graph([inner or helper.make_node("If", ["x"], ["y"], then_branch=body)], "t", [], [])
    return helper.make_node("If", ["x"], ["y"], then_branch=body)


REFUSED = {
    "unknown": ([node("Gremlin", "x")], {}, "Gremlin"),
    "other domain": ([node("Relu", "x", domain="com.acme")], {}, "Relu"),
    "zipmap": ([node("ZipMap", "x", domain="ai.onnx.ml", classlabels_int64s=[1])], {}, "ZipMap"),
    "vector machine": ([node("SVMRegressor", "x", domain="ai.onnx.ml")], {}, "SVMRegressor"),
    "random": ([node("RandomNormalLike", "x")], {}, "RandomNormalLike"),
    "shape by values": ([node("NonZero", "x")], {}, "NonZero"),
    "subgraph": ([subgraph(0)], {}, "If"),
    "nested subgraphs": ([subgraph(8)], {}, "If"),
    "gemm wide c": ([node("Gemm", "x", "w", "c")], {"w": W, "c": np.ones((3, 4), np.float32)}, "Gemm"),
    "cast half": ([node("Cast", "x", to=TensorProto.FLOAT16)], {}, "Cast"),
    "broadcast": ([node("Add", "x", "c")], {"c": np.ones((3, 1), np.float32)}, "Add"),
    "integers": ([node("Add", "x", "c")], {"c": np.ones(6, np.int64)}, "Add"),
    "reshape": ([node("Reshape", "x", "s")], {"s": np.array([7, 2])}, "Reshape"),
    "reshape joins the batch": ([node("Reshape", "x", "s")], {"s": np.array([-1])}, "Reshape"),
    "reshape twice open": ([node("Reshape", "x", "s")], {"s": np.array([-1, -1])}, "Reshape"),
    "reshape by an input": ([node("Cast", "x", out="i", to=7), node("Reshape", "x", "i")], {}, "Reshape"),
    "batch as a number": ([node("Shape", "x", out="s"), node("Add", "s", "s", out="d"), node("Expand", "x", "d")], {}, "Add"),
    "batch cast": ([node("Shape", "x", out="s"), node("Cast", "s", out="d", to=1), node("Add", "d", "x")], {}, "Cast"),
    "part of the batch": ([node("Slice", "x", "s", "e")], {"s": np.array([0]), "e": np.array([2])}, "Slice"),
    "concat batches": ([node("Concat", "x", "x", axis=0)], {}, "Concat"),
    "matmul shape": ([node("MatMul", "x", "w")], {"w": W.T.copy()}, "MatMul"),
    "two outputs": ([helper.make_node("Relu", ["x"], ["y", "z"])], {}, "Relu", ("y", "z")),
    "unknown attribute": ([node("Relu", "x", alpha=1.0)], {}, "Relu"),
    "unknown input": ([node("Relu", "x", "x")], {}, "Relu"),
    "gelu": ([node("Gelu", "x", approximate="fast")], {}, "Gelu"),
    "softmax of integers": ([node("ArgMax", "x", out="i"), node("Softmax", "i")], {}, "Softmax"),
    "no elements": ([node("Slice", "x", "s", "s", "a")], {"s": np.array([2]), "a": np.array([1])}, "Slice"),
    "float remainder": ([node("Mod", "x", "x", fmod=1)], {}, "Mod"),
    "training": ([node("Dropout", "x", "r", "t")], {"r": np.array(0.5, np.float32), "t": np.array(True)}, "Dropout"),
    "division of constants": ([node("Div", "a", "b", out="c"), node("Gather", "x", "c", axis=1)],
                              {"a": np.array(1), "b": np.array(0)}, "Div"),
    "index outside": ([node("Gather", "x", "i", axis=1)], {"i": np.array(6)}, "Gather"),
    "huge tile": ([node("Tile", "x", "r")], {"r": np.array([1, 2**40])}, "Tile"),
    "huge expand": ([node("Expand", "x", "s")], {"s": np.array([2**30, 2**30, 1, 6])}, "Expand"),
    "strings": ([node("Constant", out="c", value_string="a"), node("Add", "x", "c")], {}, "Constant"),
    "linear labels": ([node("LinearClassifier", "x", domain="ai.onnx.ml", coefficients=[0.0] * 12,
                            classlabels_strings=["a", "b"])], {}, "LinearClassifier"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name(name):
    nodes, constants, operator, *outputs = REFUSED[name]
    with pytest.raises(UnsupportedOperator, match=operator) as caught:
        load(graph(nodes, constants, outputs=(*outputs, ("y",))[0]))
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
    "infinite": (lambda m: setattr(m.graph.initializer[0], "raw_data", np.full(24, np.inf, np.float32).tobytes()), MalformedFile),
    "constant twice": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), MalformedFile),
    "no nodes": (lambda m: m.graph.ClearField("node"), MalformedFile),
    "no outputs": (lambda m: m.graph.ClearField("output"), MalformedFile),
    "too many nodes": (lambda m: m.graph.node.extend([node("Relu", "x", out="q")] * 5000), LimitExceeded),
    "functions": (lambda m: m.functions.add(name="f"), UnsupportedModel),
    "opset": (lambda m: setattr(m.opset_import[0], "version", 99), UnsupportedModel),
    "old opset": (lambda m: setattr(m.opset_import[0], "version", 6), UnsupportedModel),
    "two opsets": (lambda m: m.opset_import.add(domain="ai.onnx", version=9), UnsupportedModel),
    "attribute twice": (lambda m: m.graph.node[0].attribute.extend([helper.make_attribute("a", 1)] * 2), MalformedFile),
    "many attributes": (
        lambda m: m.graph.node[0].attribute.extend(helper.make_attribute(f"a{i}", 1) for i in range(99)), LimitExceeded,
    ),
    "huge attribute": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("a", [1] * 1_000_000)), UnsupportedOperator,
    ),
    "huge input": (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 10**12), MalformedFile),
    "many outputs": (lambda m: m.graph.output.extend([m.graph.output[0]] * 9), LimitExceeded),
    "large cycle": (
        lambda m: (m.graph.node[0].input.__setitem__(0, "z"), m.graph.node.append(node("Relu", "y", out="z"))), MalformedFile,
    ),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "y"), MalformedFile),
    "undefined": (lambda m: m.graph.node[0].input.__setitem__(0, "nowhere"), MalformedFile),
    "output undefined": (lambda m: setattr(m.graph.output[0], "name", "nowhere"), MalformedFile),
    "written twice": (lambda m: m.graph.node.extend([node("Relu", "x")]), MalformedFile),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_files_that_lie(name):
    change, error = SPOILT[name]
    with pytest.raises(error) as caught:
        load(spoil(change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        graph([node("Relu", "x")], code=TensorProto.DOUBLE),
        graph([node("Relu", "x")], code=TensorProto.STRING),
        graph([node("Relu", "x")], shape=("N", "M")),
        graph([node("Relu", "x")], shape=(0, 3)),
        graph([node("Relu", "x")], shape=None),
        graph([node("Relu", "x")], shape=(1,) * 7),
        graph([node("Shape", "x")]),
        graph([node("Identity", "c")], {"c": ROW}),
        graph([node("Add", "x", "c")], {"c": np.full(6, np.nan, np.float32)}),
        b"",
        b"\x00" * 40,
        b"not a model",
        b"\x0a" * 100_000,
    ],
)
def test_inputs_and_files_that_are_none(model):
    with pytest.raises((ModelRefused, ProgramError)):
        load(model)


def test_constants_that_multiply_are_refused():
    nodes, big = [node("Add", "x", "c0")], np.zeros((1024, 2048), np.float32)
    for place in range(200):
        nodes.insert(0, node("Transpose", f"c{place + 1}", out=f"c{place}"))
    with pytest.raises(LimitExceeded, match="computed constant"):
        load(graph(nodes, {"c200": big}))


def test_external_data_is_never_opened(monkeypatch):
    def opened(*_args, **_kwargs):
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr("pathlib.Path.open", opened)
    with pytest.raises(UnsupportedModel, match="external data"):
        load(spoil(external))


def test_nesting_without_end_is_refused():
    data = b"\x0a\x00"
    for _ in range(400):  # a message in a message in … the field of an attribute's graph
        body = b"\x32" + varint(len(data)) + data
        data = b"\x0a" + varint(len(body)) + body
    with pytest.raises(MalformedFile):
        load(b"\x3a" + varint(len(data)) + data)


def varint(number):
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


def test_batch_invariance():
    nodes, constants, *_ = SUPPORTED["matmul+add"]
    model = load(graph([*nodes[:1], node("Add", "p", "b", out="h"), node("Softmax", "h")], constants))
    whole = execute(model, {"x": X}).outputs["y"]
    assert whole.tobytes() == b"".join(execute(model, {"x": X[i : i + 1]}).outputs["y"].tobytes() for i in range(3))


# ---- inputs, outputs, boundaries ---------------------------------------------------------------------------------------


def test_scalars_bools_and_integers_keep_their_types():
    inputs = [("a", TensorProto.INT64, ()), ("b", TensorProto.BOOL, (3,)), ("c", TensorProto.INT32, (3,))]
    nodes = [
        node("Cast", "c", out="d", to=7), node("Add", "a", "d", out="e"), node("Not", "b", out="n"), node("Neg", "a", out="m"),
    ]  # fmt: skip
    model = load(graph(nodes, inputs=inputs, outputs=("e", "n", "m")))
    given = {"a": np.array([2**40]), "b": np.array([True, False, True]), "c": np.array([1, 2, 3], np.int32)}
    run = execute(model, given)
    assert [array.dtype.name for array in run.outputs.values()] == ["int64", "bool", "int64"]
    assert run.outputs["e"].tolist() == [2**40 + 1, 2**40 + 2, 2**40 + 3]
    assert run.outputs["m"].tolist() == [-(2**40)]


def test_names_that_do_not_fit_a_bundle_are_numbered():
    inputs = [
        ("x", TensorProto.FLOAT, (2,)),
        ("très/long", TensorProto.FLOAT, (2,)),
        ("v0.add", TensorProto.FLOAT, (2,)),
    ]
    nodes = [node("Add", "x", "très/long", out="s"), node("Add", "s", "v0.add", out="y" * 40)]
    program = load(graph(nodes, inputs=inputs, outputs=("y" * 40, "s"))).program
    assert [port.name for port in program.inputs] == ["x", "input1", "input2"]
    assert [result.name for result in program.outputs] == ["output0", "s"]


def test_an_input_that_nothing_reads_is_no_input():
    inputs = [("x", TensorProto.FLOAT, (2,)), ("z", TensorProto.FLOAT, (2,))]
    program = load(graph([node("Relu", "x"), node("Relu", "z", out="dead")], inputs=inputs)).program
    assert [port.name for port in program.inputs] == ["x"]
    assert [op.kind for op in program.operators] == ["relu"]


def test_an_input_may_be_an_output():
    model = load(graph([node("Relu", "x")], outputs=("y", "x")))
    run = execute(model, {"x": X})
    assert run.outputs["x"].tobytes() == X.tobytes()


def test_inputs_can_be_bound():
    inputs = [("x", TensorProto.FLOAT, ("N", 6)), ("s", TensorProto.INT64, (3,))]
    model = graph([node("Reshape", "x", "s", out="r"), node("Softmax", "r")], inputs=inputs)
    with pytest.raises(UnsupportedOperator, match="Reshape"):
        load(model)
    bound = load(model, {"s": np.array([-1, 2, 3])})
    assert execute(bound, {"x": X}).outputs["y"].shape == (3, 2, 3)
    with pytest.raises(UnsupportedModel, match="bound"):
        load(model, {"t": np.array([1])})


def test_boundaries_are_what_products_and_trees_read():
    nodes = [
        node("MatMul", "x", "w", out="a"), node("Relu", "a", out="b"), node("MatMul", "b", "v", out="c"),
        node("Transpose", "c", out="d"), node("MatMul", "d", "b", out="e"), node("MatMul", "k", "b", out="f"), node("Add", "e", "f"),
    ]  # fmt: skip
    constants = {"w": W, "v": np.eye(4, dtype=np.float32), "k": RANDOM.standard_normal((2, 4, 3)).astype(np.float32)}
    program = load(graph(nodes, constants, (3, 6))).program
    kinds = [name.split(".")[1] for name in program.boundaries]
    assert kinds == ["relu", "transpose", "transpose", "expand"]
    assert program.operators[0].inputs == ("x",)


def test_a_batch_that_would_not_fit_becomes_smaller():
    weight = RANDOM.standard_normal((2, 3, 3, 3)).astype(np.float32)
    model = load(graph([node("Conv", "x", "w", pads=[1, 1, 1, 1])], {"w": weight}, ("N", 3, 256, 256)))
    assert model.program.symbols == {"B": 1024}
    x = RANDOM.standard_normal((1, 3, 256, 256)).astype(np.float32)
    wanted = ReferenceEvaluator(graph([node("Conv", "x", "w", pads=[1, 1, 1, 1])], {"w": weight}, x.shape)).run(
        None, {"x": x}
    )
    assert np.abs(execute(model, {"x": x}, "numpy").outputs["y"] - wanted[0]).max() < 1e-5
    with pytest.raises((ModelRefused, ProgramError)):
        load(graph([node("Conv", "x", "w")], {"w": weight}, ("N", 3, 2**20, 2**20)))


def test_indices_outside_are_not_finite():
    inputs = [("x", TensorProto.FLOAT, (3, 6)), ("i", TensorProto.INT64, (2, 2))]
    model = load(graph([node("GatherND", "x", "i")], inputs=inputs))
    good = execute(model, {"x": X, "i": np.array([[0, 5], [-1, -6]])})
    assert good.outputs["y"].tolist() == [X[0, 5], X[-1, 0]]
    for bad in ([[0, 6], [0, 0]], [[3, 0], [0, 0]], [[0, -7], [0, 0]]):  # (0, 6) is element 6 of the flat tensor
        assert execute(model, {"x": X, "i": np.array(bad)}).nonfinite is not None


# ---- damaged files -----------------------------------------------------------------------------------------------------


def recurrent():
    constants = {
        "w": RANDOM.standard_normal((1, 12, 2)).astype(np.float32), "r": RANDOM.standard_normal((1, 12, 3)).astype(np.float32),
        "s": np.array([-1, 3, 2]), "t": np.array([1]), "k": np.array([2]),
    }  # fmt: skip
    nodes = [
        node("Reshape", "x", "s", out="q"),
        helper.make_node("LSTM", ["q", "w", "r"], ["h"], hidden_size=3, layout=1),
        node("Squeeze", "h", "two", out="g"),
        node("ReduceMean", "g", "t", out="m", keepdims=0),
        helper.make_node("TopK", ["m", "k"], ["y", "i"]),
    ]
    return graph(nodes, {**constants, "two": np.array([2])}, outputs=("y", "i"))


def forest():
    attributes = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [2, 0, 0], "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.5, -2.5],
    }  # fmt: skip
    nodes = [node("TreeEnsembleRegressor", "x", domain="ai.onnx.ml", out="t", n_targets=1, **attributes)]
    return graph([*nodes, node("Conv", "i", "w", out="c", pads=[1, 1]), node("Add", "t", "c")], {"w": W[:, None, :3].copy()[:1]},
                 inputs=[("x", TensorProto.FLOAT, (4, 6)), ("i", TensorProto.FLOAT, (1, 1, 4))])  # fmt: skip


BASES = [
    graph(
        [node("MatMul", "x", "w", out="p"), node("Add", "p", "b", out="h"), node("Softmax", "h")], {"w": W, "b": ROW}
    ),
    recurrent(),
    forest(),
]


def test_the_bases_are_models():
    for base in BASES:
        assert len(load(base).program_root) == 32


@given(st.sampled_from([base.SerializeToString() for base in BASES]), st.data(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_a_damaged_file_is_another_model_or_refused(base, draw, cut):
    data = bytearray(base)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(data) - 1))
        data[at] ^= draw.draw(st.integers(1, 255))
    if cut:
        del data[draw.draw(st.integers(0, len(data) - 1)) :]
    try:
        model = load(bytes(data))
    except (ModelRefused, ProgramError):
        return
    assert len(model.program_root) == 32
