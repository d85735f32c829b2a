"""The engine's backends beside ordinary torch, in one run: a 12 × 768 stack and MiniLM, memory, boundary commitments,
generation, and the digits model beside onnxruntime.

``python -m tests.benchmarks.bench_engine [--quick] [--threads N]`` prints one JSON object. A ``cost`` is our time over that
of ordinary torch fp32 on MKL (1 is equal, below 1 is faster): the median over interleaved rounds; ``torch_fp32_onednn`` is
the same network with every linear layer forced to oneDNN, ``memory`` the peak over that of ordinary torch, weights
included. ``targets`` has each figure aimed at with the best backend's and whether it holds. ``--quick`` has a third of the
layers and of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from replay.backends import BACKENDS
from replay.bench import Work, ordinary, ratio, rounds_of, timed
from replay.errors import BackendRefused
from replay.generate import Decoder, generate, read_job
from replay.importers.build import Builder
from replay.kernels.ordinary import PEERS, OrdinaryKernels
from replay.kernels.state import State
from replay.model import Model, load_model
from replay.operators import TensorType
from replay.program import Port
from replay.run import Prepared, evaluate, execute, prepare
from replay.sampling import Sampling
from replay.trace import commit, receipt
from tests.benchmarks.bench_replay import minilm
from tests.benchmarks.engine_stack import LAYERS, TOKENS, WIDTH, stack

GRIDS = ("hi", "lo")
VOCABULARY = 1000
#: what is aimed at → (section, the backends that may reach it, at most)
TARGETS: Mapping[str, tuple[str, tuple[str, ...], float]] = {
    "stack hi by dgemm": ("stack", ("torch hi",), 1.9),
    "stack hi by integers": ("stack", ("native hi", "native-int8 hi", "torch-int8 hi"), 1.5),
    "stack lo": ("stack", ("native lo", "native-int8 lo", "torch-int8 lo"), 0.9),
    "MiniLM hi by dgemm": ("minilm", ("torch hi",), 2.5),
    "MiniLM hi by integers": ("minilm", ("native hi", "native-int8 hi", "torch-int8 hi"), 2.0),
    "MiniLM lo": ("minilm", ("native lo", "native-int8 lo", "torch-int8 lo"), 1.5),
    "commitment of the fastest, hi": ("commitment", ("of the fastest, hi",), 0.05),
    "commitment of the fastest, lo": ("commitment", ("of the fastest, lo",), 0.05),
    "memory": ("memory", ("native hi", "torch-int8 hi"), 1.3),
    "check over decode": ("generation", ("check_over_decode",), 0.1),
}
MKL = "torch_fp32_mkl"


def costs(taken: Mapping[str, list[float]], base: str) -> dict[str, float]:
    """Each one's median ratio to ``base``, and the base in milliseconds."""
    found = {f"{base}_ms": round(1e3 * statistics.median(taken[base]), 3)}
    for name, times in taken.items():
        if name != base:
            found[name] = round(ratio(times, taken[base]), 3)
    return found


def prepared(models: Mapping[str, Model], refused: dict[str, str]) -> dict[str, Prepared]:
    """``backend grid`` → the model prepared; a backend that this machine cannot have is noted in ``refused``."""
    found = {}
    for grid, model in models.items():
        for backend in BACKENDS:
            if backend == "numpy":
                continue
            try:
                found[f"{backend} {grid}"] = prepare(model, backend)
            except BackendRefused as error:
                refused[f"{backend} {grid}"] = str(error)
    return found


def hashing(one: Prepared, x: np.ndarray) -> float:
    """Seconds that the commitment to a run takes by itself."""
    run = execute(one, {"x": x})
    return statistics.median(timed(lambda: receipt({"x": x}, run, one.kernels.root)) for _ in range(9))


def measure_stack(rounds: int, layers: int, refused: dict[str, str]) -> tuple[dict[str, float], dict[str, float]]:
    """(costs, the time that hashing the boundaries takes over a run on ``torch hi`` and on each grid's fastest backend)."""
    x = np.random.default_rng(1).standard_normal((TOKENS, WIDTH)).astype(np.float32)
    models = {grid: stack(grid, layers) for grid in GRIDS}
    works = {peer: ordinary(models["hi"], {"x": x}, peer) for peer in PEERS}
    held = prepared(models, refused)
    works |= {name: lambda one=one: execute(one, {"x": x}) for name, one in held.items()}
    taken = rounds_of(works, rounds)
    share = {"of torch hi": hashing(held["torch hi"], x) / statistics.median(taken["torch hi"])}
    for grid in GRIDS:
        fastest = min((name for name in held if name.endswith(grid)), key=lambda name: statistics.median(taken[name]))
        share[f"of the fastest, {grid}"] = hashing(held[fastest], x) / statistics.median(taken[fastest])
    return costs(taken, MKL), {name: round(value, 4) for name, value in share.items()}


def measure_minilm(rounds: int, refused: dict[str, str]) -> dict[str, float]:
    models = {grid: minilm(grid) for grid in GRIDS}
    ids = (np.arange(128, dtype=np.int64) * 7919 % 28_000 + 1_000).astype(np.int32)
    works = {peer: ordinary(models["hi"], {"input_ids": ids}, peer) for peer in PEERS}
    for name, one in prepared(models, refused).items():
        works[name] = lambda one=one: execute(one, {"input_ids": ids})
    return costs(rounds_of(works, rounds), MKL)


def measure_memory(layers: int, refused: Mapping[str, str]) -> dict[str, object]:
    """Fresh processes; a ratio is the peak over that of ordinary torch, a prepared model held and nothing else of it."""

    def child(name: str, grid: str) -> dict[str, int]:
        command = [sys.executable, "-m", "tests.benchmarks.engine_memory", name, grid, str(layers)]
        found: dict[str, int] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return found

    base = child("ordinary", "hi")
    found: dict[str, object] = {"ordinary_mb": base}
    for name in ("torch hi", "torch-int8 hi", "native hi", "native lo"):
        if name not in refused:
            own = child(*name.split())
            found[name] = round(own["peak"] / base["peak"], 3)
            found[f"{name}, tiles opened"] = round(own["opened"] / base["peak"], 3)
    return found


def language_model(base: Model) -> Model:
    """The stack with a small vocabulary around it."""
    random = np.random.default_rng(2)
    table = (random.standard_normal((VOCABULARY, WIDTH)) * 0.02).astype(np.float32)
    b = Builder([Port("input_ids", TensorType("int32", ("T",)))], {"T": 1024}, base.program.grid)
    renamed = {"x": b.add("embedding", ["input_ids"], [b.weight("words", table)])}
    for weight in base.program.weights:
        b.weight(weight.name, base.weights[weight.name], weight.form)
    for op in base.program.operators:
        reads = [renamed.get(name, name) for name in op.inputs]
        renamed[op.output] = b.add(op.kind, reads, list(op.weights), name=f"s.{op.output}", **op.attributes)
    logits = b.linear(renamed[base.program.outputs[0].value], "head", table, None)
    return b.model({"logits": logits}, [])


def measure_generation(tokens: int, layers: int) -> dict[str, object]:
    """Checking a text (grid lo, the fastest backend that there is) beside decoding it in ordinary torch, one token after
    the other with kept keys and values; and our own decoding."""
    model = language_model(stack("lo", layers))
    held = prepared({"lo": model}, {})
    name = next(name for name in ("native lo", "torch-int8 lo", "torch lo") if name in held)
    one, prompt = held[name], [1, 2, 3, 4]
    inputs = {"input_ids": np.array(prompt, np.int32), "sampling": Sampling(tokens).tensor()}
    job = read_job(model.program, inputs, bytes(32))
    text = generate(one, job).outputs["tokens"].tolist()
    check = statistics.median(timed(lambda: generate(one, job, text)) for _ in range(3))
    plain = OrdinaryKernels(model.program, model.weights, MKL)

    def decode() -> None:
        state, ids = State(), job.prompt
        for _ in range(tokens):
            values, _ = evaluate(model.program, plain, {"input_ids": ids}, {"T": len(ids)}, state=state)
            state.position += len(ids)
            ids = values[model.program.outputs[0].value][-1:].argmax(-1).int().numpy()

    decoding = timed(decode)
    decoder = Decoder(one, job.sampling.scale)
    decoder.feed(job.prompt)
    ours = statistics.median(timed(lambda: decoder.feed(np.array([5], np.int32))) for _ in range(8))
    return {
        "backend": name,
        "tokens": tokens,
        "check_seconds": round(check, 3),
        "torch_decode_seconds": round(decoding, 3),
        "check_over_decode": round(check / decoding, 4),
        "our_decode_over_torch": round(ours / (decoding / tokens), 2),
    }


def measure_digits(rounds: int) -> dict[str, float]:
    import onnxruntime

    from challenger.sim.models import digits_model

    with tempfile.TemporaryDirectory() as folder:
        manifest = digits_model(Path(folder), iterations=3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(manifest.with_name("model.onnx"), options)
        model = load_model(manifest)
    x = np.random.default_rng(0).random((256, 64), np.float32)
    works: dict[str, Work] = {"onnxruntime": lambda: session.run(None, {"X": x})}
    for backend in ("numpy", "torch"):
        one = prepare(model, backend)
        works[backend] = lambda one=one: execute(one, {"X": x})
        works[f"{backend}, committed"] = lambda one=one: commit(one, {"X": x})
    return costs(rounds_of(works, rounds), "onnxruntime")


def judged(report: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """Each target with the best figure that may reach it."""
    found = {}
    for name, (section, candidates, most) in TARGETS.items():
        figures = {one: report[section][one] for one in candidates if one in report[section]}
        best = min(figures, key=lambda one: float(str(figures[one])), default="")
        reached = bool(best) and float(str(figures[best])) <= most
        found[name] = {"most": most, "best": best, "figure": figures.get(best), "reached": reached}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds, layers, tokens = (3, LAYERS // 3, 64) if options.quick else (9, LAYERS, 256)
    refused: dict[str, str] = {}
    stacked, committed = measure_stack(rounds, layers, refused)
    report: dict[str, dict[str, object]] = {
        "stack": {"layers": layers, "width": WIDTH, "tokens": TOKENS, **stacked},
        "commitment": {**committed},
        "minilm": {"tokens": 128, **measure_minilm(3 * rounds, refused)},
        "memory": measure_memory(layers, refused),
        "generation": measure_generation(tokens, layers),
        "digits_256_rows": {**measure_digits(5 * rounds)},
    }
    about = {"benchmark": "engine", "threads": options.threads, "rounds": rounds, "torch": torch.__version__}
    print(json.dumps({**about, **report, "refused": refused, "targets": judged(report)}))


if __name__ == "__main__":
    main()
