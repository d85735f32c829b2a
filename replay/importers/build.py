"""Writing a program down, operator by operator: names, bit budgets and frozen constants in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

    def __init__(self, inputs: Sequence[Port], symbols: Mapping[str, int]) -> None:
        self.inputs, self.symbols = tuple(inputs), dict(symbols)
        self.types: dict[str, TensorType] = {port.name: port.type for port in inputs}
        self.operators: list[Operator] = []
        self._specs: list[WeightSpec] = []
        self._arrays: dict[str, Array] = {}

    def weight(self, name: str, array: Array, form: str = "raw") -> str:
        """Declare a float32 or int32 weight; returns its name."""
        dtype: DType = "float32" if array.dtype == np.float32 else "int32"
        grid = form == "grid"
        self._specs.append(WeightSpec(name, dtype, tuple(array.shape), "grid" if grid else "raw"))
        self._arrays[name] = array
        return name

    def add(
        self, kind: str, inputs: Sequence[str], weights: Sequence[str] = (), *, name: str = "", **attributes: Attribute
    ) -> str:
        """Append an operator; returns the name of its value."""
        output = name or f"v{len(self.operators)}.{kind}"
        op = Operator(kind, tuple(inputs), output, tuple(weights), attributes)
        specs = {weight.name: weight for weight in self._specs}
        site = Site(op, tuple(self.types[name] for name in inputs), tuple(specs[w] for w in weights), self.symbols)
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
        a, w = spec.dot_bits(weight.shape[1])
        return self.add("linear", [value], weights, name=name, a_bits=a, w_bits=w)

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

    def attention(self, value: str, heads: int, kv_heads: int, head_dim: int, *, causal: bool) -> str:
        q, k = spec.dot_bits(head_dim)
        return self.add(
            "attention",
            [value],
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            causal=int(causal),
            q_bits=q,
            k_bits=k,
            value_bits=spec.VALUE_BITS,
            scale=spec.attention_scale(head_dim),
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
            weights=tuple(self._specs),
            operators=tuple(self.operators),
            outputs=tuple(Result(name, value) for name, value in outputs.items()),
            boundaries=tuple(boundaries),
            tokenizer=tokenizer,
        )
        return Model(program, self._arrays)
