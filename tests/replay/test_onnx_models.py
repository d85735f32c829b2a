"""Whole models, as exporters write them, against onnxruntime: close to it, and the same bits on both backends."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, MinMaxScaler, Normalizer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from replay.errors import UnsupportedOperator
from replay.importers.manifest import ModelFiles
from replay.importers.onnx import import_onnx
from replay.run import execute, load_backend, prepare_with

PIXELS, DIGITS = load_digits(return_X_y=True)
PIXELS = (PIXELS / 16).astype(np.float32)
THREES = (DIGITS == 3).astype(np.int64)
LOGISTIC = LogisticRegression(max_iter=60, tol=1e-2)

CLASSIFIERS = {
    "logistic regression": (LOGISTIC, DIGITS),
    "two classes": (LOGISTIC, THREES),
    "scaled": (make_pipeline(StandardScaler(), LOGISTIC), DIGITS),
    "normalised": (make_pipeline(Normalizer(), MinMaxScaler(), LOGISTIC), DIGITS),
    "binarised": (make_pipeline(Binarizer(threshold=0.5), LOGISTIC), DIGITS),
    "principal components": (make_pipeline(PCA(10, random_state=0), LOGISTIC), DIGITS),
    "one against the rest": (SGDClassifier(loss="log_loss", random_state=0), DIGITS),
    "naive bayes": (GaussianNB(), DIGITS),
    "network": (MLPClassifier((16,), max_iter=30, tol=1.0, n_iter_no_change=30, random_state=0), DIGITS),
    "network, two classes": (MLPClassifier((8,), max_iter=20, tol=1.0, n_iter_no_change=30, random_state=0), THREES),
    "tree": (DecisionTreeClassifier(max_depth=8, random_state=0), DIGITS),
    "tree, two classes": (DecisionTreeClassifier(max_depth=5, random_state=0), THREES),
    "forest": (RandomForestClassifier(20, max_depth=8, random_state=0), DIGITS),
    "forest, two classes": (RandomForestClassifier(10, max_depth=5, random_state=0), THREES),
    "boosting": (GradientBoostingClassifier(n_estimators=6, random_state=0), DIGITS),
    "boosting, two classes": (GradientBoostingClassifier(n_estimators=8, random_state=0), THREES),
    "adaptive boosting": (AdaBoostClassifier(n_estimators=5, random_state=0), DIGITS),
}
REGRESSORS = {
    "linear": Ridge(),
    "scaled": make_pipeline(StandardScaler(), Ridge()),
    "forest": RandomForestRegressor(9, max_depth=6, random_state=0),
    "boosting": GradientBoostingRegressor(n_estimators=9, random_state=0),
}


def load(data):
    return import_onnx(ModelFiles("onnx", {"model.onnx": bytearray(data)}, {}))


def both(data, inputs):
    """Outputs on NumPy and torch, the same bits, and onnxruntime's."""
    model = load(data)
    runs = [execute(prepare_with(load_backend(name), model), inputs) for name in ("numpy", "torch")]
    assert [run.nonfinite for run in runs] == [None, None]
    ours, other = (list(run.outputs.values()) for run in runs)
    assert [array.tobytes() for array in ours] == [array.tobytes() for array in other]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    theirs = onnxruntime.InferenceSession(data, options).run(None, inputs)
    for mine, array in zip(ours, theirs, strict=True):
        assert mine.dtype == array.dtype
        assert mine.shape == array.shape
    return ours, theirs


def exported(estimator, target):
    estimator.fit(PIXELS[:500], target[:500])
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    options = {id(last): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    return to_onnx(estimator, PIXELS[:1], options=options, target_opset=18).SerializeToString()


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.filterwarnings("ignore")
def test_classifiers(name):
    data = exported(*CLASSIFIERS[name])
    (labels, scores), (wanted, probabilities) = both(data, {"X": PIXELS[500:700]})
    assert labels.dtype == np.int64
    assert (labels == wanted).all()
    assert np.abs(scores - probabilities).max() < 1e-5


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name):
    (got,), (wanted,) = both(exported(REGRESSORS[name], DIGITS.astype(float)), {"X": PIXELS[500:700]})
    assert np.abs(got - wanted).max() < 5e-5


def test_one_row_is_the_same_alone():
    model = load(exported(*CLASSIFIERS["forest"]))
    prepared = prepare_with(load_backend("numpy"), model)
    whole = execute(prepared, {"X": PIXELS[:5]}).outputs["probabilities"]
    alone = [execute(prepared, {"X": PIXELS[i : i + 1]}).outputs["probabilities"] for i in range(5)]
    assert whole.tobytes() == b"".join(row.tobytes() for row in alone)
    assert model.program.operators[0].kind == "tree_leaves"


@pytest.mark.filterwarnings("ignore")
def test_maps_and_vector_machines_are_refused_with_advice():
    model = DecisionTreeClassifier(max_depth=2).fit(PIXELS[:100], DIGITS[:100])
    with pytest.raises(UnsupportedOperator, match="zipmap=False"):
        load(to_onnx(model, PIXELS[:1], target_opset=18).SerializeToString())
    with pytest.raises(UnsupportedOperator, match="SVMClassifier"):
        load(exported(SVC(), DIGITS))


# ---- networks ----------------------------------------------------------------------------------------------------------


def network(nodes, weights, inputs, outputs):
    random = np.random.default_rng(5)
    constants = [
        numpy_helper.from_array(
            given if isinstance(given, np.ndarray) else (random.standard_normal(given) * 0.3).astype(np.float32), name
        )
        for name, given in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def node(kind, inputs, *outputs, **attributes):
    return helper.make_node(kind, inputs.split(), list(outputs), **attributes)


def test_a_convolutional_network():
    weights = {
        "w1": (8, 1, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "w3": (12, 4, 3, 3), "b3": (12,), "w4": (10, 12), "b4": (10,),
        "scale": (8,), "shift": (8,), "mean": (8,), "spread": np.linspace(0.5, 2, 8, dtype=np.float32),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a scale shift mean spread", "n"),
        node("Relu", "n", "r"),
        node("Conv", "r w2", "d", group=8, auto_pad="SAME_UPPER", strides=[2, 2]),  # depthwise
        node("MaxPool", "d", "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        node("Add", "d p", "s"),
        node("Conv", "s w3 b3", "c", group=2, dilations=[2, 2], pads=[2, 2, 2, 2]),
        node("HardSwish", "c", "h"),
        node("GlobalAveragePool", "h", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w4 b4", "l", transB=1),
        node("Softmax", "l", "y"),
    ]
    data = network(nodes, weights, {"x": ["N", 1, 8, 8]}, {"y": ["N", 10]})
    (got,), (wanted,) = both(data, {"x": PIXELS[:40].reshape(40, 1, 8, 8)})
    assert np.abs(got - wanted).max() < 2e-6


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_recurrent_network(kind):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    weights = {"w": (2, gates * 6, 8), "r": (2, gates * 6, 6), "b": (2, gates * 12), "v": (12, 10)}
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node(kind, "t w r b", "all", "last", direction="bidirectional", hidden_size=6),
        node("Transpose", "last", "turned", perm=[1, 0, 2]),
        node("Flatten", "turned", "f"),
        node("MatMul", "f v", "y"),
    ]
    outputs = {"y": ["N", 10], "all": [8, 2, "N", 6]}
    (got, states), (wanted, theirs) = both(
        network(nodes, weights, {"x": ["N", 8, 8]}, outputs), {"x": PIXELS[:30].reshape(30, 8, 8)}
    )
    assert np.abs(got - wanted).max() < 2e-6
    assert np.abs(states - theirs).max() < 1e-6


def test_a_transformer_block():
    weights = {
        "wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wo": (16, 16), "g": (16,), "b": (16,), "u": (16, 32), "d": (32, 16),
        "heads": np.array([0, 8, 4, 4]), "back": np.array([0, 8, 16]), "scale": np.array(0.5, np.float32),
        "mask": np.triu(np.full((8, 8), -1e9, np.float32), 1),
    }  # fmt: skip
    nodes = [
        node("Concat", "x x", "xx", axis=2),
        *(
            step
            for name in "qkv"
            for step in (
                node("MatMul", f"xx w{name}", f"{name}0"),
                node("Reshape", f"{name}0 heads", f"{name}1"),
                node("Transpose", f"{name}1", name, perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
            )
        ),
        node("MatMul", "q k", "s0"),
        node("Mul", "s0 scale", "s1"),
        node("Add", "s1 mask", "s2"),
        node("Softmax", "s2", "p"),
        node("MatMul", "p v", "m0"),
        node("Transpose", "m0", "m1", perm=[0, 2, 1, 3]),
        node("Reshape", "m1 back", "m2"),
        node("MatMul", "m2 wo", "m3"),
        node("Add", "m3 xx", "a"),
        node("LayerNormalization", "a g b", "n"),
        node("MatMul", "n u", "h0"),
        node("Erf", "h0", "h1"),
        node("MatMul", "h1 d", "h2"),
        node("Add", "h2 n", "y"),
    ]
    data = network(nodes, weights, {"x": ["N", 8, 8]}, {"y": ["N", 8, 16]})
    (got,), (wanted,) = both(data, {"x": PIXELS[:20].reshape(20, 8, 8)})
    assert np.abs(got - wanted).max() < 1e-5
