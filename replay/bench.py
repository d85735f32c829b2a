"""What exactness costs: a model on one backend, on both grids, beside the same program in ordinary torch fp32.

All of them take turns in one process, so that a ratio compares what ran a moment apart. Runs inside a worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from replay.errors import BackendRefused, ReplayError
from replay.kernels.ordinary import PEERS, OrdinaryKernels
from replay.kernels.spec import GRIDS
from replay.layout import Array
from replay.model import Model, load_model
from replay.run import Prepared, check_inputs, evaluate, execute, prepare
from replay.trace import receipt

Work = Callable[[], object]


def timed(work: Work) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rounds_of(works: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round, taking turns, after one that does not count."""
    for work in works.values():
        work()
    taken = [{name: timed(work) for name, work in works.items()} for _ in range(rounds)]
    return {name: [row[name] for row in taken] for name in works}


def ratio(times: list[float], base: list[float]) -> float:
    """The median over the rounds."""
    return median(one / other for one, other in zip(times, base, strict=True))


def ordinary(model: Model, inputs: Mapping[str, Array], peer: str) -> Work:
    """One run of the model's program in ordinary torch. Raises ``BackendRefused``, ``InputRejected``."""
    dims, kernels = check_inputs(model.program, inputs), OrdinaryKernels(model.program, model.weights, peer)
    return lambda: evaluate(model.program, kernels, inputs, dims)


def compare(
    manifest: Path, file_digest: bytes | None, backend: str, inputs: Mapping[str, Array], rounds: int
) -> dict[str, Any]:
    """Medians over ``rounds``: seconds of ordinary torch by peer, and for each grid of the backend seconds, ratios to each
    peer and the output root. What cannot be had stands under ``refused`` with a reason, by peer or grid.

    A model without linear layers has one grid only: its manifest's. Raises what ``load_model`` raises, ``InputRejected``.
    """
    plain = load_model(manifest, file_digest)
    works: dict[str, Work] = {}
    held: dict[str, Prepared] = {}
    refused: dict[str, str] = {}
    for peer in PEERS:
        try:
            work = ordinary(plain, inputs, peer)
            work()
            works[peer] = work
        except (BackendRefused, RuntimeError) as error:  # torch's own word for what it cannot do
            refused[peer] = str(error)
    for grid in GRIDS if plain.program.grid_bits else (plain.program.grid,):
        try:
            held[grid] = prepare(load_model(manifest, file_digest, grid), backend)
        except ReplayError as error:
            refused[grid] = str(error)
    works |= {grid: _run(one, inputs) for grid, one in held.items()}
    works |= {f"{grid}, committed": _run(one, inputs, committed=True) for grid, one in held.items()}
    taken = rounds_of(works, rounds)
    peers = [peer for peer in PEERS if peer in taken]
    return {
        "ordinary_seconds": {peer: median(taken[peer]) for peer in peers},
        "grids": {
            grid: {
                "execute_seconds": median(taken[grid]),
                "replay_seconds": median(taken[f"{grid}, committed"]),
                "replays_per_second": 1 / median(taken[f"{grid}, committed"]),
                "cost": {peer: ratio(taken[grid], taken[peer]) for peer in peers},
                "output_root": receipt(inputs, execute(one, inputs), one.kernels.root).output_root.hex(),
            }
            for grid, one in held.items()
        },
        "refused": refused,
    }


def _run(one: Prepared, inputs: Mapping[str, Array], *, committed: bool = False) -> Work:
    if committed:
        return lambda: receipt(inputs, execute(one, inputs), one.kernels.root)
    return lambda: execute(one, inputs)
