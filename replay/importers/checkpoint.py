"""What transformers' checkpoints have in common: config.json read strictly, and tensors taken by name and shape.

Keys of a config that change the arithmetic are asked for one by one, and refused by name where they say something that
is not supported; all others (dropout, token ids, training) mean nothing to a replay.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from replay.errors import LimitExceeded, MalformedFile, UnsupportedModel
from replay.importers.safetensors import read_floats, unique
from replay.layout import Array
from replay.shallow import parse_json

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
#: Names of activations in configs → operator kinds.
ACTIVATIONS = {"gelu": "gelu_erf", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
#: Largest sizes accepted.
HIDDEN_MAX, INNER_MAX, LAYERS_MAX, HEADS_MAX = 16_384, 65_536, 256, 1_024
VOCABULARY_MAX, POSITIONS_MAX = 2_000_000, 1 << 24


class Config:
    """config.json of one of the ``families`` (its ``model_type``). Raises ``MalformedFile``, ``LimitExceeded`` and
    ``UnsupportedModel``, each in one line that names the key."""

    def __init__(self, data: bytes, families: Collection[str]) -> None:
        try:
            document = parse_json(data, unique)
        except (ValueError, RecursionError) as error:
            raise MalformedFile(f"not JSON ({type(error).__name__})", file=CONFIG) from error
        if not isinstance(document, dict):
            raise MalformedFile("not a JSON object", file=CONFIG)
        self._document: Mapping[str, Any] = document
        self.family = self.choice("model_type", {family: family for family in families})
        self.refuse_unless("quantization_config", None)

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it is; ``default`` stands for a missing key only."""
        return self._document.get(key, default)

    def size(self, key: str, limit: int, default: int | None = None) -> int:
        """A positive integer; ``default`` stands for null or a missing key."""
        value = self.get(key)
        value = default if value is None else value
        if type(value) is not int or value < 1:
            raise MalformedFile(f"{key} is a positive integer", file=CONFIG)
        if value > limit:
            raise LimitExceeded(f"{key} is {str(value)[:32]}, at most {limit} is accepted", file=CONFIG)
        return value

    def epsilon(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if not isinstance(value, float) or not 1e-30 < value < 1.0:
            raise MalformedFile(f"{key} is a number between 1e-30 and 1", file=CONFIG)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise MalformedFile(f"{key} is true or false", file=CONFIG)
        return value

    def choice(self, key: str, known: Mapping[str, str]) -> str:
        """What ``known`` has for the key's value."""
        value = self.get(key)
        if not isinstance(value, str) or value not in known:
            raise UnsupportedModel(f"{key} {shown(value)} is none of {', '.join(known)}")
        return known[value]

    def refuse_unless(self, key: str, *accepted: Any) -> None:
        """The key must be missing, or hold one of these values."""
        value = self.get(key, accepted[0])
        if not any(type(value) is type(good) and value == good for good in accepted):
            raise UnsupportedModel(f"{key} {shown(value)} is not supported")

    def heads(self, hidden: int, key: str) -> int:
        """The number of attention heads, which divides the hidden size."""
        heads = self.size(key, HEADS_MAX)
        if hidden % heads:
            raise MalformedFile(f"the hidden size is not a multiple of {key}", file=CONFIG)
        return heads


def shown(value: Any) -> str:
    """A value of a config in a message: one line, not long."""
    return ascii(value)[:32]


class Tensors:
    """The checkpoint's tensors by name, with or without ``prefix``, each shape checked when it is taken."""

    def __init__(self, data: bytearray, prefix: str) -> None:
        self._tensors: dict[str, Array] = {}
        for name, array in read_floats(data, WEIGHTS).items():
            short = name.removeprefix(prefix)
            if short in self._tensors:
                raise MalformedFile(f"stands there with and without {prefix}", file=WEIGHTS, tensor=short[:64])
            self._tensors[short] = array
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int) -> Array:
        """float32, finite. Raises ``MalformedFile``."""
        array = self._tensors.get(name)
        if array is None:
            raise MalformedFile("the tensor is missing, or not F32, F16 or BF16", file=WEIGHTS, tensor=name)
        if array.shape != shape:
            raise MalformedFile(f"shape {list(array.shape)}, not {list(shape)}", file=WEIGHTS, tensor=name)
        if not np.isfinite(array).all():
            raise MalformedFile("holds NaN or infinity", file=WEIGHTS, tensor=name)
        self._taken.add(name)
        return array

    def head(self, config: Config, embeddings: Array, tied: bool) -> Array:
        """The output matrix [V, d]: ``lm_head.weight``, or the embeddings. ``tied``: where the config does not say."""
        if not config.flag("tie_word_embeddings", tied):
            return self.take("lm_head.weight", *embeddings.shape)
        if "lm_head.weight" in self and not np.array_equal(self.take("lm_head.weight", *embeddings.shape), embeddings):
            raise MalformedFile(
                "is not the embeddings, to which the config ties it", file=WEIGHTS, tensor="lm_head.weight"
            )
        return embeddings

    def finish(self, ignored: Collection[str]) -> None:
        """Refuse tensors that nobody took: this is another architecture. ``ignored``: ends of names of buffers."""
        for name in self._tensors:
            if name not in self._taken and not name.endswith(tuple(ignored)):
                raise UnsupportedModel("a tensor that this architecture does not have", file=WEIGHTS, tensor=name[:64])
