"""Operators of ai.onnx.ml against onnxruntime: the same numbers, or a refusal where its answer is its own."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from replay.errors import UnsupportedOperator
from replay.importers.manifest import ModelFiles
from replay.importers.onnx import import_onnx
from replay.run import execute, load_backend, prepare_with

RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((40, 4)).astype(np.float32)
X[2] = 0
X[3] = -np.abs(X[3])
IDS = np.array([[1, 2], [3, 9]])
WEIGHTS = RANDOM.standard_normal(12).tolist()

#: Two trees over four features; leaves are (tree, node).
NODES = {
    "nodes_treeids": [0] * 5 + [1] * 3,
    "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
    "nodes_featureids": [0, 1, 0, 0, 0, 2, 0, 0],
    "nodes_values": [0.1, -0.2, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0],
    "nodes_modes": ["BRANCH_LEQ", "BRANCH_GT", "LEAF", "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 2, 0, 0, 0, 1, 0, 0],
    "nodes_falsenodeids": [4, 3, 0, 0, 0, 2, 0, 0],
}
LEAVES = [(0, 2), (0, 3), (0, 4), (1, 1), (1, 2)]


def model(kind, inputs, outputs, version=3, **attributes):
    node = helper.make_node(kind, list(inputs), list(outputs), domain="ai.onnx.ml", **attributes)
    types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, types[name], array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info(name, code, None) for name, code in outputs.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def load(data):
    return import_onnx(ModelFiles("onnx", {"model.onnx": bytearray(data)}, {}))


def agrees(data, inputs):
    ours = [
        list(execute(prepare_with(load_backend(b), load(data)), inputs).outputs.values()) for b in ("numpy", "torch")
    ]
    assert [array.tobytes() for array in ours[0]] == [array.tobytes() for array in ours[1]]
    for mine, theirs in zip(ours[0], onnxruntime.InferenceSession(data).run(None, inputs), strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() < 5e-6


FLOATS, LABELLED = {"y": TensorProto.FLOAT}, {"l": TensorProto.INT64, "y": TensorProto.FLOAT}
KEYS = {"keys_int64s": [1, 2, 3]}
SIMPLE = {
    "normalizer max": ("Normalizer", {"x": X}, FLOATS, {"norm": "MAX"}),
    "normalizer l1": ("Normalizer", {"x": X}, FLOATS, {"norm": "L1"}),
    "normalizer l2": ("Normalizer", {"x": X}, FLOATS, {"norm": "L2"}),
    "binarizer": ("Binarizer", {"x": X}, FLOATS, {"threshold": 0.25}),
    "scaler": ("Scaler", {"x": X}, FLOATS, {"offset": WEIGHTS[:4], "scale": WEIGHTS[4:8]}),
    "scaler of one": ("Scaler", {"x": X}, FLOATS, {"offset": [0.5], "scale": [2.0]}),
    "labels": ("LabelEncoder", {"x": IDS}, {"y": 7}, {**KEYS, "values_int64s": [10, 20, 30], "default_int64": -7}),
    "labels to floats": ("LabelEncoder", {"x": IDS}, FLOATS, {**KEYS, "values_floats": [1.5, 2.5, 3.5]}),
    "one-hot": ("OneHotEncoder", {"x": IDS}, FLOATS, {"cats_int64s": [1, 2, 3], "zeros": 1}),
    "vectorizer": ("FeatureVectorizer", {"x": X, "z": X}, FLOATS, {"inputdimensions": [4, 4]}),
    "extractor": ("ArrayFeatureExtractor", {"x": X, "i": np.array([[2, 0]])}, FLOATS, {}),
    "regressor": ("LinearRegressor", {"x": X}, FLOATS, {"coefficients": WEIGHTS[:8], "intercepts": [1.0, 2.0], "targets": 2}),
    **{
        f"classifier {how} {count}": (
            "LinearClassifier", {"x": X}, LABELLED,
            {"coefficients": WEIGHTS[: 4 * count], "intercepts": WEIGHTS[:count], "post_transform": how,
             "classlabels_ints": [5, 6, 7][:count]},
        )
        for how in ("NONE", "LOGISTIC", "SOFTMAX") for count in (2, 3)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SIMPLE)
def test_simple_operators(name):
    kind, inputs, outputs, attributes = SIMPLE[name]
    agrees(model(kind, inputs, outputs, **attributes), inputs)


@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("base", [[], [0.5]])
def test_regression_trees(how, base):
    attributes = {"base_values": base} if base else {}
    ids = {"target_treeids": [t for t, _ in LEAVES], "target_nodeids": [n for _, n in LEAVES], "target_ids": [0] * 5}
    attributes |= {**NODES, **ids, "target_weights": WEIGHTS[:5], "n_targets": 1, "aggregate_function": how}
    agrees(model("TreeEnsembleRegressor", {"x": X}, FLOATS, **attributes), {"x": X})


def ensemble(how, targets):
    """Two trees: node 0 asks feature 0 and leads to node 1 or leaf 2; node 1 to leaves 0, 1; node 2 to leaves 3, 4."""
    arrays = {
        "nodes_modes": np.array([0, 3, 1], np.uint8), "nodes_splits": np.array([0.1, -0.2, 0.3], np.float32),
        "leaf_weights": np.array(WEIGHTS[:5], np.float32),
    }  # fmt: skip
    return model(
        "TreeEnsemble",
        {"x": X},
        FLOATS,
        5,
        **{name: numpy_helper.from_array(array) for name, array in arrays.items()},
        tree_roots=[0, 2],
        nodes_featureids=[0, 1, 2],
        nodes_truenodeids=[1, 0, 3],
        nodes_trueleafs=[0, 1, 1],
        nodes_falsenodeids=[2, 1, 4],
        nodes_falseleafs=[1, 1, 1],
        leaf_targetids=targets,
        n_targets=max(targets) + 1,
        aggregate_function=how,
    )


@pytest.mark.parametrize("how", range(4))
def test_ensembles_of_version_5(how):
    agrees(ensemble(how, [0] * 5), {"x": X})
    if how < 2:
        agrees(ensemble(how, [0, 1, 0, 1, 1]), {"x": X})
    else:
        with pytest.raises(UnsupportedOperator, match="without a score"):
            load(ensemble(how, [0, 1, 0, 1, 1]))


def classifier(entries, weights, labels, how, base):
    attributes = {"class_treeids": [e[0] for e in entries], "class_nodeids": [e[1] for e in entries]}
    attributes |= {"class_ids": [e[2] for e in entries], "class_weights": weights, "classlabels_int64s": labels}
    attributes |= {"base_values": base} if base else {}
    return model("TreeEnsembleClassifier", {"x": X}, LABELLED, **NODES, **attributes, post_transform=how)


@pytest.mark.parametrize("how", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("base", [[], [0.3, 0.1, 0.2]])
def test_trees_of_three_classes(how, base):
    entries = [(0, node, one) for node, one in itertools.product((2, 3, 4), (0, 1))] + [(1, 1, 2), (1, 2, 2)]
    agrees(classifier(entries, WEIGHTS[:8], [7, 8, 9], how, base), {"x": X})


@pytest.mark.parametrize("base", [[], [0.3]])
def test_trees_of_two_classes(base):
    entries = [(*leaf, 0) for leaf in LEAVES]
    agrees(classifier(entries, WEIGHTS[:5], [7, 8], "LOGISTIC", base), {"x": X})
    agrees(classifier(entries, [abs(one) / 4 for one in WEIGHTS[:5]], [7, 8], "NONE", base), {"x": X})


@pytest.mark.parametrize(
    ("ids", "labels", "weights", "how"),
    [
        ([1] * 5, [7, 8], WEIGHTS[:5], "LOGISTIC"),
        ([0, 1, 0, 1, 1], [7, 8], WEIGHTS[:5], "NONE"),
        ([0] * 5, [7, 8], [-1.0, 1.0, 1.0, 1.0, 1.0], "NONE"),
        ([0] * 5, [7, 8], [1.0] * 5, "LOGISTIC"),
        ([0] * 5, [7, 8, 9], WEIGHTS[:5], "NONE"),
        ([0, 1, 2, 1, 1], [7, 8, 9], WEIGHTS[:5], "SOFTMAX"),
        ([0] * 5, [7, 8], [1.0] * 5, "PROBIT"),
    ],
)
def test_trees_that_implementations_read_differently_are_refused(ids, labels, weights, how):
    entries = [(*leaf, one) for leaf, one in zip(LEAVES, ids, strict=True)]
    with pytest.raises(UnsupportedOperator, match="TreeEnsembleClassifier"):
        load(classifier(entries, weights, labels, how, []))


@pytest.mark.parametrize(
    "change",
    [
        {"nodes_truenodeids": [1, 0, 0, 0, 0, 1, 0, 0]},  # a cycle
        {"nodes_truenodeids": [3, 2, 0, 0, 0, 1, 0, 0]},  # two parents
        {"nodes_truenodeids": [9, 2, 0, 0, 0, 1, 0, 0]},
        {"nodes_featureids": [4, 1, 0, 0, 0, 2, 0, 0]},
        {"nodes_nodeids": [0, 0, 2, 3, 4, 0, 1, 2]},
        {"nodes_modes": ["BRANCH_MAYBE", *NODES["nodes_modes"][1:]]},
        {"nodes_values": [0.1]},
        {"target_ids": [1] * 5},
        {"target_nodeids": [0] * 5},
    ],
)
def test_trees_that_are_none(change):
    ids = {"target_treeids": [t for t, _ in LEAVES], "target_nodeids": [n for _, n in LEAVES], "target_ids": [0] * 5}
    attributes = {**NODES, **ids, "target_weights": WEIGHTS[:5], "n_targets": 1, **change}
    with pytest.raises(UnsupportedOperator, match="TreeEnsembleRegressor"):
        load(model("TreeEnsembleRegressor", {"x": X}, FLOATS, **attributes))
