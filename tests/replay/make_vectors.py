"""Writes ``vectors_v1.json`` anew: ``python tests/replay/make_vectors.py``. Only for a new spec version: a known
answer changes with nothing else.

Bits are hex digits without gaps, 8 an element, 16 for int64, 2 for bool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
from scalar_cases import CASES
from scalar_draws import model_of as drawn_model
from scalar_draws import run_both

from replay.kernels import spec
from replay.kernels.gridding import grid_rows
from replay.kernels.known_cases import cases
from replay.kernels.selftest import compute, model_of
from replay.layout import PAD_LEAF, bundle_root, decode_bundle, encode_bundle, merkle_path, merkle_root, tensor_root
from replay.model import Model
from replay.program import operator_json
from replay.run import execute, load_backend, prepare_with

PATH = Path(__file__).with_name("vectors_v1.json")


#: Elements that go into a program that is written down whole.
WHOLE = 128


def bits(array: np.ndarray) -> list[str]:
    width = array.dtype.itemsize
    return [f"{int(value):0{2 * width}x}" for value in array.reshape(-1).view(f"u{width}")]


def layout_vectors() -> dict:
    leaves = [sha256(bytes([i])).digest() for i in range(9)]
    row = np.arange(300, dtype=np.int32).reshape(1, 300)
    pair = {"a": np.array([0.0, -0.0, 1.5], np.float32), "ids": np.array([[7, -1], [2, 3]], np.int32)}
    return {
        "leaves": [leaf.hex() for leaf in leaves],
        "roots": {str(n): merkle_root(leaves[:n]).hex() for n in range(1, 10)},
        "path_6_of_9": [node.hex() for node in merkle_path(leaves, 6)],
        "pad": PAD_LEAF.hex(),
        "tensor_int32_1x300_arange": tensor_root(row).hex(),
        "bundle": encode_bundle(pair).hex(),
        "bundle_root": bundle_root(pair).hex(),
        "nonfinite_3_17": bundle_root({"nonfinite": np.array([3, 17], np.int32)}).hex(),
    }


def written(tensors: Mapping[str, np.ndarray]) -> dict:
    return {
        name: {"dtype": str(a.dtype), "shape": list(a.shape), "bits": "".join(bits(a))} for name, a in tensors.items()
    }


def whole(model: Model, inputs: Mapping[str, np.ndarray], output: bytes) -> dict:
    """A program with all that it takes and gives; ``root`` is the program's."""
    return {
        "header": json.loads(model.program.header()),
        "operators": [json.loads(operator_json(op)) for op in model.program.operators],
        "root": model.program.root.hex(),
        "weights": written(model.weights),
        "inputs": written(inputs),
        "outputs": written(decode_bundle(output)),
    }


def kernel_vectors() -> dict:
    """The known answers as torch, NumPy and the scalar reference give them: small ones whole, all by digest. Those with
    ``pieces`` are read by one decoder, so many tokens at a time."""
    found = {}
    for case in cases():
        output = compute(case, load_backend("numpy"))
        for other in ("torch", "scalar"):
            assert output == compute(case, load_backend(other)), case.name
        row = {"input": sha256(encode_bundle(case.inputs)).hexdigest(), "output": sha256(output).hexdigest()}
        model = model_of(case)
        sizes = [array.size for array in (*case.inputs.values(), *model.weights.values())]
        if case.pieces:
            row["pieces"] = list(case.pieces)
        elif sum(sizes) <= WHOLE:
            row |= whole(model, case.inputs, output)
        found[case.name] = row
    return found


def program_vectors() -> dict:
    """Every kind: small random programs, whole, as torch, NumPy and the scalar reference compute them; two that are
    finite, and one that is not if there is one among the first hundreds."""
    found = {}
    for kind, draw in CASES.items():
        wanted = [True, True, False]
        for seed in range(400):
            case = draw(np.random.default_rng(seed))
            model = drawn_model(case)
            if sum(array.size for array in (*case.inputs.values(), *model.weights.values())) > WHOLE:
                continue
            finite = execute(prepare_with(load_backend("numpy"), model), case.inputs).nonfinite is None
            if finite in wanted:
                wanted.remove(finite)
                found[f"{kind}/{seed}"] = whole(model, case.inputs, encode_bundle(run_both(case).outputs))
        assert True not in wanted, kind
    return found


def grid_vector() -> dict:
    weight = np.array([[1.0, -0.5, 3.25, 1e-7], [2.0**-130, 0.0, -(2.0**-101), 2.0**-126]], np.float32)
    q, e = grid_rows(weight, 22)
    return {"weight": bits(weight), "q": q.reshape(-1).tolist(), "exponents": e.tolist()}


def text(document: Mapping[str, dict]) -> str:
    """JSON with a line for each vector."""
    parts = []
    for section, rows in document.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in rows.items()]
        parts.append(f" {json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    made = {
        "about": {"spec": spec.SPEC_VERSION, "bits": "hex digits without gaps: 8 an element, 16 for int64, 2 for bool"},
        "layout": layout_vectors(),
        "grid_rows_2x4": grid_vector(),
        "kernels": kernel_vectors(),
        "programs": program_vectors(),
    }
    PATH.write_text(text(made), encoding="utf-8")
    for name, row in made["kernels"].items():
        print(f'    "{name}": "{row["output"][:32]}",')
