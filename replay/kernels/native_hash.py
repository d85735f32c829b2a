"""Roots of tensors by the processor's SHA-256 instructions where it has them: the bytes are those of ``replay.layout``."""

from __future__ import annotations

import numpy as np
import torch

from replay import layout
from replay.kernels.native_library import library
from replay.layout import Array


def tensor_root(array: Array) -> bytes:
    """``layout.tensor_root``, about four times as fast. Raises ``LayoutError``."""
    if not library().rpl_sha():
        return layout.tensor_root(array)
    layout.check_tensor(array)
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1])
    leaves = np.empty(32 * layout.tile_count(array.shape, array.dtype), np.uint8)
    width = rows.shape[1] * rows.itemsize
    library().rpl_root(rows.ctypes.data, len(rows), width, leaves.ctypes.data, torch.get_num_threads())
    return layout.tensor_hash(array, leaves[:32].tobytes())
