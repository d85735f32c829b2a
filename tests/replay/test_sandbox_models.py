"""The sandbox with real models: promises kept or named, hostile files and inputs, both backends."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_model import dense_model, digest, rows

from replay.kernels.spec import SPEC_VERSION
from replay.layout import encode_bundle
from replay.model import load_model
from replay.sandbox import Completed, Inconclusive, Limits, Reason, ReplayPool, ReplayRequest
from replay.trace import commit

LIMITS = Limits(memory_bytes=1 << 30, wall_seconds=60, cpu_seconds=60)


def asked(manifest, backend="numpy", data=None):
    model = load_model(manifest, digest(manifest))
    return ReplayRequest(
        manifest, digest(manifest), model.program_root, model.artefact_root, SPEC_VERSION, rows(3) if data is None else data, backend
    )  # fmt: skip


async def test_both_backends_keep_the_promise_of_the_model_and_agree(tmp_path):
    request = asked(dense_model(tmp_path))
    here = commit(load_model(request.manifest), {"x": np.sin(np.arange(12, dtype=np.float32)).reshape(3, 4)}, "numpy")
    async with ReplayPool(limits=LIMITS) as pool:
        for backend in ("numpy", "torch"):
            outcome = await pool.replay(replace(request, backend=backend, fresh=backend == "torch"))
            assert isinstance(outcome, Completed), outcome
            receipt = outcome.receipt
            assert receipt.leaves == here.leaves
            assert receipt.output == here.output
            assert (receipt.first_path, receipt.last_path) == (here.first_path, here.last_path)
            assert receipt.environment["backend"] == backend
            assert "isolation.network" in receipt.environment
        facts = (await pool.describe(request)).facts
        assert facts["program_root"] == request.program_root.hex()
        assert facts["file_digest"] == request.file_digest.hex()
        assert [one["name"] for one in facts["inputs"]] == ["x"]
        (warm,) = psutil.Process().children()
        mapped = {Path(one.path).name for one in warm.memory_maps()}
        assert not any("torch" in name for name in mapped), "the NumPy worker has loaded torch"


async def test_each_broken_promise_has_its_own_name(tmp_path):
    request = asked(dense_model(tmp_path / "good"))
    other = dense_model(tmp_path / "other", seed=1)
    torn = dense_model(tmp_path / "torn")
    (torn.parent / "model.onnx").write_bytes(b"something else")
    wrong = bytes(32)
    async with ReplayPool(limits=LIMITS) as pool:
        for change, reason in [
            ({"spec_version": 7}, Reason.SPEC_VERSION),
            ({"file_digest": wrong}, Reason.MODEL_DIGEST),
            ({"manifest": other}, Reason.MODEL_DIGEST),
            ({"manifest": torn, "file_digest": digest(torn)}, Reason.MODEL_DIGEST),
            ({"manifest": tmp_path / "absent.json"}, Reason.MODEL_REJECTED),
            ({"program_root": wrong}, Reason.PROGRAM_MISMATCH),
            ({"artefact_root": wrong}, Reason.ARTEFACT_MISMATCH),
            ({"manifest": other, "file_digest": digest(other)}, Reason.ARTEFACT_MISMATCH),
            ({"input": b""}, Reason.INPUT_REJECTED),
            ({"input": request.input + b"\0"}, Reason.INPUT_REJECTED),
            ({"input": encode_bundle({"z": np.zeros((1, 4), np.float32)})}, Reason.INPUT_REJECTED),
            ({"input": encode_bundle({"x": np.zeros((1, 5), np.float32)})}, Reason.INPUT_REJECTED),
            ({"input": encode_bundle({"x": np.zeros((1, 4), np.int32)})}, Reason.INPUT_REJECTED),
            ({"input": encode_bundle({"x": np.full((1, 4), np.nan, np.float32)})}, Reason.INPUT_REJECTED),
            ({"backend": "abacus"}, Reason.BACKEND_REFUSED),
        ]:
            outcome = await pool.replay(replace(request, **change))
            assert isinstance(outcome, Inconclusive), change
            assert outcome.reason is reason, (change, outcome)
            assert "\n" not in outcome.detail
        assert isinstance(await pool.replay(request), Completed)
        assert len(psutil.Process().children()) == 1


@pytest.mark.parametrize("damage", ["empty", "truncated", "rubbish", "nested", "not a manifest"])
async def test_hostile_files_are_rejected_and_the_worker_lives(tmp_path, damage):
    from replay.importers.manifest import write_manifest

    good = dense_model(tmp_path / "good")
    bad = dense_model(tmp_path / "bad")
    model = bad.parent / "model.onnx"
    model.write_bytes(
        {
            "empty": b"", "truncated": model.read_bytes()[:-40], "rubbish": bytes(range(256)) * 40,
            "nested": b"\x3a" * 50_000, "not a manifest": b"",
        }[damage]
    )  # fmt: skip
    write_manifest(bad.parent, "onnx", ["model.onnx"])
    if damage == "not a manifest":
        bad.write_bytes(b"[" * 60_000)
    async with ReplayPool(limits=LIMITS) as pool:
        request = ReplayRequest(bad, None, None, None, SPEC_VERSION, rows(1), "numpy")
        outcome = await pool.replay(request)
        assert isinstance(outcome, Inconclusive)
        assert outcome.reason is Reason.MODEL_REJECTED, outcome
        assert isinstance(await pool.replay(asked(good)), Completed)


async def test_a_model_that_needs_more_memory_or_time_than_allowed(tmp_path):
    manifest = dense_model(tmp_path, wide=30_000)
    limits = replace(LIMITS, memory_bytes=600 << 20)
    async with ReplayPool(limits=limits) as pool:
        request = asked(manifest, data=rows(4096))
        outcome = await pool.replay(request)
        assert isinstance(outcome, Inconclusive)
        assert outcome.reason is Reason.MEMORY, outcome
        assert (await pool.replay(request, seconds=0.01)).reason is Reason.TIMEOUT
        assert isinstance(await pool.replay(asked(manifest, data=rows(1))), Completed)


async def test_a_worker_keeps_only_the_models_used_last(tmp_path):
    requests = [asked(dense_model(tmp_path / str(seed), seed=seed)) for seed in range(3)]
    async with ReplayPool(limits=replace(LIMITS, models=2)) as pool:
        for request in requests:
            assert isinstance(await pool.replay(request), Completed)
        for request in requests:
            (request.manifest.parent / "model.onnx").unlink()
        # the first was dropped and would have to be read again; the others need no file any more
        assert (await pool.replay(requests[0])).reason is Reason.MODEL_REJECTED
        assert isinstance(await pool.replay(requests[2]), Completed)
