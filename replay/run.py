"""Execute a model: the same bits on every backend, thread count and machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from replay.backends import BACKENDS
from replay.errors import BackendRefused, InputRejected, NonFinite, UnknownBackend
from replay.held import alone, held
from replay.kernels import float_mode
from replay.kernels.state import State
from replay.layout import Array
from replay.model import Model
from replay.operators import Operator
from replay.program import Program

#: What the output bundle of a run that is not finite holds: int32[2] = (operator, flat element).
NONFINITE = "nonfinite"


class Computes(Protocol):
    """What runs operators, with one model's weights. ``Any`` is its own tensor type."""

    name: str

    def strays(self) -> str:
        """What keeps threads of its own from exact results (a rounding mode, flushed subnormals); else empty. The calling
        thread is asked by ``evaluate``."""

    def load(self, array: Array) -> Any: ...

    def unload(self, value: Any) -> Array: ...

    def apply(self, op: Operator, values: Sequence[Any], dims: Mapping[str, int], state: State | None = None) -> Any:
        """The operator's result in memory of its own (or its input's, for a reshape). ``state``: the tokens before
        these, for causal programs that run token by token. Raises ``NonFinite``."""


class Kernels(Computes, Protocol):
    """A backend that holds one model's weights."""

    def root(self, array: Array, /) -> bytes:
        """``layout.tensor_root``."""

    def gridded(self, name: str) -> tuple[Array, Array]:
        """A linear weight as it is held: see ``held.Holder``."""


class Backend(Protocol):
    """Makes kernels for a program: the class of each backend."""

    def __call__(self, program: Program, weights: Mapping[str, Array], /) -> Kernels: ...

    def environment(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Prepared:
    """A model whose weights a backend holds in its own form: built once, run often. ``model`` gives its linear weights back
    on their grid, from the backend's."""

    model: Model
    backend: str
    kernels: Kernels
    environment: Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Run:
    """``outputs`` is what the output bundle holds; for a run that became NONFINITE that is ``{"nonfinite": int32[2]}``
    (operator, flat element), and ``boundaries`` holds None for each boundary not reached. ``read`` is what the program has
    read: its inputs, or of a generation the prompt and the tokens that were read after it."""

    read: Mapping[str, Array]
    outputs: Mapping[str, Array]
    boundaries: tuple[Array | None, ...]
    nonfinite: tuple[int, int] | None
    environment: Mapping[str, str]
    seconds: float


#: Backend → the module and the class of its kernels. ``scalar`` is the reference in Python integers: no choice for users, it
#: is far too slow.
_CLASSES: Mapping[str, tuple[str, str]] = {
    "torch": ("replay.kernels.torch_backend", "TorchKernels"),
    "torch-int8": ("replay.kernels.torch_int8", "Int8Kernels"),
    "native": ("replay.kernels.native", "NativeKernels"),
    "native-int8": ("replay.kernels.native", "NativeInt8Kernels"),
    "numpy": ("replay.kernels.numpy_backend", "NumpyKernels"),
    "scalar": ("replay.kernels.scalar", "ScalarKernels"),
}


def load_backend(name: str) -> Any:
    """The class of a backend, unproved. Loads torch only where it is needed. Raises ``UnknownBackend``, and
    ``BackendRefused`` where it cannot be compiled."""
    if name not in _CLASSES:
        raise UnknownBackend(f"{name!r} is none of {', '.join(BACKENDS)}")
    if name.startswith("native"):
        from replay.kernels.native_library import library

        library()
    module, kind = _CLASSES[name]
    return getattr(import_module(module), kind)


@cache
def _proved(name: str) -> Any:
    from replay.kernels.selftest import known_answers

    kind = load_backend(name)
    failed = [answer for answer in known_answers(name) if not answer.ok]
    if failed:
        raise BackendRefused(f"{failed[0].name}: {failed[0].detail}", backend=name, failed=len(failed))
    return kind


def prove(backend: str) -> None:
    """Run a backend's known answers now, once per process. Raises ``UnknownBackend``, ``BackendRefused``."""
    _proved(backend)


def prepare(model: Model, backend: str = "torch") -> Prepared:
    """The model on a backend that has passed its known answers (once per process).

    Raises ``UnknownBackend``, ``BackendRefused``.
    """
    return prepare_with(_proved(backend), model)


def prepare_with(kind: Any, model: Model) -> Prepared:
    """The model on a backend class as given, without the known-answer test."""
    program = model.program
    raw = {weight.name: alone(model.weights[weight.name]) for weight in program.weights if weight.form == "raw"}
    kernels = kind(program, {**model.weights, **raw})
    return Prepared(held(model, raw, kernels), kind.name, kernels, kind.environment)


def execute(model: Model | Prepared, inputs: Mapping[str, Array], backend: str = "torch") -> Run:
    """One run. ``inputs``: name → array, as the program's inputs declare (a bool may come as int32, 0 or 1); ``backend`` counts only for
    a model that is not prepared yet. Raises ``InputRejected``, ``BackendRefused``, and what ``prepare`` raises."""
    prepared = model if isinstance(model, Prepared) else prepare(model, backend)
    program, kernels = prepared.model.program, prepared.kernels
    dims = check_inputs(program, inputs)
    started = time.perf_counter()
    values, nonfinite = evaluate(program, kernels, inputs, dims)
    boundaries = tuple(kernels.unload(values[name]) if name in values else None for name in program.boundaries)
    if nonfinite is None:
        outputs = {result.name: kernels.unload(values[result.value]) for result in program.outputs}
    else:
        outputs = {NONFINITE: np.array(nonfinite, np.int32)}
    seconds = time.perf_counter() - started
    return Run(inputs, outputs, boundaries, nonfinite, fingerprint(prepared), seconds)


def evaluate(
    program: Program,
    kernels: Computes,
    inputs: Mapping[str, Array],
    dims: Mapping[str, int],
    *,
    state: State | None = None,
    observe: Callable[[int, Any], None] | None = None,
    until: int | None = None,
) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """The values still held at the end (boundaries and outputs among them), and where the run became NONFINITE.

    ``inputs`` are checked already. ``state``: earlier tokens of a causal program. ``observe`` sees each operator's index
    and result as it is computed; operators from ``until`` on are left out. Raises ``BackendRefused`` where floating
    point does not round as IEEE 754 does by default: the one way into every run, so that none goes without the question.
    """
    if trouble := float_mode.strays() or kernels.strays():
        raise BackendRefused(trouble, backend=kernels.name)
    ports = {port.name: port.type.dtype for port in program.inputs}
    values: dict[str, Any] = {name: kernels.load(inputs[name].astype(dtype)) for name, dtype in ports.items()}
    for index, op in enumerate(program.operators[:until]):
        try:
            values[op.output] = kernels.apply(op, [values[name] for name in op.inputs], dims, state)
        except NonFinite as found:
            return values, (index, found.element)
        if observe is not None:
            observe(index, values[op.output])
        for name in op.inputs:
            if program.last_use.get(name) == index:
                values.pop(name, None)
    return values, None


def check_inputs(program: Program, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The symbols' values once the inputs are known to fit. Raises ``InputRejected``, which is no evidence of fraud."""
    wanted = [port.name for port in program.inputs]
    if list(inputs) != wanted:
        raise InputRejected(f"the inputs are {[str(name)[:32] for name in inputs]}, the model wants {wanted}")
    for port in program.inputs:
        array = inputs[port.name]
        crossed = port.type.dtype == "bool" and array.dtype == np.int32 and bool(((array == 0) | (array == 1)).all())
        if array.dtype != np.dtype(port.type.dtype) and not crossed:
            raise InputRejected(f"{port.name} is {array.dtype}, the model wants {port.type}")
    dims = program.bind({name: array.shape for name, array in inputs.items()})
    for name, array in inputs.items():
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise InputRejected(f"{name} holds NaN or infinity")
    for op in program.operators:
        if op.kind == "embedding":
            ids, rows = inputs[op.inputs[0]], program.weight(op.weights[0]).shape[0]
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= rows:
                raise InputRejected(
                    f"{op.inputs[0]} holds the id {low if low < 0 else high}, legal are 0 to {rows - 1}"
                )
    return dims


def fingerprint(prepared: Prepared) -> dict[str, str]:
    """What a verdict's environment is: program, spec version, backend, libraries, processor, threads."""
    program = prepared.model.program
    return {
        "program_root": program.root.hex(),
        "spec": str(program.spec_version),
        "grid": program.grid,
        "backend": prepared.backend,
        "cpu": _processor(),
        "cpus": str(os.cpu_count() or 0),
        "system": platform.system(),
        **prepared.environment(),
    }


@lru_cache(maxsize=1)
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
