"""BERT sentence encoders (config.json, model.safetensors, tokenizer.json) → Program: MiniLM and its like.

Input ``{"input_ids": int32[T]}``, one sentence with its special tokens; output ``{"embedding": float32[d]}``: the mean
over all tokens of the last layer, normalised to length 1. Boundaries: the embedding's norm, and each layer's output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.importers.build import Builder
from replay.importers.checkpoint import (
    ACTIVATIONS,
    CONFIG,
    HIDDEN_MAX,
    INNER_MAX,
    LAYERS_MAX,
    TOKENIZER,
    VOCABULARY_MAX,
    WEIGHTS,
    Config,
    Tensors,
)
from replay.importers.manifest import ModelFiles
from replay.kernels import spec
from replay.layout import Array
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port

SEGMENTS_MAX = 1_024


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
    config = Config(data, ["bert"])
    config.refuse_unless("position_embedding_type", "absolute", None)
    for key in ("is_decoder", "add_cross_attention"):
        config.refuse_unless(key, False, None)
    hidden = config.size("hidden_size", HIDDEN_MAX)
    return BertConfig(
        hidden=hidden,
        layers=config.size("num_hidden_layers", LAYERS_MAX),
        heads=config.heads(hidden, "num_attention_heads"),
        inner=config.size("intermediate_size", INNER_MAX),
        vocabulary=config.size("vocab_size", VOCABULARY_MAX),
        positions=config.size("max_position_embeddings", spec.TOKENS_MAX),
        segments=config.size("type_vocab_size", SEGMENTS_MAX),
        activation=config.choice("hidden_act", ACTIVATIONS),
        eps=config.epsilon("layer_norm_eps", 1e-12),
    )


def import_bert(source: ModelFiles) -> Model:
    """The model. Raises ``ModelRefused`` (its subclasses) or ``ProgramError``."""
    config = read_config(bytes(source.files[CONFIG]))
    tensors = Tensors(source.files[WEIGHTS], "bert.")
    ports = [Port("input_ids", TensorType("int32", ("T",)))]
    builder = Builder(ports, {"T": config.positions}, source.grid)
    state = _embed(builder, tensors, config)
    boundaries = [state]
    for index in range(config.layers):
        state = _layer(builder, tensors, config, index, state)
        boundaries.append(state)
    result = builder.l2_normalise(builder.mean_tokens(state))
    return builder.model({"embedding": result}, boundaries, source.digests[TOKENIZER])


def _embed(builder: Builder, tensors: Tensors, config: BertConfig) -> str:
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


def _layer(builder: Builder, tensors: Tensors, config: BertConfig, index: int, state: str) -> str:
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
