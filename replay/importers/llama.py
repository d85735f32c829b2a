"""Llama, and Mistral and Qwen 2, which differ from it by a window and by biases → Program.

Files: config.json, model.safetensors, tokenizer.json. Input ``{"input_ids": int32[T]}``, output ``{"logits": float32[T,
V]}``: row t is about the token after t. Boundaries: the embeddings, each layer's output, and the last norm.
"""

from __future__ import annotations

import numpy as np

from replay.importers import rope
from replay.importers.build import Builder
from replay.importers.checkpoint import CONFIG, TOKENIZER, WEIGHTS, Config, Tensors
from replay.importers.llama_config import FAMILIES, LlamaConfig, read_config
from replay.importers.manifest import ModelFiles
from replay.layout import Array
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port

#: Tables of frequencies that old checkpoints carry along; ours are computed.
_BUFFERS = (".rotary_emb.inv_freq",)


def import_llama(source: ModelFiles) -> Model:
    """The model. Raises ``ModelRefused`` (its subclasses) or ``ProgramError``."""
    document = Config(bytes(source.files[CONFIG]), FAMILIES)
    config = read_config(document)
    tensors = Tensors(source.files[WEIGHTS], "model.")
    builder = Builder([Port("input_ids", TensorType("int32", ("T",)))], {"T": config.positions}, source.grid)
    words = tensors.take("embed_tokens.weight", config.vocabulary, config.hidden)
    state = builder.add("embedding", ["input_ids"], [builder.weight("embeddings.words", words)], name="embeddings")
    cos, sin = rope.tables(config.rotation, config.head_dim, config.positions)
    turn = [builder.weight("rope.cos", cos), builder.weight("rope.sin", sin)]
    boundaries = [state]
    for index in range(config.layers):
        state = _layer(builder, tensors, config, index, state, turn)
        boundaries.append(state)
    state = builder.rms_norm(state, "norm", tensors.take("norm.weight", config.hidden), config.eps, name="norm")
    boundaries.append(state)
    logits = builder.linear(state, "head", tensors.head(document, words, tied=False), None)
    tensors.finish(_BUFFERS)
    return builder.model({"logits": logits}, boundaries, source.digests[TOKENIZER])


def _layer(builder: Builder, tensors: Tensors, config: LlamaConfig, index: int, state: str, turn: list[str]) -> str:
    d, label, prefix = config.hidden, f"layer.{index}", f"layers.{index}."
    queries, keys = config.heads * config.head_dim, config.groups * config.head_dim

    def pair(name: str, rows: int, length: int, *, biased: str) -> tuple[Array, Array | None]:
        weight = tensors.take(f"{prefix}{name}.weight", rows, length)
        return weight, tensors.take(f"{prefix}{name}.bias", rows) if biased in config.biased else None

    def norm(value: str, name: str, place: str) -> str:
        gain = tensors.take(f"{prefix}{name}.weight", d)
        return builder.rms_norm(value, f"{label}.{place}.norm", gain, config.eps)

    value = norm(state, "input_layernorm", "attention")
    sizes = {"q": queries, "k": keys, "v": keys}
    parts = [pair(f"self_attn.{name}_proj", rows, d, biased="qkv") for name, rows in sizes.items()]
    biases = [bias for _, bias in parts if bias is not None]
    weight, bias = np.concatenate([weight for weight, _ in parts]), np.concatenate(biases) if biases else None
    value = builder.linear(value, f"{label}.qkv", weight, bias)
    turned = config.heads + config.groups  # q and k; v stays as it is
    value = builder.add("rope", [value], turn, heads=turned, head_dim=config.head_dim, interleaved=0)
    value = builder.attention(value, config.heads, config.groups, config.head_dim, causal=True, window=config.window)
    output = pair("self_attn.o_proj", d, queries, biased="attention")
    state = builder.add("add", [builder.linear(value, f"{label}.attention", *output), state])

    value = norm(state, "post_attention_layernorm", "inner")
    gate, up = (
        builder.linear(value, f"{label}.{name}", *pair(f"mlp.{name}_proj", config.inner, d, biased="inner"))
        for name in ("gate", "up")
    )
    value = builder.add("mul", [builder.add(config.activation, [gate]), up])
    outer = pair("mlp.down_proj", d, config.inner, biased="inner")
    return builder.add("add", [builder.linear(value, f"{label}.outer", *outer), state], name=label)
