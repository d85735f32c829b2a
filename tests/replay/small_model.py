"""A small ONNX model on disk: two dense layers, so that a sandbox has something real to load."""

from hashlib import sha256
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from replay.importers.manifest import write_manifest
from replay.layout import encode_bundle


def dense_model(folder: Path, wide: int = 5, seed: int = 0) -> Path:
    """``y = relu(x·W₁ + b₁)·W₂ + b₂`` with x float32 [B, 4]; the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    arrays = {
        "w1": random.normal(size=(4, wide)), "b1": random.normal(size=wide),
        "w2": random.normal(size=(wide, 3)), "b2": random.normal(size=3),
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return write_manifest(folder, "onnx", ["model.onnx"])


def digest(manifest: Path) -> bytes:
    return sha256(manifest.read_bytes()).digest()


def rows(count: int) -> bytes:
    """An input of ``count`` rows."""
    ramp = np.sin(np.arange(count * 4, dtype=np.float32)).reshape(count, 4)
    return encode_bundle({"x": ramp})
