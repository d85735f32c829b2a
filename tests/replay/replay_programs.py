"""Small models for the tests: one-operator programs, random BERTs, hand-made safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from replay.importers.build import Builder
from replay.importers.manifest import ModelFiles, write_manifest
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


def agreed(model: Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a finite run, once both backends have given the same bits, at the boundaries too."""
    runs = [execute(prepare_with(load_backend(backend), model), inputs) for backend in BACKENDS]
    assert all(run.nonfinite is None for run in runs)
    assert len({encode_bundle(run.outputs) for run in runs}) == 1
    assert len({tuple(np.asarray(value).tobytes() for value in run.boundaries) for run in runs}) == 1
    return dict(runs[0].outputs)


#: By the arrays that hold them: a BF16 is the upper half of a float32.
_SAFETENSORS = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}


def safetensors_bytes(tensors: dict[str, np.ndarray], header: dict | None = None) -> bytes:
    """A file as the format wants it; ``header`` overrides entries, to lie."""
    entries, data = {}, b""
    for name, array in tensors.items():
        kind = _SAFETENSORS[array.dtype.name]
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


def checkpoint(kind: str, config: dict, tensors: dict[str, np.ndarray], grid: str = "hi") -> ModelFiles:
    """The files of a model in transformers' form, as they come from a manifest."""
    files = {
        "config.json": bytearray(json.dumps(config).encode()),
        "model.safetensors": bytearray(safetensors_bytes(tensors)),
        "tokenizer.json": bytearray(b"{}"),
    }
    return ModelFiles(kind, files, {"tokenizer.json": "0" * 64}, grid)


def narrowed(array: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """(the tensor as F16 or BF16, cut off, and the float32 of the same value)"""
    if dtype == "F16":
        half = array.astype(np.float16)
        return half, half.astype(np.float32)
    upper = array.view(np.uint32) & np.uint32(0xFFFF0000)
    return (upper >> np.uint32(16)).astype(np.uint16), upper.view(np.float32)


def write_bert(folder: Path, *, seed: int = 0, config: dict | None = None, weights: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors_bytes(bert_tensors(seed)) if weights is None else weights)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return write_manifest(folder, "bert", ["config.json", "model.safetensors", "tokenizer.json"])
