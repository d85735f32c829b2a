"""Writes ``vectors_v1.json`` anew: ``python -m tests.replay.make_vectors``. Only for a new spec version."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np

from replay.kernels.gridding import grid_rows
from replay.kernels.known_cases import cases
from replay.kernels.selftest import compute
from replay.layout import PAD_LEAF, bundle_root, decode_bundle, encode_bundle, merkle_path, merkle_root, tensor_root
from replay.run import load_backend

PATH = Path(__file__).with_name("vectors_v1.json")


def bits(array: np.ndarray) -> list[str]:
    """Hex digits of each element: 8, 16 for int64, 2 for bool."""
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


def kernel_vectors() -> dict:
    """Small cases whole, large ones by digest, as torch, NumPy and the scalar reference give them."""
    found = {}
    for case in cases():
        output = compute(case, load_backend("numpy"))
        for other in ("torch", "scalar"):
            assert output == compute(case, load_backend(other)), case.name
        row = {"input": sha256(encode_bundle(case.inputs)).hexdigest(), "output": sha256(output).hexdigest()}
        tensors = decode_bundle(output)
        if sum(array.size for array in case.inputs.values()) <= 96:
            row |= {
                name: {"dtype": str(a.dtype), "shape": list(a.shape), "bits": bits(a)}
                for name, a in case.inputs.items()
            }
        if max(tensor.size for tensor in tensors.values()) <= 96:
            row |= {"output bits": {name: bits(tensor) for name, tensor in tensors.items()}}
        found[case.name] = row
    return found


def grid_vector() -> dict:
    weight = np.array([[1.0, -0.5, 3.25, 1e-7], [2.0**-130, 0.0, -(2.0**-101), 2.0**-126]], np.float32)
    q, e = grid_rows(weight, 22)
    return {"weight": bits(weight), "q": q.reshape(-1).tolist(), "exponents": e.tolist()}


if __name__ == "__main__":
    made = {"spec": 1, "layout": layout_vectors(), "grid_rows_2x4": grid_vector(), "kernels": kernel_vectors()}
    PATH.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, row in made["kernels"].items():
        print(f'    "{name}": "{row["output"][:32]}",')
