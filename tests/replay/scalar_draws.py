"""Awkward arrays at random, and the comparison of the scalar reference with NumPy and torch on a small program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from replay.importers.build import Builder
from replay.layout import encode_bundle
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port
from replay.run import Run, execute, load_backend, prepare_with


@dataclass(frozen=True)
class Case:
    inputs: dict[str, np.ndarray]
    build: Callable[[Builder], str]
    grid: str = "hi"
    symbols: tuple[str, ...] = ()


def model_of(case: Case) -> Model:
    """The case's program, which writes ``y``; its first dimension is T, at most 64, where the case has symbols."""
    symbols = {"T": 64} if case.symbols else {}
    ports = [
        Port(name, TensorType(str(array.dtype), (*case.symbols, *array.shape[len(case.symbols) :])))
        for name, array in case.inputs.items()
    ]
    builder = Builder(ports, symbols, case.grid)
    return builder.model({"y": case.build(builder)}, [])


def run_both(case: Case) -> Run:
    """The run on NumPy, once those on torch and on the scalar reference are the same in every bit."""
    model = model_of(case)
    first, *others = (
        execute(prepare_with(load_backend(name), model), case.inputs) for name in ("numpy", "torch", "scalar")
    )
    for other in others:
        assert first.nonfinite == other.nonfinite
        assert encode_bundle(first.outputs) == encode_bundle(other.outputs), (case, first.outputs, other.outputs)
    return first


AWKWARD = [0, 0x80000000, 1, 0x80000001, 0x7FFFFF, 0x800000, 0x3F800000, 0xBF800000, 0x3F000000, 0x3F000001]
LEVELS = [(100, 130), (120, 130), (127, 127), (0, 30), (60, 200), (0, 254), (200, 225), (224, 228), (126, 131)]


def floats(random, *shape, level: tuple[int, int] | None = None) -> np.ndarray:
    """float32 of both signs, biased exponents in ``level`` (one of LEVELS if none), now and then awkward values or ties."""
    low, high = LEVELS[random.integers(len(LEVELS))] if level is None else level
    bits = random.integers(0, 2**23, shape, dtype=np.uint32)
    bits |= random.integers(low, high + 1, shape, dtype=np.uint32) << np.uint32(23)
    bits |= random.integers(0, 2, shape, dtype=np.uint32) << np.uint32(31)
    if random.integers(2):
        bits = np.where(random.random(shape) < 0.15, random.choice(np.array(AWKWARD, np.uint32), shape), bits)
    if random.integers(3) == 0:  # few mantissa bits: equal values and ties
        bits = bits & np.uint32(0xFFF00000)
    return bits.astype(np.uint32).view(np.float32)


TAME = (110, 130)
#: Where Model's weights may stand: gridded ones below 2¹⁰⁰.
WEIGHT = (100, 135)


class Wide(np.random.Generator):
    """Numbers at random for larger shapes than the scalar reference could do."""

    def __init__(self, *seed: int) -> None:
        super().__init__(np.random.PCG64(seed))


def sizes(random, count: int, most: int = 6) -> list[int]:
    if isinstance(random, Wide):
        most *= 10 if count <= 2 else 3
    return random.integers(1, most + 1, count).tolist()


def integers(random, dtype: str, *shape) -> np.ndarray:
    """Small numbers, large ones, and the limits."""
    info = np.iinfo(dtype)
    small = random.integers(-6, 7, shape)
    wide = random.integers(info.min, info.max, shape, endpoint=True)
    limits = random.choice([info.min, info.max, info.min + 1, -1, 0, 1], shape)
    return np.choose(random.integers(0, 3, shape), [small, wide, limits]).astype(dtype)


def some(random, dtype: str, *shape) -> np.ndarray:
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    return floats(random, *shape) if dtype == "float32" else integers(random, dtype, *shape)


def any_type(random, *, ints: bool = True, reals: bool = True, truths: bool = False) -> str:
    known = ["float32"] * (2 * reals) + ["int32", "int64"] * ints + ["bool"] * truths
    return known[random.integers(len(known))]
