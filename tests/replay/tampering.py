"""Providers who cheat, each in one way, and what brute force says of where their run first differs."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay.generate import generate, read_job
from replay.kernels.state import State
from replay.layout import bundle_root
from replay.model import Model
from replay.operators import Operator
from replay.run import Kernels, Prepared, load_backend, prepare_with
from replay.sampling import TOKENS, Sampling, read_sampling
from replay.witness import Witness, segments

VOCABULARY_STEP = 7


@dataclass(frozen=True)
class Case:
    """A job on an honest model. ``seed`` is empty for a plain run."""

    model: Model
    inputs: Mapping[str, np.ndarray]
    seed: bytes = b""

    @property
    def generates(self) -> bool:
        return bool(self.seed)


class Tampered:
    """Kernels that hand on what another object makes of each result."""

    def __init__(
        self, kernels: Kernels, change: Callable[[int, Operator, np.ndarray], np.ndarray], model: Model
    ) -> None:
        self._kernels, self._change = kernels, change
        self._order = {op.output: index for index, op in enumerate(model.program.operators)}
        self.name, self.load, self.unload = kernels.name, kernels.load, kernels.unload
        self.strays, self.root, self.gridded = kernels.strays, kernels.root, kernels.gridded

    def apply(
        self, op: Operator, values: Sequence[np.ndarray], dims: Mapping[str, int], state: State | None = None
    ) -> np.ndarray:
        result = self._kernels.apply(op, values, dims, state)
        index = self._order.get(op.output)
        return result if index is None else self._change(index, op, result)


def numpy_prepared(model: Model) -> Prepared:
    return prepare_with(load_backend("numpy"), model)


def claiming(case: Case, prepared: Prepared, inputs: Mapping[str, np.ndarray], seed: bytes, tokens: Sequence[int] = ()):
    """A cheat's witness, that says to have run the case's inputs."""
    witness = Witness(prepared, inputs, seed, tokens)
    witness.leaves = (bundle_root(case.inputs), *witness.leaves[1:])
    return witness


def flipped(array: np.ndarray, dice: random.Random) -> np.ndarray:
    """A copy with one bit of one element changed; floats stay finite and below 2¹⁰⁰."""
    copy = np.array(array)
    view = copy.view({4: np.uint32, 8: np.uint64, 1: np.uint8}[copy.itemsize]).reshape(-1)
    at = dice.randrange(view.size)
    highest = 23 if copy.dtype == np.float32 else 1 if copy.dtype == np.bool_ else 20
    view[at] ^= view.dtype.type(1 << dice.randrange(highest))
    return copy


def weight_bit(case: Case, dice: random.Random) -> Witness:
    names = [weight.name for weight in case.model.program.weights if weight.dtype == "float32"]
    name = dice.choice(names)
    weights = dict(case.model.weights) | {name: flipped(case.model.weights[name], dice)}
    return claiming(case, numpy_prepared(Model(case.model.program, weights)), case.inputs, case.seed)


def activation_bit(case: Case, dice: random.Random) -> Witness:
    honest = numpy_prepared(case.model)
    chosen = dice.randrange(len(case.model.program.operators))
    seed = dice.randrange(2**32)

    def change(index: int, _: Operator, result: np.ndarray) -> np.ndarray:
        # the same element of the same tensor, however often it is computed
        return flipped(result, random.Random(seed)) if index == chosen else result

    cheat = replace(honest, kernels=Tampered(honest.kernels, change, case.model))
    if not case.generates:
        return claiming(case, cheat, case.inputs, b"")
    tokens = generate(honest, read_job(case.model.program, case.inputs, case.seed)).outputs[TOKENS].tolist()
    return claiming(case, cheat, case.inputs, case.seed, tokens)


def int8_weights(case: Case, _: random.Random) -> Witness:
    weights = dict(case.model.weights)
    for weight in case.model.program.weights:
        if weight.form == "grid":
            array = weights[weight.name]
            scale = np.maximum(np.abs(array).max(axis=1, keepdims=True), np.float32(1e-30)) / np.float32(127)
            weights[weight.name] = (np.round(array / scale) * scale).astype(np.float32)
    return claiming(case, numpy_prepared(Model(case.model.program, weights)), case.inputs, case.seed)


def swapped_layers(case: Case, _: random.Random) -> Witness:
    weights = dict(case.model.weights)
    for name in case.model.weights:
        if name.startswith("layer.0."):
            other = name.replace("layer.0.", "layer.1.")
            weights[name], weights[other] = case.model.weights[other], case.model.weights[name]
    return claiming(case, numpy_prepared(Model(case.model.program, weights)), case.inputs, case.seed)


def wrong_seed(case: Case, dice: random.Random) -> Witness:
    return claiming(case, numpy_prepared(case.model), case.inputs, dice.randbytes(32))


def wrong_temperature(case: Case, dice: random.Random) -> Witness:
    sampling = read_sampling(case.inputs["sampling"])
    other = replace(sampling, temperature=sampling.temperature + dice.randrange(50_000, 3_000_000))
    return claiming(case, numpy_prepared(case.model), {**case.inputs, "sampling": other.tensor()}, case.seed)


def truncated_prompt(case: Case, dice: random.Random) -> Witness:
    port = case.model.program.inputs[0].name
    prompt = case.inputs[port]
    short = {**case.inputs, port: prompt[dice.randrange(1, len(prompt)) :]}
    return claiming(case, numpy_prepared(case.model), short, case.seed)


def reused_cache(case: Case, dice: random.Random) -> Witness:
    """Keys and values of the prompt's positions come from another conversation."""
    port, honest = case.model.program.inputs[0].name, numpy_prepared(case.model)
    prompt = case.inputs[port]
    other = np.array([(int(token) + VOCABULARY_STEP) % 29 for token in prompt], np.int32)
    tokens = generate(honest, read_job(case.model.program, case.inputs, case.seed)).outputs[TOKENS].tolist()
    stale = Witness(honest, {**case.inputs, port: other}, case.seed)
    operators, count = case.model.program.operators, dice.randrange(1, len(prompt) + 1)
    attentions = {index: op for index, op in enumerate(operators) if op.kind == "attention"}
    order = {op.output: index for index, op in enumerate(operators)}
    before = {index: stale.tensor(order[op.inputs[0]]) for index, op in attentions.items()}

    class Reusing(Tampered):
        def apply(self, op, values, dims, state=None):
            index = self._order.get(op.output)
            if index in attentions and state is None:
                keep = op.integer("heads") * op.integer("head_dim")
                mixed = values[0].copy()
                mixed[:count, keep:] = before[index][:count, keep:]
                values = [mixed]
            return super().apply(op, values, dims, state)

    cheat = replace(honest, kernels=Reusing(honest.kernels, lambda _i, _o, result: result, case.model))
    witness = claiming(case, honest, case.inputs, case.seed, tokens)
    witness._prepared = cheat  # what it opens, and so what it commits to, is the cheat's
    witness.leaves = (witness.leaves[0], *boundary_roots(witness), witness.leaves[-1])
    return witness


def boundary_roots(witness: Witness) -> tuple[bytes, ...]:
    order = {op.output: index for index, op in enumerate(witness.program.operators)}
    return tuple(witness._root(order[name]) for name in witness.program.boundaries)


def one_token(case: Case, dice: random.Random) -> Witness:
    honest = numpy_prepared(case.model)
    tokens = generate(honest, read_job(case.model.program, case.inputs, case.seed)).outputs[TOKENS].tolist()
    at = dice.randrange(len(tokens))
    tokens[at] = (tokens[at] + 1 + dice.randrange(27)) % 29
    witness = claiming(case, honest, case.inputs, case.seed, tokens)
    witness.output = witness.output[: -4 * len(tokens)] + np.array(tokens, np.int32).tobytes()
    witness.run = replace(witness.run, outputs={TOKENS: np.array(tokens, np.int32)})
    witness.leaves = (*witness.leaves[:-1], bundle_root(witness.output))
    return witness


ANY = (weight_bit, activation_bit)
LAYERED = (int8_weights, swapped_layers)
GENERATING = (wrong_seed, wrong_temperature, truncated_prompt, reused_cache, one_token)


def by_brute_force(mine: Witness, theirs: Witness) -> tuple[int, int] | None:
    """(operator, first differing element or −1 where shapes differ) of the first difference in the segment of the first
    boundary that differs, every tensor compared; the operator behind the last is the choice of tokens."""
    differing = [i for i, pair in enumerate(zip(mine.leaves, theirs.leaves, strict=True)) if pair[0] != pair[1]]
    if not differing:
        return None
    parts = segments(mine.program)
    if differing[0] == len(mine.leaves) - 1 and TOKENS in mine.run.outputs:
        ours, said = mine.run.outputs[TOKENS].tolist(), theirs.run.outputs[TOKENS].tolist()
        step = next((i for i, pair in enumerate(zip(ours, said, strict=False)) if pair[0] != pair[1]), None)
        return len(mine.program.operators), min(len(ours), len(said)) if step is None else step
    for operator in parts[differing[0] - 1]:
        one, other = mine.tensor(operator), theirs.tensor(operator)
        assert one is not None
        assert other is not None
        if one.shape != other.shape:
            return operator, -1
        wrong = np.frombuffer(one.tobytes(), np.uint8) != np.frombuffer(other.tobytes(), np.uint8)
        if wrong.any():
            return operator, int(np.argmax(wrong)) // one.itemsize
    raise AssertionError("a boundary differs and nothing that leads to it")


def asked(prompt: Sequence[int], dice: random.Random) -> dict[str, np.ndarray]:
    sampling = Sampling(dice.randrange(3, 10), temperature=dice.choice([500_000, 1_000_000]), top_k=dice.choice([0, 9]))
    return {"input_ids": np.array(prompt, np.int32), "sampling": sampling.tensor()}
