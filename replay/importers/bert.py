"""BERT sentence encoders (config.json, model.safetensors, tokenizer.json) → Program: MiniLM and its like.

Input ``{"input_ids": int32[T]}``, one sentence with its special tokens; output ``{"embedding": float32[d]}``: the mean
over all tokens of the last layer, normalised to length 1. Boundaries: the embedding's norm, and each layer's output.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay.errors import LimitExceeded, MalformedFile, UnsupportedModel
from replay.importers.build import Builder
from replay.importers.manifest import ModelFiles
from replay.importers.safetensors import read_floats
from replay.kernels import spec
from replay.layout import Array
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port

_LIMITS = {
    "hidden_size": 16_384,
    "num_hidden_layers": 256,
    "num_attention_heads": 1_024,
    "intermediate_size": 65_536,
    "vocab_size": 2_000_000,
    "max_position_embeddings": spec.TOKENS_MAX,
    "type_vocab_size": 1_024,
}
_ACTIVATIONS = {"gelu": "gelu_erf", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


@dataclass(frozen=True, slots=True)
class BertConfig:
    """What config.json says of the shape: d, layers, heads, inner width, activation kind, longest sentence, epsilon."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    segments: int
    activation: str
    eps: float


def read_config(data: bytes) -> BertConfig:
    """Raises ``MalformedFile``, ``LimitExceeded``, ``UnsupportedModel``."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedFile(f"not JSON ({type(error).__name__})", file="config.json") from error
    if not isinstance(document, dict):
        raise MalformedFile("not a JSON object", file="config.json")
    if document.get("model_type") != "bert":
        raise UnsupportedModel(f"model_type {str(document.get('model_type'))[:32]!r} is not bert")
    if document.get("position_embedding_type", "absolute") != "absolute":
        raise UnsupportedModel("only absolute position embeddings are supported")
    if document.get("is_decoder", False) or document.get("add_cross_attention", False):
        raise UnsupportedModel("only encoders are supported")
    sizes = {key: _size(document, key, limit) for key, limit in _LIMITS.items()}
    activation = document.get("hidden_act")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise UnsupportedModel(f"hidden_act {str(activation)[:32]!r} is none of {', '.join(_ACTIVATIONS)}")
    eps = document.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not 1e-30 < eps < 1.0:
        raise MalformedFile("layer_norm_eps is a number between 1e-30 and 1", file="config.json")
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise MalformedFile("hidden_size is not a multiple of num_attention_heads", file="config.json")
    return BertConfig(
        hidden=sizes["hidden_size"],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        inner=sizes["intermediate_size"],
        vocabulary=sizes["vocab_size"],
        positions=sizes["max_position_embeddings"],
        segments=sizes["type_vocab_size"],
        activation=_ACTIVATIONS[activation],
        eps=eps,
    )


def _size(document: dict[str, Any], key: str, limit: int) -> int:
    value = document.get(key)
    if type(value) is not int or value < 1:
        raise MalformedFile(f"{key} is a positive integer", file="config.json")
    if value > limit:
        raise LimitExceeded(f"{key} is {value}, at most {limit} is accepted", file="config.json")
    return value


class _Tensors:
    """The checkpoint's tensors by name, with or without the prefix ``bert.``, each shape checked when it is taken."""

    def __init__(self, tensors: dict[str, Array]) -> None:
        self._tensors = {name.removeprefix("bert."): array for name, array in tensors.items()}

    def take(self, name: str, *shape: int) -> Array:
        array = self._tensors.get(name)
        if array is None:
            raise MalformedFile("the tensor is missing or not F32", file="model.safetensors", tensor=name)
        if array.shape != shape:
            raise MalformedFile(f"shape {list(array.shape)}, not {list(shape)}", file="model.safetensors", tensor=name)
        if not math.isfinite(float(np.abs(array).max())):
            raise MalformedFile("holds NaN or infinity", file="model.safetensors", tensor=name)
        return array


def import_bert(source: ModelFiles) -> Model:
    """The model. Raises ``ModelRefused`` (its subclasses) or ``ProgramError``."""
    config = read_config(bytes(source.files["config.json"]))
    tensors = _Tensors(read_floats(source.files["model.safetensors"]))
    builder = Builder([Port("input_ids", TensorType("int32", ("T",)))], {"T": config.positions})
    state = _embed(builder, tensors, config)
    boundaries = [state]
    for index in range(config.layers):
        state = _layer(builder, tensors, config, index, state)
        boundaries.append(state)
    result = builder.l2_normalise(builder.mean_tokens(state))
    return builder.model({"embedding": result}, boundaries, source.digests["tokenizer.json"])


def _embed(builder: Builder, tensors: _Tensors, config: BertConfig) -> str:
    d, prefix = config.hidden, "embeddings."
    words = tensors.take(f"{prefix}word_embeddings.weight", config.vocabulary, d)
    segments = tensors.take(f"{prefix}token_type_embeddings.weight", config.segments, d)
    positions = tensors.take(f"{prefix}position_embeddings.weight", config.positions, d)
    state = builder.add("embedding", ["input_ids"], [builder.weight("embeddings.words", words)])
    state = builder.add("add", [state], [builder.weight("embeddings.segment", segments[0])])
    places = builder.add("position_rows", ["input_ids"], [builder.weight("embeddings.positions", positions)])
    state = builder.add("add", [state, places])
    gain, shift = (tensors.take(f"{prefix}LayerNorm.{part}", d) for part in ("weight", "bias"))
    return builder.layer_norm(state, "embeddings.norm", gain, shift, config.eps, name="embeddings")


def _layer(builder: Builder, tensors: _Tensors, config: BertConfig, index: int, state: str) -> str:
    d, label, prefix = config.hidden, f"layer.{index}", f"encoder.layer.{index}."

    def pair(name: str, rows: int, length: int) -> tuple[Array, Array]:
        return tensors.take(f"{prefix}{name}.weight", rows, length), tensors.take(f"{prefix}{name}.bias", rows)

    def norm(value: str, name: str, label: str, output: str = "") -> str:
        gain, shift = (tensors.take(f"{prefix}{name}.LayerNorm.{part}", d) for part in ("weight", "bias"))
        return builder.layer_norm(value, label, gain, shift, config.eps, output)

    parts = [pair(f"attention.self.{name}", d, d) for name in ("query", "key", "value")]
    weight, bias = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    mixed = builder.attention(
        builder.linear(state, f"{label}.qkv", weight, bias), config.heads, config.heads, d // config.heads, causal=False
    )
    mixed = builder.linear(mixed, f"{label}.attention", *pair("attention.output.dense", d, d))
    state = norm(builder.add("add", [mixed, state]), "attention.output", f"{label}.attention.norm")
    inner = builder.linear(state, f"{label}.inner", *pair("intermediate.dense", config.inner, d))
    outer = builder.linear(
        builder.add(config.activation, [inner]), f"{label}.outer", *pair("output.dense", d, config.inner)
    )
    return norm(builder.add("add", [outer, state]), "output", f"{label}.output.norm", label)
