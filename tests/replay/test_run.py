"""Running a model: what it refuses, what it reports, and that neither threads nor repetition change a bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from replay_programs import BACKENDS, one, write_bert

from replay.errors import InputRejected, UnknownBackend
from replay.importers.build import Builder
from replay.model import load_model
from replay.operators import TensorType
from replay.program import Port
from replay.run import check_inputs, execute, prepare


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_model(write_bert(tmp_path_factory.mktemp("bert")))


def ids(*values):
    return {"input_ids": np.array(values, np.int32)}


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({}, "wants"),
        ({"ids": np.zeros(3, np.int32)}, "wants"),
        ({**ids(1), "more": np.zeros(1, np.int32)}, "wants"),
        ({"input_ids": np.zeros(3, np.float32)}, "float32"),
        ({"input_ids": np.zeros(3, np.int64)}, "int64"),
        ({"input_ids": np.zeros((1, 3), np.int32)}, "dimensions"),
        ({"input_ids": np.zeros(0, np.int32)}, "wants"),
        ({"input_ids": np.zeros(33, np.int32)}, "wants"),
        (ids(1, 40), "id 40"),
        (ids(1, -1), "id -1"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_that_do_not_fit(bert, backend, inputs, why):
    with pytest.raises(InputRejected, match=why):
        execute(bert, inputs, backend)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_is_finite(value):
    model = one(np.ones((1, 2), np.float32), lambda b: b.add("relu", ["x"]))
    with pytest.raises(InputRejected, match="NaN"):
        check_inputs(model.program, {"x": np.array([[1, value]], np.float32)})


def test_there_are_two_backends(bert):
    with pytest.raises(UnknownBackend, match="cuda"):
        prepare(bert, "cuda")


@pytest.mark.parametrize("tokens", [1, 2, 17, 32])
def test_both_backends_give_one_result(bert, tokens):
    random = np.random.default_rng(tokens)
    inputs = {"input_ids": random.integers(0, 40, tokens).astype(np.int32)}
    runs = [execute(bert, inputs, backend) for backend in BACKENDS]
    for run in runs:
        assert run.nonfinite is None
        assert run.outputs["embedding"].tobytes() == runs[0].outputs["embedding"].tobytes()
        assert [b.tobytes() for b in run.boundaries] == [b.tobytes() for b in runs[0].boundaries]
    assert len(runs[0].boundaries) == 3
    assert abs(float(np.linalg.norm(runs[0].outputs["embedding"])) - 1) < 1e-6


def test_a_prepared_model_can_be_used_again(bert):
    prepared = prepare(bert, "torch")
    long, short = ids(*range(32)), ids(5, 6)
    first = execute(prepared, long)
    kept = first.outputs["embedding"].tobytes(), [b.tobytes() for b in first.boundaries]
    alone = execute(prepare(bert, "torch"), short).outputs["embedding"].tobytes()
    assert execute(prepared, short).outputs["embedding"].tobytes() == alone
    assert (first.outputs["embedding"].tobytes(), [b.tobytes() for b in first.boundaries]) == kept
    assert execute(prepared, long).outputs["embedding"].tobytes() == kept[0]


def test_the_environment_says_what_ran(bert):
    run = execute(bert, ids(1, 2), "torch")
    assert run.environment["backend"] == "torch"
    assert run.environment["program_root"] == bert.program_root.hex()
    assert run.environment["spec"] == "1"
    assert {"torch", "threads", "cpu", "grid"} <= set(run.environment)
    assert run.seconds > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nonfinite_names_operator_and_element(backend):
    """Boundaries written before the operator stay; those behind it are not reached."""
    builder = Builder([Port("x", TensorType("float32", ("B", 2)))], {"B": 9})
    scale = builder.weight("scale", np.array([1.0, 2.0**90], np.float32))
    first = builder.add("mul", ["x"], [scale], name="first")
    second = builder.add("mul", [first, first], name="second")
    third = builder.add("relu", [second], name="third")
    model = builder.model({"y": third}, [first, second])
    x = np.ones((3, 2), np.float32)
    run = execute(model, {"x": x}, backend)
    assert run.nonfinite == (1, 1)
    assert run.outputs["nonfinite"].tolist() == [1, 1]
    assert run.outputs["nonfinite"].dtype == np.int32
    assert run.boundaries[0].shape == (3, 2)
    assert run.boundaries[1] is None


def test_numpy_needs_no_torch(tmp_path):
    """A worker that confirms on NumPy never pays for torch."""
    manifest = write_bert(tmp_path)
    code = (
        "import sys, numpy as np; from pathlib import Path; from replay.model import load_model;"
        "from replay.trace import commit; model = load_model(Path(sys.argv[1]));"
        "commit(model, {'input_ids': np.arange(5, dtype=np.int32)}, 'numpy');"
        "print([name for name in ('torch', 'onnx', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(manifest)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
