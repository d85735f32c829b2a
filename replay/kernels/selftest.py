"""Known answers: small programs at worst-case magnitudes, whose exact bits are frozen here.

A backend that gives one other bit is refused before it may judge anybody. ``known_cases`` and ``known_network`` have the programs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import get_args

import numpy as np

from replay.importers.build import Builder
from replay.kernels.known_cases import cases
from replay.kernels.known_inputs import Case
from replay.kernels.state import State
from replay.layout import Array, encode_bundle
from replay.model import Model
from replay.operators import DType, TensorType
from replay.program import Port
from replay.run import NONFINITE, Prepared, evaluate, execute, load_backend, prepare_with

_FROZEN = json.loads(Path(__file__).with_name("known_answers.json").read_bytes())
#: First 16 bytes (hex) of the SHA-256 of each case's output bundle, spec version 1.
KNOWN: Mapping[str, str] = _FROZEN["cases"]
#: First 16 bytes (hex) of the SHA-256 of the roots that ``_judge_roots`` asks for.
ROOTS: str = _FROZEN["roots"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the self-test: ``detail`` is the digest got, with the one wanted when they differ."""

    name: str
    ok: bool
    detail: str


def model_of(case: Case) -> Model:
    """The case's program, which writes ``y``, and its weights."""
    symbols = {"T": len(case.x)} if case.pieces else {}
    ports = []
    for name, array in case.inputs.items():
        dtype: DType = next(known for known in get_args(DType) if array.dtype == np.dtype(known))
        ports.append(Port(name, TensorType(dtype, (*symbols, *array.shape[len(symbols) :]))))
    builder = Builder(ports, symbols, case.grid)
    return builder.model({"y": case.build(builder)}, [])


def compute(case: Case, backend: type) -> bytes:
    """Canonical bytes of what a backend class makes of one case."""
    prepared = prepare_with(backend, model_of(case))
    return encode_bundle(_decoded(prepared, case) if case.pieces else execute(prepared, case.inputs).outputs)


def _decoded(prepared: Prepared, case: Case) -> dict[str, Array]:
    """The output for all tokens, read piece by piece."""
    program, kernels, state = prepared.model.program, prepared.kernels, State()
    (output,) = program.outputs
    parts = []
    for size in case.pieces:
        inputs = {"x": case.x[state.position : state.position + size]}
        values, lost = evaluate(program, kernels, inputs, {"T": size}, state=state)
        if lost is not None:
            return {NONFINITE: np.array(lost, np.int32)}
        parts.append(kernels.unload(values[output.value]))
        state.position += size
    return {output.name: np.concatenate(parts)}


def known_answers(backend: str) -> list[Answer]:
    """Run every case on a backend. Raises ``UnknownBackend``."""
    kind = load_backend(backend)
    return [*(judge(case, compute(case, kind)) for case in cases()), _judge_roots(kind.root)]


def _judge_roots(root: Callable[[Array], bytes]) -> Answer:
    """How a backend hashes: every dtype, rows that fill their tiles or do not, trees of many sizes."""
    made = sha256()
    for dtype in get_args(DType):
        for rows, width in ((1, 1), (1, 256), (2, 255), (3, 257), (5, 512), (7, 1025), (33, 64), (1000, 3)):
            ramp = np.arange(rows * width, dtype=np.int64).reshape(rows, width) * 2_654_435_761 >> 7
            made.update(root((ramp & (1 if dtype == "bool" else 0xFFFF)).astype(dtype)))
    return _answer("roots", made.hexdigest(), ROOTS)


def judge(case: Case, output: bytes) -> Answer:
    return _answer(case.name, sha256(output).hexdigest(), KNOWN.get(case.name, ""))


def _answer(name: str, digest: str, wanted: str) -> Answer:
    got = digest[:32]
    return Answer(name, got == wanted, got if got == wanted else f"{got}, wanted {wanted or 'nothing'}")
