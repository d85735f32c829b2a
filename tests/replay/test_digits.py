"""The digits classifier: trained by scikit-learn, exported by skl2onnx, the same as onnxruntime and onnx's reference."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from sklearn.datasets import load_digits

from challenger.sim.models import digits_model, int8_weights, older
from replay.importers.manifest import write_manifest
from replay.layout import decode_bundle
from replay.model import load_model
from replay.run import execute, prepare
from replay.trace import commit

PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS = (PIXELS / 16.0).astype(np.float32)


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_labels_and_probabilities_agree(digits, digits_manifest, backend):
    network = ReferenceEvaluator(onnx.load(digits_manifest.parent / "model.onnx"))
    labels, probabilities = network.run(None, {"X": PIXELS})
    run = execute(digits, {"X": PIXELS}, backend)
    assert (run.outputs["label"] == labels).all()
    assert run.outputs["label"].dtype == np.int64
    assert np.abs(run.outputs["probabilities"] - probabilities).max() < 5e-6
    assert (run.outputs["label"] == LABELS).mean() > 0.9


def test_onnxruntime_agrees(digits, digits_manifest):
    import onnxruntime as runtime

    session = runtime.InferenceSession(str(digits_manifest.parent / "model.onnx"))
    labels, probabilities = session.run(None, {"X": PIXELS[:200]})
    run = execute(digits, {"X": PIXELS[:200]})
    assert (run.outputs["label"] == labels).all()
    assert np.abs(run.outputs["probabilities"] - probabilities).max() < 5e-6


def test_the_program_is_what_was_trained(digits):
    assert [op.kind for op in digits.program.operators] == [
        *("linear", "relu") * 2,
        "linear",
        "softmax",
        "argmax",
        "take",
        "cast",
    ]
    assert digits.boundaries == 4
    assert [result.name for result in digits.program.outputs] == ["label", "probabilities"]


def test_one_commitment_whatever_the_batch_backend_and_threads(digits, threads):
    prepared = [prepare(digits, backend) for backend in ("torch", "numpy")]
    for batch in (1, 2, 33):
        roots = set()
        for count in (1, 2):
            threads(count)
            roots |= {commit(each, {"X": PIXELS[:batch]}).state_root for each in prepared}
        assert len(roots) == 1
    whole = execute(prepared[0], {"X": PIXELS[:33]}).outputs["probabilities"]
    alone = [execute(prepared[0], {"X": PIXELS[i : i + 1]}).outputs["probabilities"] for i in range(33)]
    assert whole.tobytes() == b"".join(row.tobytes() for row in alone)


def test_training_again_gives_the_same_files(digits_manifest, tmp_path):
    assert digits_model(tmp_path, seed=1, iterations=12).read_bytes() == digits_manifest.read_bytes()


def test_cheats_show(digits, digits_manifest, tmp_path):
    inputs = {"X": PIXELS[5:6]}
    honest = commit(digits, inputs)
    for change in (int8_weights, older):
        cheat = load_model(change(digits_manifest, tmp_path / change.__name__))
        assert cheat.program_root == digits.program_root
        assert cheat.artefact_root != digits.artefact_root
        assert commit(cheat, inputs).output_root != honest.output_root
    other = commit(digits, {"X": PIXELS[6:7]})
    assert other.input_root != honest.input_root
    assert other.output_root != honest.output_root
    assert set(decode_bundle(honest.output)) == {"label", "probabilities"}


def test_one_weight_bit_changes_the_roots(digits, digits_manifest, tmp_path):
    model = onnx.load(digits_manifest.parent / "model.onnx")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "coefficient1")
    weight = numpy_helper.to_array(tensor).copy()
    weight.reshape(-1).view(np.uint32)[int(np.abs(weight).argmax())] ^= np.uint32(1 << 10)
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    other = load_model(write_manifest(tmp_path, "onnx", ["model.onnx"]))
    assert other.artefact_root != digits.artefact_root
    inputs = {"X": PIXELS[:16]}
    assert commit(other, inputs).state_root != commit(digits, inputs).state_root
