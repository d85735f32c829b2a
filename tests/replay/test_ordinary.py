"""The measure of speed computes the same things: ordinary torch is close to the canonical results, operator by operator."""

from __future__ import annotations

import numpy as np
import pytest
from replay_programs import write_bert
from small_model import dense_model
from tiny_gpt import tiny_gpt

from replay.bench import compare, ordinary, ratio, rounds_of
from replay.errors import BackendRefused
from replay.kernels import ordinary as plain
from replay.kernels.known_cases import cases
from replay.kernels.ordinary import PEERS, OrdinaryKernels
from replay.kernels.selftest import model_of
from replay.kernels.state import State
from replay.layout import Array, bundle_root
from replay.model import Model, load_model
from replay.run import check_inputs, evaluate, execute, load_backend, prepare_with

#: A token left out holds infinity here, and an ordinary product of it and zero is no number.
SPOILT = {"attention/left-out/mask", "attention/left-out/causal"}


def computed(model: Model, inputs: dict[str, Array], peer: str) -> Array:
    kernels = OrdinaryKernels(model.program, model.weights, peer)
    values, lost = evaluate(model.program, kernels, inputs, check_inputs(model.program, inputs))
    assert lost is None
    return kernels.unload(values[model.program.outputs[0].value])


@pytest.mark.parametrize("peer", PEERS)
def test_every_operator_is_the_canonical_one_but_for_rounding(peer):
    kinds = set()
    for case in cases():
        model = model_of(case)
        wanted = execute(prepare_with(load_backend("numpy"), model), case.inputs)
        if wanted.nonfinite is not None or case.name in SPOILT:
            continue
        kinds |= {op.kind for op in model.program.operators}
        mine, theirs = computed(model, case.inputs, peer), wanted.outputs["y"]
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), case.name
        if mine.dtype == np.float32 or "sample_weights" in case.name:
            size = max(float(np.abs(theirs).max()), 1e-30)
            assert float(np.abs(mine.astype(np.float64) - theirs).max()) <= 1e-3 * size, case.name
        else:
            assert np.array_equal(mine, theirs), case.name
    assert len(kinds) > 60


@pytest.mark.parametrize("peer", PEERS)
def test_a_text_read_token_by_token_is_the_text_read_at_once(peer):
    model, ids = tiny_gpt(), np.array([3, 1, 4, 1, 5, 9], np.int32)
    kernels, state, rows = OrdinaryKernels(model.program, model.weights, peer), State(), []
    for size in (3, 1, 2):
        part = ids[state.position : state.position + size]
        values, _ = evaluate(model.program, kernels, {"input_ids": part}, {"T": size}, state=state)
        rows.append(kernels.unload(values[model.program.outputs[0].value]))
        state.position += size
    assert np.allclose(np.concatenate(rows), computed(model, {"input_ids": ids}, peer), atol=1e-5)


def test_a_library_that_torch_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(plain, "PEERS", dict.fromkeys(PEERS, lambda: False))
    model = tiny_gpt()
    for peer in PEERS:
        with pytest.raises(BackendRefused, match="no such library"):
            ordinary(model, {"input_ids": np.array([1], np.int32)}, peer)


def test_a_model_is_compared_on_both_grids(tmp_path):
    manifest = write_bert(tmp_path)
    inputs = {"input_ids": np.array([1, 7, 7, 30, 2], np.int32)}
    found = compare(manifest, None, "numpy", inputs, 2)
    assert found["refused"] == {peer: "no such library" for peer, there in PEERS.items() if not there()}
    assert list(found["grids"]) == ["hi", "lo"]
    for grid, row in found["grids"].items():
        run = execute(load_model(manifest, None, grid), inputs, "numpy")
        assert row["output_root"] == bundle_root(run.outputs).hex()
        assert set(row["cost"]) == set(found["ordinary_seconds"])


def test_what_cannot_be_had_is_named_and_the_rest_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "PEERS", dict.fromkeys(PEERS, lambda: False))
    found = compare(dense_model(tmp_path), None, "numpy", {"x": np.ones((2, 4), np.float32)}, 1)
    assert found["ordinary_seconds"] == {}
    assert set(found["refused"]) == set(PEERS)
    assert all(row["execute_seconds"] > 0 and row["cost"] == {} for row in found["grids"].values())


def test_rounds_take_turns_and_ratios_are_within_a_round():
    seen: list[str] = []
    taken = rounds_of({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3)
    assert seen == ["a", "b"] * 4
    assert [len(times) for times in taken.values()] == [3, 3]
    assert ratio([2.0, 9.0, 1.0], [1.0, 3.0, 4.0]) == 2.0
