"""Honest machines never differ: many models, shapes and inputs on every backend, each operator's bits compared."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import pytest
from replay_programs import write_bert
from small_model import dense_model
from tiny_gpt import VOCABULARY, tiny_gpt

from replay.backends import BACKENDS
from replay.errors import BackendRefused
from replay.importers.build import Builder
from replay.model import Model, load_model
from replay.operators import TensorType
from replay.program import Port
from replay.run import Prepared, check_inputs, evaluate, prepare

#: Runs of one machine that are compared with another's; .ci/full does the ten thousand that docs/replay.md speaks of.
RUNS = int(os.environ.get("CHALLENGER_TEST_RUNS", "3000"))


def available() -> list[str]:
    """The backends that this machine can prove. NumPy and torch must be among them."""
    found = []
    for name in BACKENDS:
        try:
            prepare(tiny_gpt(), name)
        except BackendRefused:
            assert name not in ("torch", "numpy")
            continue
        found.append(name)
    return found


def chain(dice: random.Random) -> Model:
    """A random stack of elementwise operators, norms, sums and products on float32 [B, n]."""
    width = dice.choice([1, 3, 8, 33, 130, 257])
    b = Builder([Port("x", TensorType("float32", ("B", width)))], {"B": 64}, dice.choice(["hi", "lo"]))
    random_ = np.random.default_rng(dice.randrange(2**32))
    x = "x"
    for step in range(dice.randrange(2, 7)):
        kind = dice.choice(
            ["linear", "norm", "rms", "softmax", "relu", "gelu_erf", "tanh", "silu", "sin", "add", "mul"]
        )
        if kind == "linear":
            rows = dice.choice([1, 2, 16, 65])
            width_now = b.types[x].shape[-1]
            weight = random_.standard_normal((rows, width_now)).astype(np.float32) * np.float32(
                10 ** dice.uniform(-6, 4)
            )
            bias = random_.standard_normal(rows).astype(np.float32) if dice.random() < 0.5 else None
            x = b.linear(x, f"l{step}", weight, bias)
        elif kind in ("norm", "rms"):
            gain = random_.standard_normal(b.types[x].shape[-1]).astype(np.float32)
            x = (
                b.rms_norm(x, f"n{step}", gain, 1e-6)
                if kind == "rms"
                else b.layer_norm(x, f"n{step}", gain, gain, 1e-5)
            )
        elif kind in ("add", "mul"):
            x = b.add(kind, [x, x])
        else:
            x = b.add(kind, [x])
    return b.model({"y": b.add("relu", [x])}, [])


def measured(model: Model, dice: random.Random) -> dict[str, np.ndarray]:
    """Values of awkward sizes: most runs stay finite, some do not, and all must agree on where."""
    (port,) = model.program.inputs
    rows = dice.randrange(1, 20)
    shape = [rows if isinstance(dim, str) else dim for dim in port.type.shape]
    random_ = np.random.default_rng(dice.randrange(2**32))
    x = random_.standard_normal(shape) * 10.0 ** random_.uniform(-30, dice.choice([1, 1, 8, 30]), shape)
    return {port.name: x.astype(np.float32)}


def jobs(folder, count: int) -> Iterator[tuple[Model, dict[str, np.ndarray]]]:
    dice = random.Random(20261125)
    fixed = [tiny_gpt(seed, grid=grid, layers=1 + seed % 2) for seed, grid in itertools.product(range(3), ["hi", "lo"])]
    berts = [load_model(write_bert(folder / f"bert{seed}", seed=seed)) for seed in range(3)]
    dense = [load_model(dense_model(folder / f"dense{wide}", wide=wide)) for wide in (5, 40, 300)]
    made: list[Model] = []
    for number in range(count):
        if number % 5 == 0:
            made = [*made[-20:], chain(dice)]
        model = dice.choice([*fixed, *berts, *dense, *made])
        if model.program.inputs[0].type.dtype == "int32":
            rows = 40 if any(model is one for one in berts) else VOCABULARY
            tokens = [dice.randrange(rows) for _ in range(dice.randrange(1, 30))]
            yield model, {"input_ids": np.array(tokens, np.int32)}
        else:
            yield model, measured(model, dice)


def fingerprint(prepared: Prepared, inputs: dict[str, np.ndarray]) -> tuple[str, object]:
    """A hash over every operator's output, and where the run stopped being finite."""
    digest = sha256()
    dims = check_inputs(prepared.model.program, inputs)
    kernels = prepared.kernels
    _, lost = evaluate(
        prepared.model.program, kernels, inputs, dims, observe=lambda _, y: digest.update(kernels.unload(y).tobytes())
    )
    return digest.hexdigest(), lost


@pytest.mark.slow
def test_honest_machines_agree_on_every_operator(tmp_path):
    names = available()
    cache: dict[tuple[int, str], Prepared] = {}
    compared, lost = 0, 0
    kept: list[Model] = []
    for number, (model, inputs) in enumerate(jobs(tmp_path, RUNS // (len(names) - 1))):
        kept.append(model)  # so that an id names one model only
        seen = []
        for name in names:
            key = (id(model), name)
            if key not in cache:
                cache[key] = prepare(model, name)
            seen.append(fingerprint(cache[key], inputs))
        assert len(set(seen)) == 1, (number, dict(zip(names, seen, strict=True)))
        compared += len(names) - 1
        lost += seen[0][1] is not None
    print(f"{compared} comparisons over {', '.join(names)}: 0 mismatches; {lost} runs were not finite")
    assert lost > 0
    assert compared >= RUNS * 0.9
