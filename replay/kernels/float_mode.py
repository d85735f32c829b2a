"""Whether floating point does here what IEEE 754 says by default: asked before every run, for any library in the process
may have changed it since the backend gave its known answers.

A processor holds, per thread, whether it flushes subnormal numbers and which way it rounds. Python's own numbers are
computed in the calling thread, so they tell of that one; a backend with threads of its own asks each of them with tensors
(``torch_backend``).
"""

from __future__ import annotations

#: A sum whose second summand must vanish or must not, and what comes out of it in the default mode: half to even,
#: subnormals kept. The second line is wrong when rounding up, the third when rounding down or towards zero.
CANARIES = (
    (
        float.fromhex("0x0.0000000000001p-1022"),
        float.fromhex("0x0.0000000000001p-1022"),
        "subnormal numbers are flushed",
    ),
    (1.0, 2.0**-53, "sums are rounded up"),
    (1.0, -(2.0**-54), "sums are rounded down or towards zero"),
)
_EXPECTED = (float.fromhex("0x0.0000000000002p-1022").hex(), (1.0).hex(), (1.0).hex())


def strays() -> str:
    """What is wrong with the calling thread's floating-point mode; empty when nothing is."""
    for (first, second, trouble), expected in zip(CANARIES, _EXPECTED, strict=True):
        if (first + second).hex() != expected:
            return f"in this thread {trouble}"
    return ""
