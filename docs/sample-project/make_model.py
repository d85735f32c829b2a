"""Makes ``model/``: two dense layers in ONNX, and the manifest that names the file and its digest.

A trained model comes out of an exporter instead of this file; ``replay import`` writes the same kind of folder.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from replay.importers.manifest import write_manifest


def make(folder: Path) -> Path:
    """``score = relu(x · W1 + b1) · W2 + b2`` for x float32 [rows, 4]; the manifest's path."""
    dice = np.random.default_rng(7)
    weights = {
        "W1": dice.normal(size=(4, 8)),
        "b1": dice.normal(size=8),
        "W2": dice.normal(size=(8, 3)),
        "b2": dice.normal(size=3),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "W1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "W2", "b2"], ["score"]),
        ],
        "sample",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    folder.mkdir(exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "model.onnx")
    return write_manifest(folder, "onnx", ["model.onnx"])


if __name__ == "__main__":
    make(Path(__file__).parent / "model")
