"""Runs recorded, verified and explained: through the command, through Python, and written by hand."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_model import dense_model, digest, rows
from test_recording_format import by_hand

from challenger.sim.models import gpt_model
from replay.cli import main
from replay.importers.manifest import write_manifest
from replay.layout import decode_bundle, encode_bundle
from replay.model import load_model
from replay.recording import RecordingDamaged, RecordingError, RecordingMalformed, RecordingWriter, open_recording
from replay.recording.manifest import LINES, TENSORS, canonical
from replay.recording.runs import RunRecorder, recorded_runs
from replay.recording.verify import InProcess, verify
from replay.sampling import Sampling
from replay.trace import commit


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return dense_model(tmp_path_factory.mktemp("model"))


def flipped(manifest, folder):
    """The model with one bit of one weight of the first layer flipped."""
    shutil.copytree(manifest.parent, folder)
    graph = onnx.load(folder / "model.onnx")
    first = graph.graph.initializer[0]
    array = numpy_helper.to_array(first).copy()
    array.view(np.uint32)[1, 1] ^= 1 << 22
    first.CopyFrom(numpy_helper.from_array(array, first.name))
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    return write_manifest(folder, "onnx", ["model.onnx"])


def recorded(path, manifest, inputs, *, seed=b"", embed=True):
    replays = InProcess()
    with RecordingWriter(path, ["runs"]) as writer, RunRecorder(writer) as recorder:
        if embed:
            recorder.embed(manifest)
        identity = replays.identity(manifest)
        for data in inputs:
            recorder.add(identity, data, seed, commit(replays.prepared(manifest), decode_bundle(data), seed=seed))
    return path


def outcomes(path, manifest=None):
    with open_recording(path) as recording:
        return list(verify(recording, InProcess(), manifest))


def test_the_command_records_and_verifies(model, tmp_path, capsys):
    for count in (1, 2):
        (tmp_path / f"{count}.bundle").write_bytes(rows(count))
    out, inputs = tmp_path / "r.tar", [str(tmp_path / f"{count}.bundle") for count in (1, 2)]
    record = ["record", str(model), *inputs, "-o", str(out), "--backend", "numpy", "--with-model"]
    assert main([*record, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 2
    assert main(record) == 1
    assert "there already" in capsys.readouterr().err
    assert main(["verify-recording", str(out), "--backend", "numpy"]) == 0
    assert capsys.readouterr().out == "2 runs, each the same bit for bit\n"
    other = flipped(model, tmp_path / "flipped")
    assert main(["verify-recording", str(out), "--backend", "numpy", "--model", str(other.parent), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in said["differing"]] == [0, 1]
    assert said["differing"][0]["divergence"]["kind"] == "linear"
    damaged = bytearray(out.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.tar").write_bytes(damaged)
    assert main(["verify-recording", str(tmp_path / "damaged.tar")]) == 1
    assert capsys.readouterr().err.startswith("replay verify-recording: the recording is")


def test_a_flipped_weight_bit_is_explained(model, tmp_path):
    path = recorded(tmp_path / "r", model, [rows(2)])
    assert all(outcomes(path))
    (outcome,) = outcomes(path, flipped(model, tmp_path / "flipped"))
    assert outcome.differs[:2] == ("model", "output")
    found = outcome.divergence
    assert (found.operator, found.kind, found.tile, found.element) == (0, "linear", 0, 1)
    place = outcome.explanation[-1]
    assert place.startswith("first at operator 0 (linear, value ")
    assert f"{found.theirs} (" in place
    assert f"{found.mine} (" in place
    assert any("artefact_root" in line for line in outcome.explanation)


def test_without_the_recorded_model_the_output_and_the_leaf_are_named(model, tmp_path):
    path = recorded(tmp_path / "r", model, [rows(1)], embed=False)
    with pytest.raises(RecordingMalformed, match="not embedded"):
        outcomes(path)
    assert all(outcomes(path, model))
    (outcome,) = outcomes(path, flipped(model, tmp_path / "flipped"))
    assert outcome.divergence is None
    assert any(line.startswith("output y differs in ") for line in outcome.explanation)


def test_equal_runs_have_equal_entries_whatever_the_environment(model, tmp_path):
    paths = [recorded(tmp_path / name, model, [rows(1)]) for name in ("a", "b")]
    lines = []
    for path in paths:
        with open_recording(path) as recording:
            lines += list(recording.lines("runs.jsonl.zst"))
    assert lines[0]["sha256"] == lines[1]["sha256"]
    assert lines[0]["environment"]["backend"] == "numpy"
    assert "environment" not in lines[0]["entry"]


def test_a_generation_is_recorded_with_its_seed(tmp_path):
    manifest, seed = gpt_model(tmp_path / "gpt"), bytes(range(32))
    data = encode_bundle({"input_ids": np.array([5, 6, 7], np.int32), "sampling": Sampling(4, 800_000, 20).tensor()})
    path = recorded(tmp_path / "r", manifest, [data], seed=seed)
    with open_recording(path) as recording:
        (run,) = recorded_runs(recording)
    assert (run.seed, run.input) == (seed, data)
    assert all(outcomes(path))


def hand_files(model, /, **changed):
    """The files of a recording of one run that somebody writes without this package: neither leaves nor hashes."""
    from safetensors.numpy import save

    made = load_model(model)
    x = decode_bundle(rows(1))["x"]
    receipt = commit(made, {"x": x}, "numpy")
    y = decode_bundle(receipt.output)["y"]
    identity = {
        "file_digest": digest(model).hex(), "program_root": made.program_root.hex(),
        "artefact_root": made.artefact_root.hex(), "spec": 1, "grid": "hi",
    }  # fmt: skip
    entry = {
        "run": 0, "model": identity, "seed": "", "tensors": "t.safetensors.zst", "input": ["x"], "output": ["y"],
        "output_root": receipt.output_root.hex(), **changed,
    }  # fmt: skip
    return {
        "runs.jsonl.zst": (LINES, canonical({"entry": entry}) + b"\n"),
        "t.safetensors.zst": (TENSORS, save({"0.input.x": x, "0.output.y": y})),
    }


def test_a_run_written_by_hand_is_verified(model, tmp_path):
    path = by_hand(tmp_path / "hand", hand_files(model))
    assert [bool(outcome) for outcome in outcomes(path, model)] == [True]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"output_root": "0" * 64}, RecordingDamaged),
        ({"output_root": 1}, RecordingMalformed),
        ({"leaves": ["0" * 64, "1" * 64]}, RecordingDamaged),
        ({"leaves": 3}, RecordingMalformed),
        ({"seed": "00"}, RecordingMalformed),
        ({"input": ["z"]}, RecordingMalformed),
        ({"input": [{}]}, RecordingMalformed),
        ({"input": []}, RecordingError),
        ({"tensors": "../t"}, RecordingMalformed),
        ({"model": {}}, RecordingMalformed),
        ({"run": -1}, RecordingMalformed),
        ({"more": 1}, RecordingMalformed),
    ],
)
def test_a_run_that_lies_is_refused_with_its_line(model, tmp_path, changed, kind):
    path = by_hand(tmp_path / "hand", hand_files(model, **changed))
    with pytest.raises(kind) as caught:
        outcomes(path, model)
    assert str(caught.value).isprintable()
