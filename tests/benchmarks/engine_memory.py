"""What one execution of the 12 × 768 stack holds in memory: ``python -m tests.benchmarks.engine_memory NAME GRID LAYERS``.

Prints one JSON object, megabytes of resident memory above those of a process that has only loaded the libraries: ``peak``
while the stack runs, all that a prepared model holds included, and ``opened``, the same once a tile of the weights was
opened, whose tree is then kept. NAME is ``ordinary`` (torch fp32, whose two figures are one) or a backend. Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch

from replay.bench import ordinary
from replay.run import execute, load_backend, prepare_with
from tests.benchmarks.engine_stack import TOKENS, WIDTH, stack


def resident() -> int:
    """Bytes, after giving back what is free."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes resident while it ran twice."""
    resident()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    work()
    work()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    name, grid, layers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    kind = None if name == "ordinary" else load_backend(name)
    x = np.random.default_rng(1).standard_normal((TOKENS, WIDTH)).astype(np.float32)
    before = resident()
    model = stack(grid, layers)
    size = sum(array.nbytes for array in model.weights.values())
    if kind is None:
        work = ordinary(model, {"x": x}, "torch_fp32_mkl")
    else:
        prepared = prepare_with(kind, model)

        def work() -> object:
            return execute(prepared, {"x": x})

    del model
    peak = opened = peak_of(work) - before
    if kind is not None:
        prepared.model.artefact_tile(0)
        opened = peak_of(work) - before
    print(json.dumps({"peak": peak >> 20, "opened": opened >> 20, "weights_fp32": size >> 20}))


if __name__ == "__main__":
    main()
