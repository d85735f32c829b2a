"""torch's own threads hold a floating-point mode each: a sum long enough that every one of them computes a part."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: torch gives a thread no fewer elements than this (ATen/Parallel.h, internal::GRAIN_SIZE).
GRAIN = 32_768


@lru_cache(maxsize=4)
def _sums(threads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Summands and the bits of their sums (see ``float_mode.CANARIES``; here in float32): each [threads · GRAIN]."""
    one = torch.ones((), dtype=torch.float32)
    tiny = torch.tensor(1, dtype=torch.int32).view(torch.float32)
    first = torch.stack([tiny, one, one, one]).repeat(threads * GRAIN // 4)
    second = torch.stack([tiny, one * 2.0**-24, one * -(2.0**-25), one * 0]).repeat(threads * GRAIN // 4)
    bits = torch.stack([tiny.view(torch.int32) * 2, *[one.view(torch.int32)] * 3]).repeat(threads * GRAIN // 4)
    return first, second, bits


def strays() -> str:
    """What is wrong with the floating-point mode of torch's threads, the calling one among them; empty when nothing is."""
    with torch.inference_mode(), torch.device("cpu"):
        first, second, bits = _sums(torch.get_num_threads())
        wrong = ((first + second).view(torch.int32) != bits).view(-1, 4).any(0)
        if not bool(wrong.any()):
            return ""
        flushes = bool(wrong[0])
    return f"a thread of torch {'flushes subnormal numbers' if flushes else 'does not round to the nearest'}"
