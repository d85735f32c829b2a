"""Writing a program down, operator by operator: names, bit budgets and frozen constants in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from replay.errors import ProgramError
from replay.kernels import spec
from replay.layout import Array
from replay.model import Model
from replay.operators import Attribute, DType, Operator, Site, TensorType, WeightSpec, infer
from replay.program import Port, Program, Result


class Builder:
    """Collects operators. A value is called ``v{index}.{kind}`` unless named; types are inferred as it goes, so a
    mistake shows at the operator that makes it (``ProgramError``)."""

    def __init__(self, inputs: Sequence[Port], symbols: Mapping[str, int], grid: str = spec.GRIDS[0]) -> None:
        self.inputs, self.symbols, self.grid = tuple(inputs), dict(symbols), grid
        self.types: dict[str, TensorType] = {port.name: port.type for port in inputs}
        self.operators: list[Operator] = []
        self._specs: dict[str, WeightSpec] = {}
        self._arrays: dict[str, Array] = {}

    def weight(self, name: str, array: Array, form: str = "raw") -> str:
        """Declare a weight (a scalar becomes one of shape [1]); returns its name."""
        array = np.ascontiguousarray(array).reshape(array.shape or (1,))
        dtype = next((known for known in get_args(DType) if array.dtype == np.dtype(known)), None)
        if dtype is None:
            raise ProgramError(f"weight {name} has the dtype {array.dtype}")
        grid = form == "grid"
        self._specs[name] = WeightSpec(name, dtype, tuple(array.shape), "grid" if grid else "raw")
        self._arrays[name] = array
        return name

    def add(
        self, kind: str, inputs: Sequence[str], weights: Sequence[str] = (), *, name: str = "", **attributes: Attribute
    ) -> str:
        """Append an operator; returns the name of its value."""
        output = name or f"v{len(self.operators)}.{kind}"
        op = Operator(kind, tuple(inputs), output, tuple(weights), attributes)
        reads, uses = tuple(self.types[name] for name in inputs), tuple(self._specs[name] for name in weights)
        site = Site(op, reads, uses, self.symbols, self.grid)
        if output in self.types:
            raise ProgramError(f"the value {output} is written twice")
        self.types[output] = infer(site)
        self.operators.append(op)
        return output

    def linear(self, value: str, label: str, weight: Array, bias: Array | None, name: str = "") -> str:
        """``weight``: [N, K]; ``bias``: [N] or None."""
        weights = [self.weight(f"{label}.weight", weight, "grid")]
        if bias is not None:
            weights.append(self.weight(f"{label}.bias", bias))
        a, w = spec.dot_bits(weight.shape[1], self.grid)
        return self.add("linear", [value], weights, name=name, a_bits=a, w_bits=w)

    def matmul(self, left: str, right: str, name: str = "") -> str:
        """``left`` [..., M, K] times the rows of ``right`` [..., N, K]."""
        length = self.types[left].shape[-1]
        if not isinstance(length, int):
            raise ProgramError("matmul needs rows of fixed length")
        a, b = spec.dot_bits(length)
        return self.add("matmul", [left, right], name=name, a_bits=a, b_bits=b)

    def rms_norm(self, value: str, label: str, gain: Array, eps: float, name: str = "") -> str:
        size = len(gain)
        return self.add(
            "rms_norm",
            [value],
            [self.weight(f"{label}.weight", gain)],
            name=name,
            bits=spec.sum_bits(size),
            inv_d=spec.f64_hex(1.0 / size),
            eps=spec.f32_hex(eps),
        )

    def constant(self, label: str, array: Array) -> str:
        """A weight as a value."""
        return self.add("constant", [], [self.weight(label, array)])

    def reduce(self, kind: str, value: str, name: str = "", **attributes: int) -> str:
        """``reduce_sum``, ``reduce_mean`` or ``cumsum`` of rows, with the bit budget that their length allows."""
        held = self.types[value]
        most = held.shape[-1] if isinstance(held.shape[-1], int) else self.symbols[held.shape[-1]]
        bits = spec.total_bits(most) if held.dtype == "float32" else 0
        made: dict[str, Attribute] = {"bits": bits, **attributes}
        return self.add(kind, [value], (), name=name, **made)

    def layer_norm(self, value: str, label: str, gain: Array, shift: Array, eps: float, name: str = "") -> str:
        size = len(gain)
        weights = [self.weight(f"{label}.weight", gain), self.weight(f"{label}.bias", shift)]
        return self.add(
            "layer_norm",
            [value],
            weights,
            name=name,
            bits=spec.sum_bits(size),
            inv_d=spec.f64_hex(1.0 / size),
            inv_d2=spec.f64_hex(1.0 / (size * size)),
            eps=spec.f32_hex(eps),
        )

    def attention(
        self,
        value: str,
        heads: int,
        kv_heads: int,
        head_dim: int,
        *,
        causal: bool,
        window: int = 0,
        scale: str = "",
        mask: str = "",
    ) -> str:
        """``scale``: hex fp64 in place of head_dim^−½·log₂e; ``mask``: a value bool [T], the tokens that are there."""
        q, k = spec.dot_bits(head_dim)
        return self.add(
            "attention",
            [value, mask] if mask else [value],
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            causal=int(causal),
            window=window,
            q_bits=q,
            k_bits=k,
            value_bits=spec.VALUE_BITS,
            scale=scale or spec.attention_scale(head_dim),
        )

    def mean_tokens(self, value: str) -> str:
        return self.add("mean_tokens", [value], bits=spec.GRID_BITS_MAX)

    def l2_normalise(self, value: str) -> str:
        size = self.types[value].shape[-1]
        if not isinstance(size, int):
            raise ProgramError("l2_normalise needs rows of fixed length")
        return self.add("l2_normalise", [value], bits=spec.sum_bits(size), floor=spec.L2_FLOOR)

    def model(self, outputs: Mapping[str, str], boundaries: Sequence[str], tokenizer: str = "") -> Model:
        """The finished model. ``outputs``: name in the bundle → value."""
        program = Program(
            symbols=self.symbols,
            inputs=self.inputs,
            weights=tuple(self._specs.values()),
            operators=tuple(self.operators),
            outputs=tuple(Result(name, value) for name, value in outputs.items()),
            boundaries=tuple(boundaries),
            tokenizer=tokenizer,
            grid=self.grid,
        )
        return Model(program, self._arrays)
