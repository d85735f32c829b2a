"""config.json of Llama, Mistral and Qwen 2: sizes, window, biases, and the settings of the rotary embedding, which
transformers 4 writes as ``rope_theta`` and ``rope_scaling``, transformers 5 as ``rope_parameters``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from replay.errors import MalformedFile, UnsupportedModel
from replay.importers.checkpoint import (
    ACTIVATIONS,
    CONFIG,
    HEADS_MAX,
    HIDDEN_MAX,
    INNER_MAX,
    LAYERS_MAX,
    POSITIONS_MAX,
    VOCABULARY_MAX,
    Config,
    shown,
)
from replay.importers.rope import HEAD_DIM_MAX, LARGEST, SMALLEST, TOKENS_MAX, Rotation
from replay.kernels import spec

FAMILIES = ("llama", "mistral", "qwen2")
#: What transformers takes where a config does not say.
_MISTRAL_WINDOW, _THETA = 4_096, 10_000
_ROPE_KEYS = {
    "default": set[str](),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """The shape of the network. ``groups``: heads of keys and values; ``positions``: the longest input, at most the 8,192
    of attention; ``window``: how many tokens a token sees, itself included, or 0 for all before it; ``biased``: which
    products have a bias, of qkv, attention (its output) and inner (the perceptron's)."""

    hidden: int
    layers: int
    heads: int
    groups: int
    head_dim: int
    inner: int
    vocabulary: int
    positions: int
    window: int
    activation: str
    eps: float
    rotation: Rotation
    biased: frozenset[str]


def read_config(config: Config) -> LlamaConfig:
    """Raises ``MalformedFile``, ``LimitExceeded``, ``UnsupportedModel``."""
    for key in ("is_encoder_decoder", "add_cross_attention"):
        config.refuse_unless(key, False)
    hidden, layers = config.size("hidden_size", HIDDEN_MAX), config.size("num_hidden_layers", LAYERS_MAX)
    if config.get("head_dim") is None:
        heads = config.heads(hidden, "num_attention_heads")
        head_dim = hidden // heads
    else:
        heads, head_dim = config.size("num_attention_heads", HEADS_MAX), config.size("head_dim", HEAD_DIM_MAX)
    if head_dim % 2 or head_dim > HEAD_DIM_MAX:
        raise MalformedFile(f"a head of {head_dim} is odd or larger than {HEAD_DIM_MAX}", file=CONFIG)
    # a Llama without groups is an old one; the others' defaults differ, and their configs always say
    groups = config.size("num_key_value_heads", HEADS_MAX, heads if config.family == "llama" else None)
    if heads % groups:
        raise MalformedFile("num_attention_heads is not a multiple of num_key_value_heads", file=CONFIG)
    longest = config.size("max_position_embeddings", POSITIONS_MAX)
    positions = min(longest, spec.TOKENS_MAX)
    return LlamaConfig(
        hidden=hidden,
        layers=layers,
        heads=heads,
        groups=groups,
        head_dim=head_dim,
        inner=config.size("intermediate_size", INNER_MAX),
        vocabulary=config.size("vocab_size", VOCABULARY_MAX),
        positions=positions,
        window=_window(config, layers, positions),
        activation=config.choice("hidden_act", {"silu": "silu", "swish": "silu", **ACTIVATIONS}),
        eps=config.epsilon("rms_norm_eps"),
        rotation=read_rotation(config, longest),
        biased=_biased(config),
    )


def _window(config: Config, layers: int, positions: int) -> int:
    """One window for all layers; one that is not shorter than the longest input is none."""
    if config.family != "mistral":
        config.refuse_unless("layer_types", None, ["full_attention"] * layers)
        # Qwen 2 writes a window down that it does not use
        config.refuse_unless(*(("use_sliding_window", False) if config.family == "qwen2" else ("sliding_window", None)))
        return 0
    config.refuse_unless("layer_types", None)
    if config.get("sliding_window", _MISTRAL_WINDOW) is None:
        return 0
    window = config.size("sliding_window", POSITIONS_MAX, _MISTRAL_WINDOW)
    return window if window < positions else 0


def _biased(config: Config) -> frozenset[str]:
    if config.family == "llama":
        qkv = {"qkv", "attention"} if config.flag("attention_bias", False) else set[str]()
        return frozenset(qkv | ({"inner"} if config.flag("mlp_bias", False) else set()))
    qwen = config.family == "qwen2"
    config.refuse_unless("attention_bias", qwen)
    config.refuse_unless("mlp_bias", False)
    return frozenset({"qkv"} if qwen else ())


def read_rotation(config: Config, longest: int) -> Rotation:
    """The frequencies. ``longest``: max_position_embeddings. Raises ``MalformedFile``, ``UnsupportedModel``."""
    config.refuse_unless("partial_rotary_factor", None, 1.0, 1)
    settings = _one(config, "rope_scaling", config.get("rope_scaling"), config.get("rope_parameters")) or {}
    if not isinstance(settings, dict):
        raise MalformedFile("rope_scaling and rope_parameters are objects", file=CONFIG)
    kind = _one(config, "rope_type", settings.get("rope_type"), settings.get("type")) or "default"
    if not isinstance(kind, str) or kind not in _ROPE_KEYS:
        raise UnsupportedModel(f"rope_type {shown(kind)} is none of {', '.join(_ROPE_KEYS)}")
    strange = sorted(set(settings) - _ROPE_KEYS[kind] - {"rope_type", "type", "rope_theta"})
    if strange:
        raise UnsupportedModel(f"rope_type {kind} with {shown(strange[0])} is not supported")
    theta = _one(config, "rope_theta", settings.get("rope_theta"), config.get("rope_theta"))
    base = _number({"rope_theta": _THETA if theta is None else theta}, "rope_theta", 1.0)
    if kind == "default":
        return Rotation(base)
    factor = _number(settings, "factor", 1.0)
    if kind == "linear":
        return Rotation(base, factor)
    config.refuse_unless("original_max_position_embeddings", None)
    low, high = (_number(settings, f"{edge}_freq_factor", SMALLEST) for edge in ("low", "high"))
    if low >= high:
        raise MalformedFile("low_freq_factor is below high_freq_factor", file=CONFIG)
    tokens = settings.get("original_max_position_embeddings", longest)
    if type(tokens) is not int or not 1 <= tokens <= TOKENS_MAX:
        raise MalformedFile(f"original_max_position_embeddings is an integer up to {TOKENS_MAX}", file=CONFIG)
    return Rotation(base, factor, (low, high, tokens))


def _one(config: Config, key: str, first: Any, second: Any) -> Any:
    """The one value of what may be said in two places."""
    if first is not None and second is not None and first != second:
        raise UnsupportedModel(f"{key} is said twice, and not the same", model_type=config.family)
    return second if first is None else first


def _number(settings: Mapping[str, Any], key: str, low: float) -> Fraction:
    """The exact value of a number between ``low`` and LARGEST."""
    value = settings.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= LARGEST:
        raise MalformedFile(f"{key} is a number between {low:g} and {LARGEST:g}", file=CONFIG)
    return Fraction(value)
