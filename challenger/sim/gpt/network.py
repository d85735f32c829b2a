"""GPT-2's architecture in plain torch, with Hugging Face's names, as it is trained. The replay engine does not use it.

Weights of the four products of a layer lie as Hugging Face's Conv1D keeps them, [in, out]. The embedding also is the
output's matrix, so that a file of these tensors has no ``lm_head``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  its usual name

INIT = 0.05  # standard deviation of the initial weights of products: GPT-2's 0.02 is meant for wider layers
TABLE = 0.1  # that of the character table
WAVES = 0.2  # amplitude of the waves that the position table starts as


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of GPT-2's ``config.json`` that this architecture reads."""

    vocab_size: int
    n_embd: int = 160
    n_layer: int = 6
    n_head: int = 5
    n_positions: int = 256
    layer_norm_epsilon: float = 1e-5

    def document(self) -> dict[str, Any]:
        """``config.json`` as Hugging Face reads it."""
        fixed = {
            "activation_function": "gelu_new",
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_inner": None,
            "tie_word_embeddings": True,
        }
        return {**asdict(self), **fixed}


class Conv1D(nn.Module):
    def __init__(self, inputs: int, outputs: int, std: float = INIT) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * std)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.flatten(0, 1), self.weight).view(*x.shape[:2], -1)


class Attention(nn.Module):
    def __init__(self, config: Config, dropout: float) -> None:
        super().__init__()
        d = config.n_embd
        self.heads = config.n_head
        self.c_attn = Conv1D(d, 3 * d)
        self.c_proj = Conv1D(d, d, residual_std(config))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, d = x.shape
        # q, k, v: [batch, heads, tokens, head_dim]
        q, k, v = self.c_attn(x).view(batch, tokens, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = self.c_proj(y.transpose(1, 2).reshape(batch, tokens, d))
        return F.dropout(y, self.dropout, self.training)


class Perceptron(nn.Module):
    def __init__(self, config: Config, dropout: float) -> None:
        super().__init__()
        d = config.n_embd
        self.c_fc = Conv1D(d, 4 * d)
        self.c_proj = Conv1D(4 * d, d, residual_std(config))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return F.dropout(y, self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: Config, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, dropout)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = Perceptron(config, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        y: Tensor = x + self.mlp(self.ln_2(x))
        return y


class Gpt(nn.Module):
    def __init__(self, config: Config, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config, dropout) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        nn.init.normal_(self.wte.weight, std=TABLE)
        self.wpe.weight.data.copy_(waves(config))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, tokens, vocabulary] of ids [batch, tokens], at most ``n_positions`` tokens."""
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        x = F.dropout(x, self.dropout, self.training)
        for block in self.h:
            x = block(x)
        logits: Tensor = self.ln_f(x) @ self.wte.weight.T
        return logits


def residual_std(config: Config) -> float:
    """Two products a layer add to the residual stream: their initial size keeps its variance at one layer's."""
    return INIT / math.sqrt(2 * config.n_layer)


def waves(config: Config) -> Tensor:
    """Sines and cosines [positions, d], to start from: they show a layer which characters stand just before its own,
    which random positions would have to learn first. Twice the amplitude took the loss of a short trial with AdamW
    from 2.40 to 2.22."""
    half = config.n_embd // 2
    frequencies = float(config.n_positions) ** (-torch.arange(half) / half)
    angles = torch.arange(config.n_positions)[:, None] * frequencies  # [positions, half]
    return WAVES * torch.cat([angles.sin(), angles.cos()], 1)
