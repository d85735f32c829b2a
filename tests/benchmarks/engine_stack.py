"""The networks that the engine is measured on, as our programs and in ordinary torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

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


def torch_stack(model: Model, *, onednn: bool, layers: int = LAYERS) -> Callable[..., torch.Tensor]:
    """The same in ordinary fp32. With ``cache`` (one list per layer) it reads one token after others."""
    weights = {name: torch.from_numpy(array) for name, array in model.weights.items()}
    packed = {name: w.to_mkldnn() for name, w in weights.items()} if onednn else {}

    def linear(x: torch.Tensor, label: str) -> torch.Tensor:
        if onednn:
            out = torch._C._nn.mkldnn_linear(x.to_mkldnn(), packed[f"{label}.weight"], packed[f"{label}.bias"])
            return out.to_dense()
        return F.linear(x, weights[f"{label}.weight"], weights[f"{label}.bias"])

    def run(x: torch.Tensor, cache: list[list[torch.Tensor]] | None = None) -> torch.Tensor:
        for layer in range(layers):
            name = f"layer.{layer}"
            tokens = len(x)
            y = F.layer_norm(x, (WIDTH,), weights[f"{name}.n1.weight"], weights[f"{name}.n1.bias"], 1e-5)
            q, k, v = linear(y, f"{name}.qkv").view(tokens, 3, HEADS, -1).permute(1, 2, 0, 3)
            if cache is not None:
                if cache[layer]:
                    k, v = (torch.cat([old, new], 1) for old, new in zip(cache[layer], (k, v), strict=True))
                cache[layer][:] = [k, v]
            y = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=tokens > 1)[0]
            x = x + linear(y.transpose(0, 1).reshape(tokens, -1), f"{name}.mixed")
            y = F.layer_norm(x, (WIDTH,), weights[f"{name}.n2.weight"], weights[f"{name}.n2.bias"], 1e-5)
            x = x + linear(F.gelu(linear(y, f"{name}.inner"), approximate="tanh"), f"{name}.outer")
        return x

    return run
