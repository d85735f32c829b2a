"""Writes ``onnx_roots_v1.json`` anew: ``python tests/replay/make_onnx_roots.py``. Only for a new version of the lowerings:
models registered under this one keep their roots with nothing else.

The models stand in the file, so that another version of the packages they came from changes nothing: of each ONNX operator
the node tests with the shortest and the longest program, and small models of scikit-learn for ``ai.onnx.ml``.
"""

from __future__ import annotations

import json
import warnings
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_conformance

from replay.importers.manifest import ModelFiles
from replay.importers.onnx import import_onnx
from replay.model import Model

PATH = Path(__file__).with_name("onnx_roots_v1.json")


def load(entry: Mapping[str, Any]) -> Model:
    """A model of the file as the importer lowers it now."""
    bound = {
        name: np.array(given["data"], given["dtype"]).reshape(given["shape"]) for name, given in entry["bound"].items()
    }
    return import_onnx(ModelFiles("onnx", {"model.onnx": bytearray(b64decode(entry["model"]))}, {}), bound)


def roots(model: Model) -> dict[str, str]:
    return {"program_root": model.program_root.hex(), "artefact_root": model.artefact_root.hex()}


def entry(data: bytes, bound: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        name: {"dtype": str(array.dtype), "shape": list(array.shape), "data": array.reshape(-1).tolist()}
        for name, array in bound.items()
    }
    made = {"model": b64encode(data).decode(), "bound": given}
    return made | roots(load(made))


def node_tests() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, entry) of two tests of each operator, those that pass."""
    programs: dict[str, list[tuple[int, str]]] = {}
    entries = {}
    for case in onnx_conformance.cases():
        if onnx_conformance.run(case).state != "passed":
            continue
        names = [value.name for value in case.model.graph.input]
        given = dict(zip(names, map(np.asarray, case.data[0][0]), strict=False))
        bound = {name: given[name] for name in onnx_conformance.bound_names(case) if name in given}
        made = entry(case.model.SerializeToString(deterministic=True), bound)
        length = len(load(made).program.operators)
        programs.setdefault(case.operator, []).append((length, case.name))
        entries[case.name] = made
    for found in programs.values():
        for name in sorted({min(found)[1], max(found)[1]}):
            yield name, entries[name]


def learnt() -> Iterator[tuple[str, dict[str, Any]]]:
    """Small models as scikit-learn's exporter writes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx
        from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer, StandardScaler
        from sklearn.tree import DecisionTreeClassifier

        random = np.random.default_rng(0)
        x = random.standard_normal((90, 3)).astype(np.float32)
        y = random.integers(0, 3, 90)
        models = {
            "learnt_linear_classifier": make_pipeline(StandardScaler(), Normalizer(), LogisticRegression()),
            "learnt_linear_regressor": Ridge(),
            "learnt_tree_classifier": DecisionTreeClassifier(max_depth=3, random_state=0),
            "learnt_forest_classifier": RandomForestClassifier(3, max_depth=2, random_state=0),
            "learnt_tree_regressor": GradientBoostingRegressor(n_estimators=3, max_depth=2, random_state=0),
        }
        for name, model in models.items():
            model.fit(x, y)
            options = {id(model.steps[-1][1] if hasattr(model, "steps") else model): {"zipmap": False}}
            given = options if hasattr(model, "predict_proba") else None
            exported = to_onnx(model, x[:1], options=given, target_opset=18)
            yield name, entry(exported.SerializeToString(deterministic=True), {})


def main() -> None:
    found = dict(sorted([*node_tests(), *learnt()]))
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(made, sort_keys=True)}" for name, made in found.items())
    PATH.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
