"""A model without weights: it has roots, a description and runs like any other, here and in a worker."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from replay.backends import BACKENDS
from replay.cli import main
from replay.errors import BackendRefused, LayoutError
from replay.importers.manifest import write_manifest
from replay.kernels.torch_int8 import vnni
from replay.layout import PAD_LEAF, Tree, encode_bundle
from replay.model import load_model
from replay.sandbox import Completed, Limits, ReplayPool, ReplayRequest
from replay.trace import commit

X = {"x": np.array([[-1.0, 2.0, -3.0, 4.0]], np.float32)}


@pytest.fixture
def manifest(tmp_path):
    ends = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 4]) for name in "xy")
    start, end = ends
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [start], [end])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx")
    return write_manifest(tmp_path, "onnx", ["model.onnx"])


def test_the_artefact_is_one_pad_leaf_that_stands_for_no_tile(manifest):
    model = load_model(str(manifest))
    assert (model.artefact_root, model.artefact_tiles) == (PAD_LEAF, 1)
    assert Tree([PAD_LEAF]).root == PAD_LEAF
    with pytest.raises(LayoutError, match="outside the artefact"):
        model.artefact_tile(0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_commits_to_the_same(manifest, backend):
    model = load_model(manifest)
    if "int8" in backend and not vnni():
        with pytest.raises(BackendRefused, match="no VNNI"):
            commit(model, X, backend)
        return
    receipt = commit(model, X, backend)
    assert receipt.state_root == commit(model, X, "numpy").state_root
    assert receipt.output == encode_bundle({"y": np.maximum(X["x"], 0)})


async def test_a_worker_describes_and_runs_it(manifest):
    asked = ReplayRequest(manifest, None, load_model(manifest).program_root, PAD_LEAF, 1, encode_bundle(X), "numpy")
    async with ReplayPool(limits=Limits(memory_bytes=1 << 30)) as pool:
        assert (await pool.describe(asked)).facts["artefact_root"] == PAD_LEAF.hex()
        outcome = await pool.replay(asked)
    assert isinstance(outcome, Completed)
    assert outcome.receipt.output == commit(load_model(manifest), X, "numpy").output


def test_the_command_shows_it(manifest, capsys):
    assert main(["show", str(manifest)]) == 0
    assert PAD_LEAF.hex() in capsys.readouterr().out


def test_a_manifest_is_named_by_a_path():
    with pytest.raises(TypeError, match="not by bytes"):
        load_model(b"manifest.json")
