"""Generation: tokens one by one with kept keys and values, or a whole text checked by one prefill. The same bits.

A job asks for a generation when its input bundle holds ``sampling`` (int64 [5]) after the model's own ``input_ids``. Its
output bundle is ``{"tokens": int32 [n]}``; its boundaries are those of one run over prompt and tokens, the last token
aside, which no run ever reads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay.errors import InputRejected
from replay.kernels.state import State
from replay.layout import Array
from replay.operators import Operator
from replay.operators.arithmetic import FUNCTIONS
from replay.program import Program
from replay.run import NONFINITE, Prepared, Run, check_inputs, evaluate, fingerprint
from replay.sampling import NAME, TOKENS, Sampling, choose, read_sampling

#: Kinds that treat each token by itself, beside attention, which must be causal.
ROWWISE = frozenset(FUNCTIONS) | {
    "embedding", "position_rows", "rope", "linear", "layer_norm", "rms_norm", "l2_normalise", "softmax", "log_softmax",
    "add", "sub", "mul", "div", "max", "min", "neg", "abs", "attention",
}  # fmt: skip
SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be generated: ``prompt`` int32 [P], how to sample, the seed (32 bytes)."""

    prompt: Array
    sampling: Sampling
    seed: bytes


def asks(inputs: Mapping[str, Array]) -> bool:
    """Whether these inputs ask for a generation."""
    return NAME in inputs


def read_job(program: Program, inputs: Mapping[str, Array], seed: bytes) -> Job:
    """Raises ``InputRejected``: no language model, a prompt that does not fit, a seed that is none."""
    port = language_port(program)
    if list(inputs) != [port, NAME]:
        raise InputRejected(f"the inputs are {[str(name)[:32] for name in inputs]}, a generation wants {[port, NAME]}")
    prompt, sampling = inputs[port], read_sampling(inputs[NAME])
    check_inputs(program, {port: prompt})
    room = program.symbols["T"] - len(prompt) + 1
    if sampling.max_tokens > room:
        raise InputRejected(f"{len(prompt)} tokens leave room for {room} more, not {sampling.max_tokens}")
    if len(seed) != SEED_BYTES:
        raise InputRejected(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    return Job(prompt, sampling, seed)


def language_port(program: Program) -> str:
    """The name of a language model's input. Raises ``InputRejected`` for any other program."""
    port = program.inputs[0]
    types = program.types
    causal = all(
        op.kind in ROWWISE
        and types[op.output].shape[:1] == ("T",)
        and (op.kind != "attention" or (op.integer("causal") == 1 and len(op.inputs) == 1))
        and all(types[name].shape[0] == "T" for name in op.inputs)
        for op in program.operators
    )
    logits = [types[result.value] for result in program.outputs]
    good = len(program.inputs) == 1 and port.type.dtype == "int32" and port.type.shape == ("T",) and causal
    if not good or len(logits) != 1 or logits[0].dtype != "float32" or len(logits[0].shape) != 2:
        raise InputRejected(
            "the model does not generate: it is no causal program from int32[T] to logits float32[T, V]"
        )
    return port.name


class Decoder:
    """A language model that has read some tokens: feed it more, and it gives the weights of the next token."""

    def __init__(self, prepared: Prepared, scale: str) -> None:
        self._prepared, self._program = prepared, prepared.model.program
        self._port = language_port(self._program)
        self._state = State()
        self._weigh = Operator("sample_weights", ("logits",), "weights", (), {"scale": scale})
        self._logits = self._program.outputs[0].value
        self._rows: list[list[Array]] = [[] for _ in self._program.boundaries]
        self._fed: list[Array] = []
        self.nonfinite: tuple[int, int] | None = None

    @property
    def position(self) -> int:
        return self._state.position

    def feed(self, tokens: Array, last: int = 1) -> Array | None:
        """Sampling weights int64 [last, V] after the last tokens of ``tokens`` (int32 [n]); None once not finite."""
        kernels, program = self._prepared.kernels, self._program
        self._fed.append(tokens)
        dims = {"T": len(tokens)}
        values, lost = evaluate(program, kernels, {self._port: tokens}, dims, state=self._state)
        for held, name in zip(self._rows, program.boundaries, strict=True):
            if name in values:
                held.append(np.array(kernels.unload(values[name])))
        if lost is not None:
            self.nonfinite = lost[0], lost[1] + self._state.position * self._width(lost[0])
            return None
        self._state.position += len(tokens)
        logits = values[self._logits][len(tokens) - last :]
        return kernels.unload(kernels.apply(self._weigh, [logits], {}))

    def read(self) -> dict[str, Array]:
        """All tokens that were fed, those at which it was not finite among them: the input of one run over them."""
        return {self._port: np.concatenate(self._fed)}

    def boundaries(self) -> tuple[Array | None, ...]:
        """Boundary tensors of one run over all that was read; None for those that are not reached."""
        order = {op.output: index for index, op in enumerate(self._program.operators)}
        last = len(order) if self.nonfinite is None else self.nonfinite[0]
        return tuple(
            np.concatenate(held) if order[name] < last else None
            for held, name in zip(self._rows, self._program.boundaries, strict=True)
        )

    def _width(self, index: int) -> int:
        """Elements that operator ``index`` writes per token."""
        shape = self._program.types[self._program.operators[index].output].shape
        return int(np.prod([dim for dim in shape[1:] if isinstance(dim, int)], dtype=np.int64))


def generate(prepared: Prepared, job: Job, claim: Sequence[int] = ()) -> Run:
    """The run of a job. ``claim``: tokens that somebody says came out; as far as they are right they are checked by one
    prefill, not generated one by one. The result does not depend on it. Raises ``InputRejected``."""
    started = time.perf_counter()
    decoder, tokens = _checked(prepared, job, _legal(prepared.model.program, job, claim))
    if not _ended(job, tokens):
        decoder = Decoder(prepared, job.sampling.scale)
        tokens = _decoded(decoder, job, tokens)
    outputs: dict[str, Any] = {TOKENS: np.array(tokens, np.int32)}
    if decoder.nonfinite is not None:
        outputs = {NONFINITE: np.array(decoder.nonfinite, np.int32)}
    seconds = time.perf_counter() - started
    return Run(decoder.read(), outputs, decoder.boundaries(), decoder.nonfinite, fingerprint(prepared), seconds)


def force(prepared: Prepared, job: Job, tokens: Sequence[int]) -> Run:
    """What an honest run computes where each step has read the given tokens, right or wrong: their boundaries, and for
    each step the token that comes next. A text that should have ended earlier is cut there; where one should go on, −1
    follows. This is what tells a wrong choice from wrong arithmetic. Raises ``InputRejected``."""
    legal = _legal(prepared.model.program, job, tokens)
    if not tokens or legal != list(tokens):
        raise InputRejected(f"token {len(legal)} of {len(tokens)} cannot be read by the model")
    started = time.perf_counter()
    decoder = Decoder(prepared, job.sampling.scale)
    weights = decoder.feed(fed(job, legal), last=len(legal))
    if weights is None:
        outputs: dict[str, Any] = {NONFINITE: np.array(decoder.nonfinite, np.int32)}
    else:
        chosen: list[int] = []
        for row in weights:
            chosen.append(choose(row, job.sampling, job.seed, len(chosen)))
            if _ended(job, [*legal[: len(chosen) - 1], chosen[-1]]):
                break
        else:
            chosen.append(-1)
        outputs = {TOKENS: np.array(chosen, np.int32)}
    seconds = time.perf_counter() - started
    return Run(decoder.read(), outputs, decoder.boundaries(), decoder.nonfinite, fingerprint(prepared), seconds)


def fed(job: Job, tokens: Sequence[int]) -> Array:
    """What the model has read when ``tokens`` have come out: int32 [P + n − 1]."""
    return np.concatenate([job.prompt, np.array(tokens[:-1], np.int32)])


def _checked(prepared: Prepared, job: Job, claim: list[int]) -> tuple[Decoder, list[int]]:
    """One prefill over prompt and claim: the tokens that certainly come out, and the decoder that read them. Where the
    claim is wrong or too long the decoder has read what never was: the tokens are then fewer than an ended text."""
    decoder, tokens = Decoder(prepared, job.sampling.scale), list[int]()
    if not claim:
        return decoder, tokens
    weights = decoder.feed(fed(job, claim), last=len(claim))
    if weights is None:
        return decoder, tokens  # what is not finite may lie in what never was: the text is generated without the claim
    for row, claimed in zip(weights, claim, strict=True):
        tokens.append(choose(row, job.sampling, job.seed, len(tokens)))
        if tokens[-1] != claimed or (_ended(job, tokens) and len(tokens) < len(claim)):
            return decoder, tokens if not _ended(job, tokens) else tokens[:-1]
    return decoder, tokens


def _decoded(decoder: Decoder, job: Job, tokens: list[int]) -> list[int]:
    """The whole text; ``tokens`` are known to come first."""
    unread = np.concatenate([job.prompt, np.array(tokens, np.int32)])
    while not _ended(job, tokens):
        weights = decoder.feed(unread)
        if weights is None:
            break
        tokens.append(choose(weights[0], job.sampling, job.seed, len(tokens)))
        unread = np.array(tokens[-1:], np.int32)
    return tokens


def _ended(job: Job, tokens: Sequence[int]) -> bool:
    return len(tokens) == job.sampling.max_tokens or (len(tokens) > 0 and tokens[-1] == job.sampling.end)


def _legal(program: Program, job: Job, claim: Sequence[int]) -> list[int]:
    """As much of the claim as a run could read at all."""
    tables = [op.weights[0] for op in program.operators if op.kind == "embedding"]
    rows = min(program.weight(table).shape[0] for table in tables)
    legal = [int(token) for token in claim[: job.sampling.max_tokens]]
    return legal[: next((place for place, token in enumerate(legal) if not 0 <= token < rows), len(legal))]
