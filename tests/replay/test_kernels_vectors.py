"""The vectors of spec version 1: what another implementer tests against is what this one computes, on every backend."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from replay.errors import BackendRefused
from replay.kernels import selftest
from replay.kernels.gridding import grid_rows
from replay.kernels.known_cases import cases
from replay.kernels.selftest import compute, model_of
from replay.layout import encode_bundle
from replay.model import Model
from replay.operators import SIGNATURES, Operator, TensorType, WeightSpec
from replay.program import Port, Program, Result
from replay.run import BACKENDS, execute, load_backend, prepare_with

VECTORS = json.loads(Path(__file__).with_name("vectors_v1.json").read_text(encoding="utf-8"))
WHOLE = {name: row for section in ("kernels", "programs") for name, row in VECTORS[section].items() if "header" in row}


def array(row: dict) -> np.ndarray:
    dtype = np.dtype(row["dtype"])
    return np.frombuffer(bytes.fromhex(row["bits"]), f">u{dtype.itemsize}").astype(f"u{dtype.itemsize}").view(
        dtype
    ).reshape(row["shape"])  # fmt: skip


def program(row: dict) -> Program:
    """From JSON alone, as another implementation would read it."""
    header = row["header"]
    ports = tuple(Port(one["name"], TensorType(one["dtype"], tuple(one["shape"]))) for one in header["inputs"])
    weights = tuple(WeightSpec(w["name"], w["dtype"], tuple(w["shape"]), w["form"]) for w in header["weights"])
    operators = tuple(
        Operator(
            op["kind"],
            tuple(op["inputs"]),
            op["output"],
            tuple(op["weights"]),
            {name: tuple(value) if isinstance(value, list) else value for name, value in op["attributes"].items()},
        )
        for op in row["operators"]
    )
    outputs = tuple(Result(one["name"], one["value"]) for one in header["outputs"])
    return Program(
        header["symbols"],
        ports,
        weights,
        operators,
        outputs,
        tuple(header["boundaries"]),
        header["tokenizer"],
        header["spec"],
        header["grid"],
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_programs_that_are_written_down_whole(backend):
    """Each is read from the file alone: program, weights, inputs; its root and its output are what the file says."""
    for name, row in WHOLE.items():
        made = program(row)
        assert made.root.hex() == row["root"], name
        model = Model(made, {label: array(weight) for label, weight in row["weights"].items()})
        inputs = {label: array(value) for label, value in row["inputs"].items()}
        try:
            run = execute(prepare_with(load_backend(backend), model), inputs)
        except BackendRefused:
            assert "int8" in backend
            continue
        wanted = {label: array(value) for label, value in row["outputs"].items()}
        assert encode_bundle(run.outputs) == encode_bundle(wanted), name


def test_every_kind_is_written_down_whole_and_known():
    assert {op["kind"] for row in WHOLE.values() for op in row["operators"]} == set(SIGNATURES)
    assert {name.split("/")[0] for name in VECTORS["programs"]} == set(SIGNATURES)
    assert {op.kind for case in cases() for op in model_of(case).program.operators} == set(SIGNATURES)
    assert len({case.name for case in cases()}) == len(cases()) == len(selftest.KNOWN) == len(VECTORS["kernels"])


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_known_answers_are_the_vectors(case):
    row = VECTORS["kernels"][case.name]
    assert sha256(encode_bundle(case.inputs)).hexdigest() == row["input"]
    output = compute(case, load_backend("numpy"))
    assert sha256(output).hexdigest() == row["output"]
    assert selftest.KNOWN[case.name] == row["output"][:32]
    if case.pieces:
        assert sum(case.pieces) == len(case.x)
        assert output == compute(replace(case, pieces=()), load_backend("numpy"))


def test_baits_catch_what_they_are_for():
    """A sum rounded once, and an integer rounded by way of fp64, would give other bits."""
    known = {case.name: case for case in cases()}
    wide = known["cast/rounds once"].x
    assert (wide.astype(np.float32) != wide.astype(np.float64).astype(np.float32)).all()
    for grid in ("hi", "lo"):
        row = VECTORS["kernels"][f"linear/{grid}/twice"]
        up, down, plain = array(row["outputs"]["y"]).T
        assert (up == plain).all()
        assert (down == plain).all()
        assert np.abs(plain).tolist() == [1, 1 + 2**-22, 1, 1 + 2**-22]


def test_grid_vector():
    row = VECTORS["grid_rows_2x4"]
    weight = np.array([int(text, 16) for text in row["weight"]], np.uint32).view(np.float32).reshape(2, 4)
    q, e = grid_rows(weight, 22)
    assert q.reshape(-1).tolist() == row["q"]
    assert e.tolist() == row["exponents"]
