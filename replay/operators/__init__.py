"""What each operator kind takes and gives: types, shapes, attributes. Static meaning only; the arithmetic is in
``kernels`` and in ``docs/numerics.md``.

A *value* is an activation (a program input or an operator's output), a *weight* a tensor of the artefact. A dimension
is an integer or a symbol (``"T"`` tokens, ``"B"`` batch) that an input binds at run time.
"""

from __future__ import annotations

from collections.abc import Mapping

from replay.operators import arithmetic, network, shapes
from replay.operators.types import (
    MAX_RANK,
    Attribute,
    Dim,
    DType,
    Operator,
    Signature,
    Site,
    TensorType,
    WeightSpec,
    broadcast,
)

__all__ = [
    "MAX_RANK",
    "SIGNATURES",
    "Attribute",
    "DType",
    "Dim",
    "Operator",
    "Signature",
    "Site",
    "TensorType",
    "WeightSpec",
    "broadcast",
    "infer",
]

#: Every kind that spec version 1 knows.
SIGNATURES: Mapping[str, Signature] = {**network.SIGNATURES, **arithmetic.SIGNATURES, **shapes.SIGNATURES}


def infer(site: Site) -> TensorType:
    """The type of what the operator gives. Raises ``ProgramError``."""
    op = site.op
    signature = SIGNATURES.get(op.kind)
    if signature is None:
        raise site.fail(f"unknown operator kind {op.kind!r}")
    site.need(len(site.values) in signature.values, f"takes {_counts(signature.values)} inputs, not {len(site.values)}")
    site.need(
        len(site.weights) in signature.weights,
        f"takes {_counts(signature.weights)} weights, not {len(site.weights)}",
    )
    site.need(
        set(op.attributes) == signature.attributes, f"has the attributes {sorted(signature.attributes)}, no others"
    )
    grid = [weight.name for weight in site.weights if weight.form == "grid"]
    site.need(op.kind == "linear" or not grid, f"cannot use the gridded weight {grid[:1]}")
    return signature.rule(site)


def _counts(counts: object) -> str:
    return f"{counts[0]} to {counts[-1]}" if isinstance(counts, range) else str(counts)
