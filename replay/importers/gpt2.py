"""GPT-2 and its like (config.json, model.safetensors, tokenizer.json) → Program.

Input ``{"input_ids": int32[T]}``, output ``{"logits": float32[T, V]}``: row t is about the token after t. Boundaries: the
sum of both embeddings, each layer's output, and the last norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from replay.importers.build import Builder
from replay.importers.checkpoint import (
    ACTIVATIONS,
    CONFIG,
    HIDDEN_MAX,
    INNER_MAX,
    LAYERS_MAX,
    POSITIONS_MAX,
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

#: Masks that old checkpoints carry along.
_BUFFERS = (".attn.bias", ".attn.masked_bias")


@dataclass(frozen=True, slots=True)
class Gpt2Config:
    """What config.json says of the shape: d, layers, heads, inner width, rows of both tables, activation kind, epsilon."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    activation: str
    eps: float


def read_config(config: Config) -> Gpt2Config:
    """Raises ``MalformedFile``, ``LimitExceeded``, ``UnsupportedModel``."""
    config.refuse_unless("scale_attn_weights", True)
    for key in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"):
        config.refuse_unless(key, False)
    config.refuse_unless("is_encoder_decoder", False)
    config.refuse_unless("pruned_heads", None, {})
    hidden = config.size("n_embd", HIDDEN_MAX)
    return Gpt2Config(
        hidden=hidden,
        layers=config.size("n_layer", LAYERS_MAX),
        heads=config.heads(hidden, "n_head"),
        inner=config.size("n_inner", INNER_MAX, 4 * hidden),
        vocabulary=config.size("vocab_size", VOCABULARY_MAX),
        positions=config.size("n_positions", POSITIONS_MAX),
        activation=config.choice("activation_function", ACTIVATIONS),
        eps=config.epsilon("layer_norm_epsilon"),
    )


def import_gpt2(source: ModelFiles) -> Model:
    """The model. Raises ``ModelRefused`` (its subclasses) or ``ProgramError``."""
    document = Config(bytes(source.files[CONFIG]), ["gpt2"])
    config = read_config(document)
    tensors = Tensors(source.files[WEIGHTS], "transformer.")
    most = min(config.positions, spec.TOKENS_MAX)
    builder = Builder([Port("input_ids", TensorType("int32", ("T",)))], {"T": most}, source.grid)

    words = tensors.take("wte.weight", config.vocabulary, config.hidden)
    positions = tensors.take("wpe.weight", config.positions, config.hidden)
    state = builder.add("embedding", ["input_ids"], [builder.weight("embeddings.words", words)])
    places = builder.add("position_rows", ["input_ids"], [builder.weight("embeddings.positions", positions)])
    state = builder.add("add", [state, places], name="embeddings")
    boundaries = [state]
    for index in range(config.layers):
        state = _layer(builder, tensors, config, index, state)
        boundaries.append(state)
    state = _norm(builder, tensors, config, "ln_f", "norm", state, name="norm")
    boundaries.append(state)
    logits = builder.linear(state, "head", tensors.head(document, words, tied=True), None)
    tensors.finish(_BUFFERS)
    return builder.model({"logits": logits}, boundaries, source.digests[TOKENIZER])


def _norm(
    builder: Builder, tensors: Tensors, config: Gpt2Config, source: str, label: str, state: str, name: str = ""
) -> str:
    gain, shift = (tensors.take(f"{source}.{part}", config.hidden) for part in ("weight", "bias"))
    return builder.layer_norm(state, label, gain, shift, config.eps, name)


def _layer(builder: Builder, tensors: Tensors, config: Gpt2Config, index: int, state: str) -> str:
    d, label, prefix = config.hidden, f"layer.{index}", f"h.{index}."

    def pair(name: str, rows: int, length: int) -> tuple[Array, Array]:
        """Weight [rows, length] and bias of a product whose weight the file holds the other way round."""
        weight, bias = tensors.take(f"{prefix}{name}.weight", length, rows), tensors.take(f"{prefix}{name}.bias", rows)
        return weight.T, bias

    value = _norm(builder, tensors, config, f"{prefix}ln_1", f"{label}.attention.norm", state)
    value = builder.linear(value, f"{label}.qkv", *pair("attn.c_attn", 3 * d, d))
    value = builder.attention(value, config.heads, config.heads, d // config.heads, causal=True)
    value = builder.linear(value, f"{label}.attention", *pair("attn.c_proj", d, d))
    state = builder.add("add", [value, state])
    value = _norm(builder, tensors, config, f"{prefix}ln_2", f"{label}.inner.norm", state)
    value = builder.linear(value, f"{label}.inner", *pair("mlp.c_fc", config.inner, d))
    value = builder.linear(
        builder.add(config.activation, [value]), f"{label}.outer", *pair("mlp.c_proj", d, config.inner)
    )
    return builder.add("add", [value, state], name=label)
