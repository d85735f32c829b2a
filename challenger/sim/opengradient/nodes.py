"""Nodes that answer inferences: on ordinary kernels as nodes do, or as they should not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from challenger.protocols.opengradient.numbers import (
    MAX_DECIMALS,
    DecimalsRefused,
    Number,
    NumberTensor,
    encode,
    encode_tensor,
)
from challenger.protocols.opengradient.wire import Mode, ModelInput, ModelOutput, Request
from challenger.sim.opengradient.hub import Planned
from replay.artifacts.ipfs.build import file_cid
from replay.kernels.ordinary import PEERS, OrdinaryKernels
from replay.layout import Array
from replay.model import Model, load_model
from replay.run import check_inputs, evaluate, execute


class Conduct(StrEnum):
    """What a node does with a request."""

    HONEST = "honest"
    """Runs the model on ordinary kernels."""
    CANONICAL = "canonical"
    """Runs the model on the canonical numerics."""
    ROUNDED = "rounded"
    """Runs it, and answers with three decimals."""
    OFF = "off"
    """Answers with something near, and not near enough."""
    SIMULATED = "simulated"
    """Has the answer of a simulation committed."""
    MISSING = "missing"
    """Commits an id and no answer."""
    MALFORMED = "malformed"
    """Commits a number that the protocol does not have."""
    SWAPPED = "swapped"
    """Serves another model than was asked for, and says so."""
    TWIN = "twin"
    """Serves another model under the name of the one asked for."""


#: Conduct → what an audit has to find of it, where the model that was served is published.
FOUND: Mapping[Conduct, frozenset[str]] = {
    Conduct.HONEST: frozenset(),
    Conduct.CANONICAL: frozenset(),
    Conduct.ROUNDED: frozenset({"distant-output"}),
    Conduct.OFF: frozenset({"distant-output"}),
    Conduct.SIMULATED: frozenset({"simulated-result"}),
    Conduct.MISSING: frozenset({"no-result"}),
    Conduct.MALFORMED: frozenset({"malformed-number"}),
    Conduct.SWAPPED: frozenset({"request-substituted"}),
    Conduct.TWIN: frozenset({"distant-output"}),
}


@dataclass(frozen=True, slots=True)
class Served:
    """A model as it is registered: its file, and the CID of the file's bytes."""

    file: Path
    cid: str
    model: Model


def served(manifest: Path) -> Served:
    """The ONNX model at ``manifest``."""
    file = manifest.parent / "model.onnx"
    with file.open("rb") as opened:
        cid = str(file_cid(opened))
    return Served(file, cid, load_model(manifest))


def request(model: Served, inputs: Mapping[str, Array]) -> Request:
    numbers = tuple(encode_tensor(name, array) for name, array in inputs.items())
    return Request(Mode.VANILLA, model.cid, ModelInput(numbers))


class Nodes:
    """Compute in this process. Ids are ``name-0``, ``name-1`` and so on."""

    def __init__(self, name: str = "inference") -> None:
        self._name = name
        self._count = 0

    def answer(
        self, model: Served, inputs: Mapping[str, Array], conduct: Conduct, twin: Served | None = None
    ) -> Planned:
        """``twin``: the model that is served in place of the one asked for."""
        inference = f"{self._name}-{self._count}"
        self._count += 1
        if conduct is Conduct.MISSING:
            return Planned(inference, ModelOutput(()))
        ran = twin if twin is not None and conduct in (Conduct.SWAPPED, Conduct.TWIN) else model
        outputs = canonical(ran, inputs) if conduct is Conduct.CANONICAL else _ordinary(ran, inputs)
        if conduct is Conduct.ROUNDED:
            outputs = {name: np.round(array, 3) for name, array in outputs.items()}
        if conduct is Conduct.OFF:
            outputs = {name: _off(array) for name, array in outputs.items()}
        numbers = tuple(told(name, array) for name, array in outputs.items())
        if conduct is Conduct.MALFORMED:
            numbers = (numbers[0]._replace(values=(Number(1, -400), *numbers[0].values[1:])), *numbers[1:])
        output = ModelOutput(numbers, simulated=conduct is Conduct.SIMULATED)
        return Planned(inference, output, ran.cid if conduct is Conduct.SWAPPED else "")


def told(name: str, array: Array) -> NumberTensor:
    """``array`` as a node tells it: what has more decimals than there may be is rounded to the last one."""
    return NumberTensor(name, tuple(_number(one) for one in array.flatten()), array.shape)


def _number(value: Any) -> Number:
    try:
        return encode(value)
    except DecimalsRefused:
        nearest = Decimal(str(value)).quantize(Decimal(1).scaleb(-MAX_DECIMALS), ROUND_HALF_EVEN)
        return encode(float(nearest)) if not nearest else Number(int(nearest.scaleb(MAX_DECIMALS)), MAX_DECIMALS)


def _ordinary(model: Served, inputs: Mapping[str, Array]) -> dict[str, Array]:
    peer = next(name for name, there in PEERS.items() if there())
    program = model.model.program
    kernels = OrdinaryKernels(program, model.model.weights, peer)
    values, _ = evaluate(program, kernels, inputs, check_inputs(program, inputs))
    return {result.name: kernels.unload(values[result.value]) for result in program.outputs}


def canonical(model: Served, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return dict(execute(model.model, inputs, "numpy").outputs)


def _off(array: Array) -> Array:
    return array + array.dtype.type(1) if array.dtype.kind == "i" else array * np.float32(1.05) + np.float32(0.01)
