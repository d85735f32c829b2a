"""A prepared model gives its linear weights back from the backend's own form, and nothing else of them is kept."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import one, write_bert
from tiny_gpt import tiny_gpt

from replay.backends import BACKENDS
from replay.held import alone, floats
from replay.importers.build import Builder
from replay.kernels.gridding import grid_rows
from replay.kernels.torch_int8 import vnni
from replay.model import Model, load_model
from replay.run import execute, load_backend, prepare_with
from replay.trace import commit

ALL = (*BACKENDS, "scalar")


def usable(grid: str) -> list[str]:
    return [name for name in ALL if grid == "lo" or vnni() or "int8" not in name]


def rows(seed: int, count: int, length: int) -> np.ndarray:
    """Every exponent that has a grid; the first rows are those that round up to a power of two, zeros and tiny ones."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 1 << 32, (count, length), np.uint64).astype(np.uint32) & np.uint32(0x807FFFFF)
    top = random.integers(1, 226, (count, 1))
    fields = np.clip(top - random.integers(0, 30, (count, length)), 0, 225).astype(np.uint32)
    weight = (bits | fields << np.uint32(23)).view(np.float32)
    weight[0, 0] = np.nextafter(np.float32(4.0), np.float32(0))  # above all others, and just below a power of two
    weight[0, 1:] = random.uniform(-3, 3, length - 1).astype(np.float32)
    weight[1 % count] = -np.abs(weight[1 % count])
    weight[2 % count] = 0.0
    weight[3 % count] = np.float32(1e-40)
    return weight


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 70), st.sampled_from([13, 15, 20, 21, 22]))
def test_numbers_on_a_grid_are_floats_with_the_same_grid(seed, count, length, bits):
    q, e = grid_rows(rows(seed, count, length), bits)
    again = floats(q, e, bits)
    assert again.dtype == np.float32
    same_q, same_e = grid_rows(again, bits)
    assert np.array_equal(same_q, q)
    assert np.array_equal(same_e, e)


@given(st.integers(0, 2**32), st.integers(4, 40), st.integers(1, 70), st.sampled_from(["hi", "lo"]))
@settings(max_examples=25)
def test_every_backend_gives_back_what_the_artefact_holds(seed, count, length, grid):
    weight = rows(seed, count, length)
    builder = Builder(
        [one(np.zeros((2, length), np.float32), lambda b: b.add("relu", ["x"])).program.inputs[0]], {}, grid
    )
    model = builder.model({"y": builder.linear("x", "l", weight, None)}, [])
    bits = model.program.grid_bits["l.weight"]
    q, e = grid_rows(weight, bits)
    for backend in usable(grid):
        kernels = prepare_with(load_backend(backend), model).kernels
        got_q, got_e = kernels.gridded("l.weight")
        assert (got_q.dtype, got_e.dtype) == (np.int32, np.int32)
        assert np.array_equal(got_q, q), backend
        assert np.array_equal(got_e, e), backend


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("grid", ["hi", "lo"])
def test_roots_tiles_and_runs_are_those_of_the_model_that_was_prepared(backend, grid):
    if backend not in usable(grid):
        pytest.skip("this processor has no VNNI: int8 products of grid hi are refused")
    model = tiny_gpt(1, grid=grid)
    held = prepare_with(load_backend(backend), model)
    assert held.model.program_root == model.program_root
    assert held.model.artefact_root == model.artefact_root
    assert held.model.artefact_tiles == model.artefact_tiles
    for tile in (0, 7, model.artefact_tiles - 1):
        assert held.model.artefact_tile(tile) == model.artefact_tile(tile)
    assert list(held.model.weights) == list(model.weights)
    assert len(held.model.weights) == len(model.weights)
    inputs = {"input_ids": np.array([3, 1, 4], np.int32)}
    for again in (held.model, Model(model.program, dict(held.model.weights))):
        assert commit(prepare_with(load_backend("numpy"), again), inputs).leaves == commit(held, inputs).leaves


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_floats_of_linear_weights_are_let_go(backend):
    model = tiny_gpt(1, grid="lo")
    # the head's numbers are those of the embeddings, which stay
    linear = {weight.name for weight in model.program.weights if weight.form == "grid"} - {"head.weight"}
    owners = {name: array if array.base is None else array.base for name, array in model.weights.items()}
    watched = {name: weakref.ref(owners.pop(name)) for name in linear}
    del owners
    held = prepare_with(load_backend(backend), model)
    del model
    gc.collect()
    assert watched
    assert [name for name, owner in watched.items() if owner() is not None] == []
    assert execute(held, {"input_ids": np.array([3, 1, 4], np.int32)}).nonfinite is None


@pytest.mark.parametrize("backend", ["torch", "numpy", "native"])
def test_other_weights_are_held_once_and_not_as_parts_of_a_file(backend, tmp_path):
    held = prepare_with(load_backend(backend), load_model(write_bert(tmp_path)))
    for weight in held.model.program.weights:
        if weight.form == "raw":
            array = held.model.weights[weight.name]
            assert alone(array) is array
            assert np.shares_memory(array, np.asarray(held.kernels._weights[weight.name]))


def test_an_array_of_its_own_is_not_copied():
    whole = np.zeros((4, 6), np.float32)
    assert alone(whole) is whole
    assert np.shares_memory(alone(whole.reshape(24)), whole)
    for part in (whole[1], whole.T, np.frombuffer(bytearray(16), np.float32), np.frombuffer(bytes(16), np.float32)):
        copy = alone(part)
        assert not np.shares_memory(copy, part)
        assert np.array_equal(copy, part)
        assert copy.flags.writeable
