"""Small models for the tests: one-operator programs, random BERTs, hand-made safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from replay.importers.build import Builder
from replay.importers.manifest import write_manifest
from replay.layout import decode_bundle, encode_bundle
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port
from replay.run import Run, execute, load_backend, prepare_with

BACKENDS = ("torch", "numpy")


def one(x: np.ndarray, build: Callable[[Builder], str]) -> Model:
    dtype = "float32" if x.dtype == np.float32 else "int32"
    builder = Builder([Port("x", TensorType(dtype, x.shape))], {})
    return builder.model({"y": build(builder)}, [])


def on_both(x: np.ndarray, build: Callable[[Builder], str]) -> Run:
    """The run, once both backends have given the same bits."""
    model = one(x, build)
    runs = [execute(prepare_with(load_backend(backend), model), {"x": x}) for backend in BACKENDS]
    first, second = (encode_bundle(run.outputs) for run in runs)
    assert first == second, (decode_bundle(first), decode_bundle(second))
    return runs[0]


def result(x: np.ndarray, build: Callable[[Builder], str]) -> np.ndarray:
    run = on_both(x, build)
    assert run.nonfinite is None, run.nonfinite
    return run.outputs["y"]


def safetensors_bytes(tensors: dict[str, np.ndarray], header: dict | None = None) -> bytes:
    """A file as the format wants it; ``header`` overrides entries, to lie."""
    entries, data = {}, b""
    for name, array in tensors.items():
        kind = {"f": "F32", "i": "I64"}[array.dtype.kind]
        entries[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    raw = json.dumps(entries | (header or {})).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def bert_tensors(
    seed: int, d: int = 16, layers: int = 2, inner: int = 24, vocabulary: int = 40
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": draw(vocabulary, d),
        "embeddings.token_type_embeddings.weight": draw(2, d),
        "embeddings.position_embeddings.weight": draw(32, d),
        "embeddings.LayerNorm.weight": draw(d),
        "embeddings.LayerNorm.bias": draw(d),
        "embeddings.position_ids": np.arange(32, dtype=np.int64)[None],
    }
    for index in range(layers):
        prefix = f"encoder.layer.{index}."
        shapes = {
            "attention.self.query": (d, d),
            "attention.self.key": (d, d),
            "attention.self.value": (d, d),
            "attention.output.dense": (d, d),
            "intermediate.dense": (inner, d),
            "output.dense": (d, inner),
        }
        for name, shape in shapes.items():
            tensors[f"{prefix}{name}.weight"] = draw(*shape)
            tensors[f"{prefix}{name}.bias"] = draw(shape[0])
        for name in ("attention.output", "output"):
            tensors[f"{prefix}{name}.LayerNorm.weight"] = draw(d)
            tensors[f"{prefix}{name}.LayerNorm.bias"] = draw(d)
    return tensors


CONFIG = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def write_bert(folder: Path, *, seed: int = 0, config: dict | None = None, weights: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors_bytes(bert_tensors(seed)) if weights is None else weights)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return write_manifest(folder, "bert", ["config.json", "model.safetensors", "tokenizer.json"])
