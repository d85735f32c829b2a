"""Execute a model: the same bits on every backend, thread count and machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from replay.layout import Array
from replay.model import Model

BACKENDS = ("torch", "numpy")


class Kernels(Protocol):
    """A backend, loaded with one model's weights."""


@dataclass(frozen=True)
class Prepared:
    """A model whose weights a backend holds in its own form: built once, run often."""

    model: Model
    backend: str
    kernels: Any


@dataclass(frozen=True)
class Run:
    """``outputs`` is what the output bundle holds; for a run that became NONFINITE that is ``{"nonfinite": int32[2]}``
    (operator, flat element), and ``boundaries`` holds None for each boundary not reached."""

    outputs: Mapping[str, Array]
    boundaries: tuple[Array | None, ...]
    nonfinite: tuple[int, int] | None
    environment: Mapping[str, str]
    seconds: float


def prepare(model: Model, backend: str = "torch") -> Prepared:
    """The model on a backend that has passed its known answers. Raises ``UnknownBackend``, ``BackendRefused``."""
    raise NotImplementedError


def execute(model: Model | Prepared, inputs: Mapping[str, Array], backend: str = "torch") -> Run:
    """One run. ``inputs``: name → float32 or int32 array, as the program's inputs declare. Raises ``InputRejected``."""
    raise NotImplementedError
