"""Operators of the domain ai.onnx.ml: linear models, scaling, encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from replay.importers.onnx_index import from_front
from replay.importers.onnx_value import Call, Rule, Value
from replay.layout import Array


def as_floats(call: Call, value: Value) -> Value:
    return call.low.cast(value, "float32")


def labels(call: Call) -> Array:
    """The class labels: integers; strings are no tensors of a program."""
    for name in ("classlabels_ints", "classlabels_int64s"):
        if call.has(name):
            return np.array(call.ints(name), np.int64)
    raise call.refuse("labels that are strings")


def transformed(call: Call, scores: Value) -> Value:
    """``post_transform`` of scores [B, classes]."""
    how = call.text("post_transform", "NONE", "LOGISTIC", "SOFTMAX")
    if how == "LOGISTIC":
        return call.low("sigmoid", scores)
    return call.low.along("softmax", scores, -1) if how == "SOFTMAX" else scores


def chosen(call: Call, scores: Value, names: Array) -> Value:
    """The label of the largest score, the first among equals."""
    place = call.low.reduce("argmax", scores, [-1], keep=False)
    table = call.low.weight(names)
    return call.low.held(call.low.apply("take", [place.name], [table]), place.shape)


def _coefficients(call: Call, value: Value, rows: int) -> tuple[Array, Array | None]:
    weight = np.array(call.floats("coefficients"), np.float32)
    length = value.size(-1)
    call.need(weight.size == rows * length, "coefficients do not fit the input")
    added = np.array(call.floats("intercepts", ()), np.float32)
    call.need(added.size in (0, rows), "intercepts do not fit")
    return weight.reshape(rows, length), added if added.size else None


def _row(call: Call) -> Value:
    value = as_floats(call, call.value())
    call.need(value.rank in (1, 2), "wants [B, features]")
    return call.low.reshape(value, (1, *value.shape)) if value.rank == 1 else value


def _linear_classifier(call: Call) -> Sequence[Value]:
    value, names = _row(call), labels(call)
    call.ignore("multi_class", "classlabels_strings")
    call.need(len(names) >= 2, "fewer than two classes")
    scores = call.low.linear(value, *_coefficients(call, value, len(names)))
    return chosen(call, scores, names), transformed(call, scores)


def _linear_regressor(call: Call) -> Value:
    value, targets = _row(call), call.whole("targets", 1)
    call.text("post_transform", "NONE")
    call.need(targets >= 1, "targets")
    return call.low.linear(value, *_coefficients(call, value, targets))


def _scaler(call: Call) -> Value:
    low, value = call.low, as_floats(call, call.value())
    offset, scale = (
        np.array(call.floats(name, (default,)), np.float32) for name, default in (("offset", 0), ("scale", 1))
    )
    for array in (offset, scale):
        call.need(array.size == 1 or array.size == value.size(-1), "one number per feature is wanted")
    return low("mul", low("sub", value, low.constant(offset)), low.constant(scale))


def _normalizer(call: Call) -> Value:
    """A row whose norm is 0 stays as it is."""
    low, value = call.low, as_floats(call, call.value())
    how = call.text("norm", "MAX", "L1", "L2")
    if how == "MAX":
        norm = low.reduce("reduce_max", value, [-1])
    elif how == "L1":
        norm = low.reduce("reduce_sum", low("abs", value), [-1])
    else:
        norm = low("sqrt", low.reduce("reduce_sum", low("mul", value, value), [-1]))
    return low("div", value, low.where(low("equal", norm, 0), low.number(1), norm))


def _binarizer(call: Call) -> Value:
    low, value = call.low, call.value()
    call.need(value.dtype == "float32", f"the type {value.dtype}")
    return low.cast(low("less", low.number(call.decimal("threshold", 0.0)), value), "float32")


def _extract(call: Call) -> Value:
    """Columns by number: a label out of a table, where the number is an argmax."""
    low, value, index = call.low, call.value(0), call.value(1)
    lead = value.shape[:-1] if value.rank > 1 else (1,)
    wide = [dim for dim in index.shape if dim != 1]
    call.need(len(wide) <= 1, "indices form one row")
    flat = low.reshape(index, wide or [1])
    table = value.array
    if (
        table is not None
        and table.size == table.shape[-1]
        and table.dtype.kind == "i"
        and low.chooses(index, table.size)
    ):
        name = low.apply("take", [index.name], [low.weight(table.reshape(-1))])
        return low.held(name, (*lead, *flat.shape))
    row = value if value.rank > 1 else low.reshape(value, (1, *value.shape))
    return low.gather(row, from_front(low, flat, value.size(-1)), row.rank - 1)


def _label_encoder(call: Call) -> Value:
    """Whole numbers to numbers; what is not among the keys becomes the default."""
    low, value = call.low, call.value()
    call.need(call.has("keys_int64s") and value.dtype == "int64", "keys that are no int64")
    keys = np.array(call.ints("keys_int64s"), np.int64)
    if call.has("values_int64s"):
        values = np.array(call.ints("values_int64s"), np.int64)
        default = low.number(call.whole("default_int64", -1), "int64")
    else:
        values = np.array(call.floats("values_floats"), np.float32)
        default = low.number(call.decimal("default_float", 0.0))
    call.ignore("default_string", "default_float", "default_int64")
    call.need(len(keys) == len(values) >= 1 and len(set(keys.tolist())) == len(keys), "keys and values do not fit")
    hit = low("equal", low.reshape(value, (*value.shape, 1)), low.constant(keys))
    place = low.reduce("argmax", low.cast(hit, "int32"), [-1], keep=False)
    found = low.reduce("reduce_max", low.cast(hit, "int32"), [-1], keep=False)
    return low.where(low("equal", found, 1), low.gather(low.constant(values), place, 0), default)


def _one_hot_encoder(call: Call) -> Value:
    low, value = call.low, call.value()
    call.need(call.has("cats_int64s") and value.dtype in ("int64", "int32"), "categories that are no integers")
    call.need(call.flag("zeros", 1), "zeros = 0")
    categories = np.array(call.ints("cats_int64s"), np.int64)
    call.need(categories.size >= 1, "no categories")
    hit = low("equal", low.reshape(low.cast(value, "int64"), (*value.shape, 1)), low.constant(categories))
    return low.cast(hit, "float32")


def _feature_vectorizer(call: Call) -> Value:
    values = [as_floats(call, value) for value in call.values()]
    values = [call.low.reshape(value, (1, *value.shape)) if value.rank == 1 else value for value in values]
    widths = call.ints("inputdimensions", [value.size(1) for value in values])
    call.need(all(v.rank == 2 and v.size(1) == w for v, w in zip(values, widths, strict=True)), "widths do not fit")
    return call.low.concat(values, 1)


RULES: Mapping[str, Rule] = {
    "ai.onnx.ml.ArrayFeatureExtractor": Rule(_extract, 1),
    "ai.onnx.ml.Binarizer": Rule(_binarizer, 1),
    "ai.onnx.ml.FeatureVectorizer": Rule(_feature_vectorizer, 1),
    "ai.onnx.ml.LabelEncoder": Rule(_label_encoder, 2),
    "ai.onnx.ml.LinearClassifier": Rule(_linear_classifier, 1),
    "ai.onnx.ml.LinearRegressor": Rule(_linear_regressor, 1),
    "ai.onnx.ml.Normalizer": Rule(_normalizer, 1),
    "ai.onnx.ml.OneHotEncoder": Rule(_one_hot_encoder, 1),
    "ai.onnx.ml.Scaler": Rule(_scaler, 1),
}
