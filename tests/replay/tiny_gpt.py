"""A language model of a few thousand random weights, built operator by operator."""

from __future__ import annotations

import numpy as np

from replay.importers.build import Builder
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port

VOCABULARY, WIDTH, HEADS, LAYERS, ROOM = 29, 24, 3, 2, 48


def tiny_gpt(seed: int = 0, *, scale: float = 1.0, grid: str = "hi", layers: int = LAYERS) -> Model:
    """``input_ids`` int32[T] → ``logits`` [T, 29]; boundaries: embeddings, each layer, the last norm."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * scale / np.sqrt(shape[-1])).astype(np.float32)

    b = Builder([Port("input_ids", TensorType("int32", ("T",)))], {"T": ROOM}, grid)
    table = draw(VOCABULARY, WIDTH)
    x = b.add("embedding", ["input_ids"], [b.weight("words", table)])
    places = b.add("position_rows", ["input_ids"], [b.weight("positions", draw(ROOM, WIDTH))])
    x = b.add("add", [x, places], name="embeddings")
    boundaries = [x]
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    for layer in range(layers):
        name = f"layer.{layer}"
        y = b.layer_norm(x, f"{name}.norm1", ones, zeros, 1e-5)
        y = b.linear(y, f"{name}.qkv", draw(3 * WIDTH, WIDTH), draw(3 * WIDTH))
        y = b.attention(y, HEADS, HEADS, WIDTH // HEADS, causal=True)
        x = b.add("add", [b.linear(y, f"{name}.mixed", draw(WIDTH, WIDTH), draw(WIDTH)), x])
        y = b.layer_norm(x, f"{name}.norm2", ones, zeros, 1e-5)
        y = b.add("gelu_tanh", [b.linear(y, f"{name}.inner", draw(2 * WIDTH, WIDTH), draw(2 * WIDTH))])
        y = b.linear(y, f"{name}.outer", draw(WIDTH, 2 * WIDTH), draw(WIDTH))
        x = b.add("add", [y, x], name=name)
        boundaries.append(x)
    x = b.layer_norm(x, "norm", ones, zeros, 1e-5, name="normed")
    return b.model({"logits": b.linear(x, "head", table, None)}, [*boundaries, x])
