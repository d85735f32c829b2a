"""The scalar reference: every operator in plain Python integers, and each of its rows and elements by itself.

A dispute is about one element. What explains it stands here: its row's exponent with a witness (``grid_row``), one partial
sum per tile of terms and the bits they round to (``linear_element``), one row of attention with all that leads to it.
"""

from replay.kernels.scalar.attention import AttentionRow, allowed, attention_row
from replay.kernels.scalar.backend import ScalarKernels
from replay.kernels.scalar.grid import GridRow, grid_exponent, grid_row, unit_power
from replay.kernels.scalar.network import (
    LinearElement,
    Moments,
    SoftmaxRow,
    l2_normalise_row,
    layer_norm_row,
    linear_element,
    linear_epilogue,
    mean_tokens_column,
    moments,
    rms_norm_row,
    sample_weights_row,
    softmax_row,
)
from replay.kernels.scalar.tables import rope_row, tree_leaf
from replay.kernels.scalar.tensor import Tensor

__all__ = [
    "AttentionRow",
    "GridRow",
    "LinearElement",
    "Moments",
    "ScalarKernels",
    "SoftmaxRow",
    "Tensor",
    "allowed",
    "attention_row",
    "grid_exponent",
    "grid_row",
    "l2_normalise_row",
    "layer_norm_row",
    "linear_element",
    "linear_epilogue",
    "mean_tokens_column",
    "moments",
    "rms_norm_row",
    "rope_row",
    "sample_weights_row",
    "softmax_row",
    "tree_leaf",
    "unit_power",
]
