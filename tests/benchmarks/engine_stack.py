"""The network that the engine is measured on."""

from __future__ import annotations

import numpy as np

from replay.importers.build import Builder
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port

LAYERS, WIDTH, HEADS, TOKENS = 12, 768, 12, 256


def stack(grid: str, layers: int = LAYERS) -> Model:
    """A GPT-like stack with random weights, without embeddings: x [T, 768] → [T, 768]."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape, np.float32) * np.float32(0.02)).astype(np.float32)

    b = Builder([Port("x", TensorType("float32", ("T", WIDTH)))], {"T": 1024}, grid)
    x, boundaries = "x", []
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    for layer in range(layers):
        name = f"layer.{layer}"
        y = b.linear(
            b.layer_norm(x, f"{name}.n1", ones, zeros, 1e-5), f"{name}.qkv", draw(3 * WIDTH, WIDTH), zeros.repeat(3)
        )
        y = b.attention(y, HEADS, HEADS, WIDTH // HEADS, causal=True)
        x = b.add("add", [b.linear(y, f"{name}.mixed", draw(WIDTH, WIDTH), zeros), x])
        y = b.linear(
            b.layer_norm(x, f"{name}.n2", ones, zeros, 1e-5), f"{name}.inner", draw(4 * WIDTH, WIDTH), zeros.repeat(4)
        )
        y = b.linear(b.add("gelu_tanh", [y]), f"{name}.outer", draw(WIDTH, 4 * WIDTH), zeros)
        x = b.add("add", [y, x], name=name)
        boundaries.append(x)
    return b.model({"y": x}, boundaries[:-1])
