"""The engine's backends beside ordinary torch, in one run: a 12 × 768 stack and MiniLM, boundary commitments, generation,
and the digits model beside onnxruntime.

``python -m tests.benchmarks.bench_engine [--quick] [--threads N]`` prints one JSON object. A ``cost`` is our time over that
of ordinary torch fp32 on MKL (1 is equal, below 1 is faster): the median over interleaved rounds; ``onednn`` is the same
network with every linear layer forced to oneDNN.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from replay.backends import BACKENDS
from replay.errors import BackendRefused
from replay.generate import Decoder, generate, read_job
from replay.importers.build import Builder
from replay.model import Model, load_model
from replay.operators import TensorType
from replay.program import Port
from replay.run import Prepared, execute, prepare
from replay.sampling import Sampling
from replay.trace import commit, receipt
from tests.benchmarks.bench_replay import minilm, ordinary

LAYERS, WIDTH, HEADS, TOKENS = 12, 768, 12, 256
VOCABULARY = 1000
#: backend and grid → the cost that is aimed at, 12 × 768 and MiniLM at T = 128
TARGETS = {
    "native hi": (1.9, 2.5),
    "native-int8 hi": (1.5, 2.0),
    "native-int8 lo": (0.9, 1.5),
}
Work = Callable[[], object]


def stack(grid: str, layers: int = LAYERS) -> Model:
    """A GPT-like stack with random weights, without embeddings: x [T, 768] → [T, 768]."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape, np.float32) * np.float32(0.02)).astype(np.float32)

    b = Builder([Port("x", TensorType("float32", ("T", WIDTH)))], {"T": 1024}, grid)
    x, boundaries = "x", []
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    for layer in range(layers):
        name = f"layer.{layer}"
        y = b.linear(
            b.layer_norm(x, f"{name}.n1", ones, zeros, 1e-5), f"{name}.qkv", draw(3 * WIDTH, WIDTH), zeros.repeat(3)
        )
        y = b.attention(y, HEADS, HEADS, WIDTH // HEADS, causal=True)
        x = b.add("add", [b.linear(y, f"{name}.mixed", draw(WIDTH, WIDTH), zeros), x])
        y = b.linear(
            b.layer_norm(x, f"{name}.n2", ones, zeros, 1e-5), f"{name}.inner", draw(4 * WIDTH, WIDTH), zeros.repeat(4)
        )
        y = b.linear(b.add("gelu_tanh", [y]), f"{name}.outer", draw(WIDTH, 4 * WIDTH), zeros)
        x = b.add("add", [y, x], name=name)
        boundaries.append(x)
    return b.model({"y": x}, boundaries[:-1])


def torch_stack(model: Model, *, onednn: bool, layers: int = LAYERS) -> Callable[..., torch.Tensor]:
    """The same in ordinary fp32. With ``cache`` (one list per layer) it reads one token after others."""
    weights = {name: torch.from_numpy(array) for name, array in model.weights.items()}
    packed = {name: w.to_mkldnn() for name, w in weights.items()} if onednn else {}

    def linear(x: torch.Tensor, label: str) -> torch.Tensor:
        if onednn:
            out = torch._C._nn.mkldnn_linear(x.to_mkldnn(), packed[f"{label}.weight"], packed[f"{label}.bias"])
            return out.to_dense()
        return F.linear(x, weights[f"{label}.weight"], weights[f"{label}.bias"])

    def run(x: torch.Tensor, cache: list[list[torch.Tensor]] | None = None) -> torch.Tensor:
        for layer in range(layers):
            name = f"layer.{layer}"
            tokens = len(x)
            y = F.layer_norm(x, (WIDTH,), weights[f"{name}.n1.weight"], weights[f"{name}.n1.bias"], 1e-5)
            q, k, v = linear(y, f"{name}.qkv").view(tokens, 3, HEADS, -1).permute(1, 2, 0, 3)
            if cache is not None:
                if cache[layer]:
                    k, v = (torch.cat([old, new], 1) for old, new in zip(cache[layer], (k, v), strict=True))
                cache[layer][:] = [k, v]
            y = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=tokens > 1)[0]
            x = x + linear(y.transpose(0, 1).reshape(tokens, -1), f"{name}.mixed")
            y = F.layer_norm(x, (WIDTH,), weights[f"{name}.n2.weight"], weights[f"{name}.n2.bias"], 1e-5)
            x = x + linear(F.gelu(linear(y, f"{name}.inner"), approximate="tanh"), f"{name}.outer")
        return x

    return run


def timed(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rounds_of(works: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(timed(work))
    return taken


def costs(taken: dict[str, list[float]], base: str) -> dict[str, float]:
    """Each one's median ratio to ``base``, and the base in milliseconds."""
    found = {f"{base}_ms": round(1e3 * statistics.median(taken[base]), 2)}
    for name, times in taken.items():
        if name != base:
            found[name] = round(statistics.median(one / b for one, b in zip(times, taken[base], strict=True)), 3)
    return found


def prepared(model: Model, grid: str) -> dict[str, Prepared]:
    found = {}
    for backend in BACKENDS:
        if backend != "numpy":
            try:
                found[f"{backend} {grid}"] = prepare(model, backend)
            except BackendRefused as error:
                found.pop(f"{backend} {grid}", None)
                print(json.dumps({"refused": backend, "grid": grid, "why": str(error)}))
    return found


def measure_stack(rounds: int) -> dict[str, object]:
    x = np.random.default_rng(1).standard_normal((TOKENS, WIDTH)).astype(np.float32)
    wide = torch.from_numpy(x)
    hi = stack("hi")
    plain, onednn = torch_stack(hi, onednn=False), torch_stack(hi, onednn=True)
    works: dict[str, Work] = {"torch_fp32_mkl": lambda: plain(wide), "torch_fp32_onednn": lambda: onednn(wide)}
    held = prepared(hi, "hi") | prepared(stack("lo"), "lo")
    for name, one in held.items():
        works[name] = lambda one=one: execute(one, {"x": x})
    first = next(iter(held.values()))
    works["commit"] = lambda: commit(first, {"x": x})
    with torch.inference_mode():
        taken = rounds_of(works, rounds)
    found: dict[str, object] = {"cost": costs({k: v for k, v in taken.items() if k != "commit"}, "torch_fp32_mkl")}
    runs = [execute(first, {"x": x}) for _ in range(3)]
    hashing = [timed(lambda run=run: receipt({"x": x}, run)) for run in runs]
    found["commitment_share"] = round(statistics.median(hashing) / statistics.median(taken["torch hi"]), 4)
    return found


def measure_minilm(rounds: int) -> dict[str, float]:
    model = minilm()
    lo = Model(_with_grid(model, "lo"), model.weights)
    ids = (np.arange(128, dtype=np.int64) * 7919 % 28_000 + 1_000).astype(np.int32)
    plain, onednn, wide = ordinary(model, onednn=False), ordinary(model, onednn=True), torch.from_numpy(ids).long()
    works: dict[str, Work] = {"torch_fp32_mkl": lambda: plain(wide), "torch_fp32_onednn": lambda: onednn(wide)}
    for name, one in (prepared(model, "hi") | prepared(lo, "lo")).items():
        works[name] = lambda one=one: execute(one, {"input_ids": ids})
    with torch.inference_mode():
        return costs(rounds_of(works, rounds), "torch_fp32_mkl")


def _with_grid(model: Model, grid: str):
    """The program under another grid: the bit budgets of its linear operators change with it."""
    from dataclasses import replace

    from replay.kernels import spec

    def coarse(op):
        if op.kind != "linear":
            return op
        a, w = spec.dot_bits(model.program.weight(op.weights[0]).shape[1], grid)
        return replace(op, attributes={"a_bits": a, "w_bits": w})

    return replace(model.program, grid=grid, operators=tuple(map(coarse, model.program.operators)))


def measure_generation(tokens: int) -> dict[str, float]:
    """Checking a text of ``tokens`` tokens (12 × 768 with a small head, grid lo) beside decoding it in ordinary torch,
    one token after the other with kept keys and values."""
    base = stack("lo")
    random = np.random.default_rng(2)
    table = (random.standard_normal((VOCABULARY, WIDTH)) * 0.02).astype(np.float32)
    b = Builder([Port("input_ids", TensorType("int32", ("T",)))], {"T": 1024}, "lo")
    x = b.add("embedding", ["input_ids"], [b.weight("words", table)])
    renamed = {"x": x}
    for weight in base.program.weights:
        b.weight(weight.name, base.weights[weight.name], weight.form)
    for op in base.program.operators:
        reads = [renamed.get(name, name) for name in op.inputs]
        renamed[op.output] = b.add(op.kind, reads, list(op.weights), name=f"s.{op.output}", **op.attributes)
    model = b.model({"logits": b.linear(renamed[base.program.outputs[0].value], "head", table, None)}, [])
    names = [name for name in ("native-int8", "native", "torch-int8", "torch") if _usable(model, name)]
    one = prepare(model, names[0])
    inputs = {"input_ids": np.array([1, 2, 3, 4], np.int32), "sampling": Sampling(tokens).tensor()}
    job = read_job(model.program, inputs, bytes(32))
    text = generate(one, job).outputs["tokens"].tolist()
    check = statistics.median(timed(lambda: generate(one, job, text)) for _ in range(3))
    plain, words = torch_stack(base, onednn=False), torch.from_numpy(table)

    def decode() -> None:
        cache: list[list[torch.Tensor]] = [[] for _ in range(LAYERS)]
        ids = torch.tensor([1, 2, 3, 4])
        for _ in range(tokens):
            last = plain(words[ids], cache)[-1] @ words.T
            ids = last.argmax()[None]

    with torch.inference_mode():
        decoding = timed(decode)
    decoder = Decoder(one, job.sampling.scale)
    decoder.feed(job.prompt)
    ours = statistics.median(timed(lambda: decoder.feed(np.array([5], np.int32))) for _ in range(8))
    return {
        "tokens": tokens,
        "check_seconds": round(check, 3),
        "torch_decode_seconds": round(decoding, 3),
        "check_over_decode": round(check / decoding, 4),
        "target": 0.1,
        "our_decode_over_torch": round(ours / (decoding / tokens), 2),
    }


def _usable(model: Model, backend: str) -> bool:
    try:
        prepare(model, backend)
    except BackendRefused:
        return False
    return True


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
    return costs(rounds_of(works, rounds), "onnxruntime")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds = 3 if options.quick else 9
    report = {
        "benchmark": "engine",
        "threads": options.threads,
        "rounds": rounds,
        "torch": torch.__version__,
        "stack_12x768_T256": measure_stack(rounds),
        "minilm_T128": measure_minilm(3 * rounds),
        "digits_256_rows": measure_digits(5 * rounds),
        "generation": measure_generation(32 if options.quick else 256),
        "targets": {name: {"stack": one, "minilm": other} for name, (one, other) in TARGETS.items()}
        | {"commitment_share": 0.05},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
