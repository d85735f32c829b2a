"""A run that can answer for itself: every tile of every operator, with the trees that lead from the state root to it.

Nothing but boundaries is kept; an operator's tensor is computed again when somebody asks for it, one layer at a time. The
trees, from above: the *state* tree (input, boundaries, output); for each boundary the *segment* tree over the tensor
roots of the operators that lead to it, that boundary's own last; for each operator the *tensor* tree over its tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

from replay.errors import LayoutError
from replay.generate import asks, force, generate, read_job
from replay.layout import PAD_LEAF, Array, Tree, encode_bundle, tensor_root, tile_bytes, tile_hashes
from replay.program import Program
from replay.run import Prepared, Run, check_inputs, evaluate, execute
from replay.trace import state_leaves


@dataclass(frozen=True, slots=True)
class TreeId:
    """``kind``: "state", "segment" or "tensor"; ``index``: the segment's number or the operator's, 0 for the state."""

    kind: str
    index: int = 0


class Side(Protocol):
    """One party of a dispute: answers for what it committed to. An answer may be anything; the caller checks it."""

    def node(self, tree: TreeId, level: int, index: int) -> bytes:
        """The node ``index`` of ``level`` (0: leaves) of a tree."""

    def tile(self, operator: int, index: int) -> bytes:
        """The 1,024 bytes of a tile of an operator's output."""


def segments(program: Program) -> tuple[range, ...]:
    """The operators that lead to each boundary, and behind the last one those that lead to the output."""
    order = {op.output: index for index, op in enumerate(program.operators)}
    ends = [order[name] + 1 for name in program.boundaries]
    return tuple(range(first, last) for first, last in pairwise([0, *ends, len(order)]))


class Witness:
    """An honest ``Side``: one job on one backend. ``inputs`` and ``seed`` as for ``commit``. ``tokens``: for a generation,
    what was read at each step instead of what should have come out (``generate.force``)."""

    def __init__(
        self, prepared: Prepared, inputs: Mapping[str, Array], seed: bytes = b"", tokens: Sequence[int] = ()
    ) -> None:
        self._prepared, self._program = prepared, prepared.model.program
        self._held: dict[int, Array | None] = {}
        self.generates = asks(inputs)
        if self.generates:
            job = read_job(self._program, inputs, seed)
            self.run: Run = force(prepared, job, tokens) if tokens else generate(prepared, job)
        else:
            self.run = execute(prepared, inputs)
        self._read = self.run.read
        self.output = encode_bundle(self.run.outputs)
        self.leaves = state_leaves(inputs, self.run, self.output)

    @cached_property
    def state(self) -> Tree:
        return Tree(self.leaves)

    @property
    def program(self) -> Program:
        return self._program

    @property
    def weights(self) -> Mapping[str, Array]:
        return self._prepared.model.weights

    @property
    def dims(self) -> dict[str, int]:
        """The symbols' values in this run."""
        return check_inputs(self._program, self._read)

    def tensor(self, operator: int) -> Array | None:
        """What an operator wrote; None if the run was not finite there or before."""
        if operator not in self._held:
            part = next((part for part in segments(self._program) if operator in part), None)
            if part is None:
                raise LayoutError(f"there is no operator {operator}")
            self._held = self._computed(part)
        return self._held[operator]

    def reads(self, operator: int) -> list[Array]:
        """What an operator read: outputs of others, or inputs of the program."""
        order = {op.output: index for index, op in enumerate(self._program.operators)}
        wanted = self._program.operators[operator].inputs
        made = self._computed([order[name] for name in wanted if name in order])
        found = [made[order[name]] if name in order else self._read[name] for name in wanted]
        reached = [value for value in found if value is not None]
        if len(reached) < len(wanted):
            raise LayoutError(f"operator {operator} was not reached")
        return reached

    def segment(self, index: int) -> Tree:
        """Tensor roots of a segment's operators; the pad leaf for what was not reached."""
        parts = segments(self._program)
        if not 0 <= index < len(parts):
            raise LayoutError(f"there is no segment {index}")
        return Tree([self._root(operator) for operator in parts[index]] or [PAD_LEAF])

    def tiles(self, operator: int) -> Tree:
        tensor = self.tensor(operator)
        return Tree([PAD_LEAF] if tensor is None else tile_hashes(tensor))

    def node(self, tree: TreeId, level: int, index: int) -> bytes:
        """Raises ``LayoutError`` for what is not there."""
        if tree.kind == "state":
            return self.state.node(level, index)
        return (self.segment(tree.index) if tree.kind == "segment" else self.tiles(tree.index)).node(level, index)

    def tile(self, operator: int, index: int) -> bytes:
        tensor = self.tensor(operator)
        if tensor is None:
            raise LayoutError(f"operator {operator} was not reached")
        return tile_bytes(tensor, index)

    def _root(self, operator: int) -> bytes:
        tensor = self.tensor(operator)
        return PAD_LEAF if tensor is None else tensor_root(tensor)

    def _computed(self, part: Sequence[int]) -> dict[int, Array | None]:
        """What these operators wrote: the program runs again, up to the last of them."""
        kernels = self._prepared.kernels
        held: dict[int, Array | None] = dict.fromkeys(part)

        def keep(index: int, value: object) -> None:
            if index in held:
                held[index] = np.array(kernels.unload(value))

        evaluate(self._program, kernels, self._read, self.dims, observe=keep, until=max(part, default=-1) + 1)
        return held
