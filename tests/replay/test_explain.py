"""One scalar explained in plain integers is the scalar that both backends computed."""

from __future__ import annotations

import random

import numpy as np
import pytest
from replay_programs import BACKENDS, write_bert
from tiny_gpt import tiny_gpt

from replay.errors import LayoutError
from replay.explain import Attention, DotProduct, Element, attention, explain
from replay.importers.build import Builder
from replay.model import Model, load_model
from replay.operators import TensorType
from replay.program import Port
from replay.run import load_backend, prepare_with
from replay.witness import Witness


def products() -> tuple[Model, dict[str, np.ndarray]]:
    """Matmul of two inputs with K = 700: three tiles of terms, in two batches."""
    x, y = Port("x", TensorType("float32", (2, 3, 700))), Port("y", TensorType("float32", (2, 5, 700)))
    builder = Builder([x, y], {})
    random_ = np.random.default_rng(1)
    inputs = {port.name: random_.standard_normal(port.type.shape).astype(np.float32) for port in (x, y)}
    return builder.model({"z": builder.matmul("x", "y")}, []), inputs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Witness]:
    ids = {"input_ids": np.array([3, 1, 4, 1, 5, 9, 2, 6], np.int32)}
    bert = load_model(write_bert(tmp_path_factory.mktemp("bert")))
    cases = [(tiny_gpt(), ids), (tiny_gpt(2, grid="lo"), ids), (bert, ids), products()]
    return [
        Witness(prepare_with(load_backend(backend), model), inputs) for model, inputs in cases for backend in BACKENDS
    ]


def bits(run: Witness, operator: int, element: int) -> int:
    return int(run.tensor(operator).reshape(-1)[element : element + 1].view(np.uint32)[0])


def test_every_kind_of_element_is_what_its_explanation_says(runs):
    dice = random.Random(1)
    seen = set()
    for run in runs:
        for operator, op in enumerate(run.program.operators):
            element = dice.randrange(run.tensor(operator).size)
            found = explain(run, operator, element)
            seen.add(type(found))
            wanted = bits(run, operator, element)
            if isinstance(found, Attention):
                channel = element % op.integer("head_dim")
                assert found.row.bits[channel] == wanted
                assert found.row.total == sum(found.row.rounded)
                assert max(one.exponent for one in found.values) == found.row.exponent
            else:
                assert found.bits == wanted
    assert seen == {DotProduct, Attention, Element}


def test_partial_sums_and_exponents_can_be_checked_by_hand(runs):
    run = runs[-1]
    found = explain(run, 0, 22)
    assert isinstance(found, DotProduct)
    assert (found.row, found.column, len(found.sums)) == (4, 2, 3)
    x, y = (array.astype(np.float64) for array in run.reads(0))
    exact = x.reshape(6, 700)[4] @ y[1][2]
    assert abs(sum(found.sums) * 2.0**found.power - exact) < 1e-4
    row = run.reads(0)[0].reshape(6, 700)[4]
    assert np.abs(row)[found.left.witness] == np.abs(row).max()
    assert int(np.abs(row[found.left.witness : found.left.witness + 1]).view(np.int32)[0]) >> 23 == found.left.exponent


def test_what_is_not_there_is_refused(runs):
    run = runs[0]
    with pytest.raises(LayoutError, match="no element"):
        explain(run, 0, 10**9)
    with pytest.raises(LayoutError, match="no element"):
        explain(run, 0, -1)
    place = next(i for i, op in enumerate(run.program.operators) if op.kind == "attention")
    reads = [np.full_like(array, np.float32(2.0**120)) for array in run.reads(place)]
    with pytest.raises(LayoutError, match="not finite"):
        attention(run.program.operators[place], reads, 0, 0)
