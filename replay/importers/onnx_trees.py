"""Tree ensembles of ai.onnx.ml: walks to leaves, then exact sums of the leaves' weights.

A node's children stand anywhere in the file; here they stand behind it. Inputs hold no NaN, so the tracks of missing
values do not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from replay.importers.onnx_ml import as_floats, chosen, labels, transformed
from replay.importers.onnx_value import Call, Rule, Value
from replay.kernels.spec import TREE_LEAF
from replay.layout import Array

MAX_NODES = 1 << 22
MAX_TREES = 1 << 14
#: Numbers of leaf weights: leaves times targets.
MAX_WEIGHTS = 1 << 26
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF")


@dataclass(frozen=True)
class Forest:
    """Nodes as lists, in the file's numbering; ``yes`` and ``no`` of a leaf mean nothing; ``roots``: one per tree."""

    feature: Sequence[int]
    threshold: Sequence[float]
    mode: Sequence[int]
    yes: Sequence[int]
    no: Sequence[int]
    roots: Sequence[int]


def _ordered(call: Call, forest: Forest) -> tuple[list[int], dict[int, int]]:
    """Nodes in an order in which children follow their parents, and each leaf's number. Refuses what is no tree."""
    order: list[int] = []
    leaves: dict[int, int] = {}
    seen: set[int] = set()
    for root in forest.roots:
        waiting = [root]
        while waiting:
            at = waiting.pop()
            call.need(0 <= at < len(forest.mode) and at not in seen, "a node stands twice in its tree, or is missing")
            seen.add(at)
            order.append(at)
            if forest.mode[at] == TREE_LEAF:
                leaves[at] = len(leaves)
            else:
                waiting += [forest.no[at], forest.yes[at]]
    return order, leaves


def _leaves(call: Call, value: Value, forest: Forest) -> tuple[Value, dict[int, int]]:
    """(number of the leaf that each tree reaches, int32 [B, trees]; the number of each leaf node)."""
    low = call.low
    call.need(1 <= len(forest.mode) <= MAX_NODES and 1 <= len(forest.roots) <= MAX_TREES, "too many nodes or trees")
    order, leaves = _ordered(call, forest)
    place = {node: index for index, node in enumerate(order)}

    def column(items: Sequence[float], dtype: str) -> str:
        return low.weight(np.array(items, dtype))

    branch = [forest.mode[node] != TREE_LEAF for node in order]
    pairs = list(zip(order, branch, strict=True))
    weights = [
        column([forest.feature[node] if inner else 0 for node, inner in pairs], "<i4"),
        column([forest.threshold[node] if inner else 0.0 for node, inner in pairs], "<f4"),
        column([forest.mode[node] for node in order], "<i4"),
        column([place[forest.yes[node]] if inner else leaves[node] for node, inner in pairs], "<i4"),
        column([place[forest.no[node]] if inner else 0 for node, inner in pairs], "<i4"),
        column([place[root] for root in forest.roots], "<i4"),
    ]
    features = value.size(1)
    call.need(
        all(0 <= forest.feature[node] < features for node, inner in pairs if inner), "a feature that is not there"
    )
    return low.held(low.apply("tree_leaves", [low.real(value)], weights, features=features)), leaves


def _gathered(call: Call, found: Value, table: Array, how: str) -> Value:
    """Leaf weights [leaves, K] of the leaves [B, trees], joined over the trees: [B, K]."""
    low = call.low
    trees = found.size(1)
    picked = low.gather(low.constant(table), found, 0)  # [B, trees, K]
    if how in ("MIN", "MAX"):
        return low.reduce(f"reduce_{how.lower()}", picked, [1], keep=False)
    total = low.reduce("reduce_sum", picked, [1], keep=False)
    return low("div", total, float(trees)) if how == "AVERAGE" else total


def _named_nodes(call: Call) -> tuple[Forest, dict[tuple[int, int], int]]:
    """The forest of the operators that name nodes by tree and number, and the place of each name."""
    trees, numbers = call.ints("nodes_treeids"), call.ints("nodes_nodeids")
    features, values = call.ints("nodes_featureids"), call.floats("nodes_values")
    yes, no = call.ints("nodes_truenodeids"), call.ints("nodes_falsenodeids")
    modes = [_MODES.index(mode) if mode in _MODES else -1 for mode in call.texts("nodes_modes")]
    call.ignore("nodes_hitrates", "nodes_missing_value_tracks_true")
    lists = (numbers, features, values, yes, no, modes)
    call.need(all(len(one) == len(trees) for one in lists), "lists of different lengths")
    call.need(-1 not in modes, "an unknown mode of a node")
    place = {name: index for index, name in enumerate(zip(trees, numbers, strict=True))}
    call.need(len(place) == len(trees), "a node stands twice")

    def found(ids: Sequence[int]) -> list[int]:
        return [
            -1 if mode == TREE_LEAF else place.get((tree, item), -1)
            for tree, item, mode in zip(trees, ids, modes, strict=True)
        ]

    left, right = found(yes), found(no)
    children = {*left, *right}
    roots = [index for index in range(len(trees)) if index not in children]
    call.need(len(roots) == len({trees[root] for root in roots}) == len(set(trees)), "a tree has one root")
    return Forest(features, values, modes, left, right, roots), place


def _weights(
    call: Call, prefix: str, place: Mapping[tuple[int, int], int], leaves: Mapping[int, int], count: int
) -> Array:
    """The table of leaf weights [leaves, targets] from lists of (tree, node, target, weight)."""
    lists = [call.ints(f"{prefix}_{name}") for name in ("treeids", "nodeids", "ids")]
    values = call.floats(f"{prefix}_weights")
    call.need(all(len(one) == len(values) for one in lists), "lists of different lengths")
    call.need(count >= 1 and len(leaves) * count <= MAX_WEIGHTS, f"{count} targets")
    table = np.zeros((len(leaves), count), np.float32)
    for tree, node, target, weight in zip(*lists, values, strict=True):
        leaf = leaves.get(place.get((tree, node), -1), -1)
        call.need(leaf >= 0 and 0 <= target < count, "a weight of no leaf, or of no target")
        table[leaf, target] += np.float32(weight)
    return table


def _based(call: Call, scores: Value, count: int) -> Value:
    base = np.array(call.floats("base_values", ()), np.float32)
    call.need(base.size in (0, count), "base values do not fit")
    return call.low("add", scores, call.low.constant(base)) if base.size else scores


def _rows(call: Call) -> Value:
    value = as_floats(call, call.value())
    call.need(value.rank == 2, "wants [B, features]")
    return value


def _regressor(call: Call) -> Value:
    value = _rows(call)
    forest, place = _named_nodes(call)
    found, leaves = _leaves(call, value, forest)
    count = call.whole("n_targets", 1)
    call.text("post_transform", "NONE")
    how = call.text("aggregate_function", "SUM", "AVERAGE", "MIN", "MAX")
    scored = set(zip(*(call.ints(f"target_{name}") for name in ("treeids", "nodeids", "ids")), strict=True))
    call.need(how in ("SUM", "AVERAGE") or len(scored) == len(leaves) * count, "the extreme of leaves without a score")
    return _based(call, _gathered(call, found, _weights(call, "target", place, leaves, count), how), count)


def _classifier(call: Call) -> Sequence[Value]:
    """Where implementations differ (a class without a score, two scores for two classes), it is refused."""
    value = _rows(call)
    forest, place = _named_nodes(call)
    found, leaves = _leaves(call, value, forest)
    names, ids = labels(call), set(call.ints("class_ids"))
    call.ignore("classlabels_strings")
    call.need(len(names) >= 2, "fewer than two classes")
    table = _weights(call, "class", place, leaves, len(names))
    if len(names) == 2:
        call.need(ids == {0}, "two classes whose scores are not one score of class 0")
        return _two_classes(call, found, table, names)
    call.need(_complete(call, place, leaves, len(names)), "a class that has no score in some leaves")
    scores = _based(call, _gathered(call, found, table, "SUM"), len(names))
    return chosen(call, scores, names), transformed(call, scores)


def _complete(call: Call, place: Mapping[tuple[int, int], int], leaves: Mapping[int, int], classes: int) -> bool:
    """Whether each class has a tree all of whose leaves give it a score."""
    ends = Counter(tree for (tree, _), node in place.items() if node in leaves)
    lists = zip(*(call.ints(f"class_{name}") for name in ("treeids", "ids", "nodeids")), strict=True)
    scored = Counter((tree, one) for tree, one, _ in set(lists))
    return {one for (tree, one), count in scored.items() if count == ends[tree]} == set(range(classes))


def _two_classes(call: Call, found: Value, table: Array, names: Array) -> Sequence[Value]:
    """One score s for two classes, as exporters write it: [1 − s, s] where all weights are positive, or the logistic
    function of [−s, s]."""
    low, positive = call.low, bool((table >= 0).all())
    logistic = call.text("post_transform", "NONE", "LOGISTIC") == "LOGISTIC"
    call.need(positive != logistic, "two classes by a score that is neither a probability nor logistic")
    score = _based(call, _gathered(call, found, table[:, :1].copy(), "SUM"), 1)
    above = low("less", low.number(0.5 if positive else 0.0), score)
    label = low.where(above, low.number(int(names[1]), "int64"), low.number(int(names[0]), "int64"))
    other = low("sub", low.number(1), score) if positive else low("neg", score)
    scores = low.concat([other, score], 1)
    return low.reshape(label, label.shape[:1]), low("sigmoid", scores) if logistic else scores


# ---- TreeEnsemble, version 5 -------------------------------------------------------------------------------------------


def _numbers(call: Call, name: str) -> Array:
    array = call.tensor(name)
    if array is None or array.ndim != 1:
        raise call.refuse(f"{name} must be a tensor of rank 1")
    return array


def _ensemble(call: Call) -> Value:
    """Children are named by place; a flag says whether it is a leaf's."""
    value = _rows(call)
    features, modes = call.ints("nodes_featureids"), [int(mode) for mode in _numbers(call, "nodes_modes")]
    splits = [float(item) for item in _numbers(call, "nodes_splits")]
    sides = {side: (call.ints(f"nodes_{side}nodeids"), call.ints(f"nodes_{side}leafs")) for side in ("true", "false")}
    targets, weights = call.ints("leaf_targetids"), _numbers(call, "leaf_weights")
    call.ignore("nodes_hitrates", "nodes_missing_value_tracks_true")
    nodes, ends, count = len(modes), len(targets), call.whole("n_targets", 1)
    lists = (features, splits, *sides["true"], *sides["false"])
    call.need(all(len(one) == nodes for one in lists) and len(weights) == ends >= 1, "lists of different lengths")
    call.need(all(0 <= mode < TREE_LEAF for mode in modes), "set membership")
    call.need(call.whole("post_transform", 0) == 0, "a post_transform")
    how = ("AVERAGE", "SUM", "MIN", "MAX")[call.whole("aggregate_function", 1)]
    yes, no = (
        [nodes + item if leaf else item for item, leaf in zip(*sides[side], strict=True)] for side in ("true", "false")
    )
    call.need(all(0 <= item < nodes + ends for item in (*yes, *no)), "a child that is not there")
    roots = call.ints("tree_roots")
    # a tree may be one leaf: its root's two children are then the same one
    single = {root for root in roots if 0 <= root < nodes and yes[root] == no[root] >= nodes}
    forest = Forest(
        (*features, *(0,) * ends),
        (*splits, *(0.0,) * ends),
        (*modes, *(TREE_LEAF,) * ends),
        yes,
        no,
        [yes[root] if root in single else root for root in roots],
    )
    call.need(how in ("SUM", "AVERAGE") or count == 1, "the extreme of leaves without a score")
    found, leaves = _leaves(call, value, forest)
    call.need(count >= 1 and len(leaves) * count <= MAX_WEIGHTS, f"{count} targets")
    table = np.zeros((len(leaves), count), np.float32)
    for node, leaf in leaves.items():
        call.need(0 <= targets[node - nodes] < count, "a leaf of no target")
        table[leaf, targets[node - nodes]] = weights[node - nodes]
    return _gathered(call, found, table, how)


RULES: Mapping[str, Rule] = {
    "ai.onnx.ml.TreeEnsemble": Rule(_ensemble, 5),
    "ai.onnx.ml.TreeEnsembleClassifier": Rule(_classifier, 1),
    "ai.onnx.ml.TreeEnsembleRegressor": Rule(_regressor, 1),
}
