"""Where two runs part: the first operator, tile and element that differ, found with O(log) openings.

The other side only answers queries (``witness.Side``), and each answer is checked against what it committed to: an answer
that does not hash to its own commitment is as good as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from replay.errors import LayoutError
from replay.layout import (
    PAD_LEAF,
    TILE_BYTES,
    Array,
    Tree,
    border,
    bundle_root,
    decode_bundle,
    hash_tile,
    node_hash,
    tensor_hash,
    tensor_root,
    tile_bytes,
    tile_elements,
)
from replay.run import NONFINITE
from replay.sampling import TOKENS
from replay.witness import Side, TreeId, Witness, segments

#: The kind of the step behind a language model's operators: the choice of tokens.
CHOICE = "choose"
OTHER_SHAPE = "no tensor of this shape"


@dataclass(frozen=True, slots=True)
class Divergence:
    """``leaf``: the first state leaf that differs. ``operator``: index, kind and value of the first operator whose output
    differs, given the same inputs; ``tile`` and ``element`` (flat index) of its output, ``mine`` and ``theirs`` the bits
    there (hex, big endian; empty where a side has none). ``openings``: what the other side had to open."""

    leaf: int
    operator: int
    kind: str
    value: str
    tile: int
    element: int
    mine: str
    theirs: str
    openings: int
    note: str = ""


class Refuted(Exception):
    """The other side's answer does not hash to what it committed to: it cannot open its own commitment."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


def first_difference(mine: Sequence[bytes], theirs: Sequence[bytes]) -> int | None:
    """Index of the first state leaf that differs (0 is the input, the last the output), None when all agree.

    Where one list goes on after the other ended, that is where they differ.
    """
    for index, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            return index
    return None if len(mine) == len(theirs) else min(len(mine), len(theirs))


def localise(mine: Witness, theirs: Side, state_root: bytes, output: bytes) -> Divergence | None:
    """The first difference between my run and a committed one, None if there is none: what differs then vanished before it
    reached a committed boundary, and is no fraud.

    ``state_root`` and ``output`` (bundle) are what the other side committed to; for a generation ``mine`` must have read
    its tokens (``Witness(tokens=…)``), and where it says that it broke off as many of one's own: of runs over texts of
    different length all that is found is the first tensor whose shape differs. Raises ``Refuted``.
    """
    if mine.state.root == state_root:
        return None
    walk = _Walk(mine, theirs)
    leaf, claimed = walk.first(TreeId("state"), mine.state, state_root, "state tree")
    if leaf == 0:
        return walk.found(0, -1, note="another input", mine=mine.leaves[0].hex(), theirs=claimed.hex())
    last = len(mine.leaves) - 1
    if leaf == last:
        return _at_the_end(walk, leaf, _opened(output, claimed))
    if claimed == PAD_LEAF:
        committed = walk.leaf(TreeId("state"), mine.state, state_root, last, "state tree")
        return _left_out(walk, leaf, _opened(output, committed))
    part = segments(mine.program)[leaf - 1]
    return _inside(walk, leaf, leaf - 1, {part[-1]: claimed})


def _opened(output: bytes, committed: bytes) -> dict[str, Array]:
    """The tensors of the output that was given: of any names, types and shapes, but the committed ones."""
    try:
        tensors = decode_bundle(output)
    except LayoutError as error:
        raise Refuted(f"the output given is no bundle: {error.detail}") from error
    if bundle_root(tensors) != committed:
        raise Refuted("the output given does not hash to the committed output root")
    return tensors


def _at_the_end(walk: _Walk, leaf: int, tensors: Mapping[str, Array]) -> Divergence:
    """All boundaries agree, the outputs differ."""
    mine, operators = walk.mine, walk.mine.program.operators
    ours, theirs = mine.run.nonfinite, _place(mine, tensors)
    if theirs is not None and (ours is None or theirs < ours):
        return _not_finite(walk, leaf, theirs)
    if ours is not None:
        return walk.found(leaf, *ours, mine="nonfinite")
    if list(tensors) != list(mine.run.outputs):
        return walk.found(leaf, len(operators) - 1, note="outputs of other names")
    if mine.generates:
        return _chosen(walk, leaf, tensors[TOKENS])
    order = {op.output: index for index, op in enumerate(operators)}
    places = {result.name: order[result.value] for result in mine.program.outputs}
    held = {name: border(array) for name, array in mine.run.outputs.items()}
    wrong = {places[name]: name for name, array in tensors.items() if tensor_root(held[name]) != tensor_root(array)}
    operator = min(wrong)
    name = wrong[operator]
    if held[name].shape != tensors[name].shape or held[name].dtype != tensors[name].dtype:
        return walk.found(leaf, operator, note=OTHER_SHAPE)
    if mine.run.outputs[name].dtype == np.bool_:
        # inside, a bool has one byte; its border root is no leaf of any segment
        return walk.found(leaf, operator, element=int(np.argmax(held[name] != tensors[name])))
    segment = next(index for index, part in enumerate(segments(mine.program)) if operator in part)
    return _inside(walk, leaf, segment, {operator: tensor_root(tensors[name])})


def _chosen(walk: _Walk, leaf: int, tokens: Array) -> Divergence:
    """The first token that differs."""
    choice = len(walk.mine.program.operators)
    if tokens.dtype != np.int32 or tokens.ndim != 1:
        return walk.found(leaf, choice, note=OTHER_SHAPE)
    ours, said = walk.mine.run.outputs[TOKENS].tolist(), tokens.tolist()
    step = next((s for s, pair in enumerate(zip(ours, said, strict=False)) if pair[0] != pair[1]), None)
    step = min(len(ours), len(said)) if step is None else step
    got, wanted = (f"{row[step]:x}" if step < len(row) else "" for row in (said, ours))
    return walk.found(leaf, choice, element=step, mine=wanted, theirs=got)


def _left_out(walk: _Walk, leaf: int, tensors: Mapping[str, Array]) -> Divergence:
    """They have no boundary where I have one: their run must have ended before it."""
    theirs = _place(walk.mine, tensors)
    if theirs is None or theirs[0] > segments(walk.mine.program)[leaf - 1][-1]:
        raise Refuted("a boundary is left out although the output does not say that the run ended before it")
    return _not_finite(walk, leaf, theirs)


def _place(mine: Witness, tensors: Mapping[str, Array]) -> tuple[int, int] | None:
    """(operator, element) where an output says that its run was not finite; None where it says nothing of the kind."""
    claim = tensors.get(NONFINITE)
    if claim is None or len(tensors) > 1 or claim.dtype != np.int32 or claim.shape != (2,):
        return None
    operator, element = claim.tolist()
    return (operator, element) if 0 <= operator < len(mine.program.operators) and element >= 0 else None


def _not_finite(walk: _Walk, leaf: int, theirs: tuple[int, int]) -> Divergence:
    """They say that an operator was not finite where I have not come to such a place yet."""
    operator, element = theirs
    tensor = walk.mine.tensor(operator)
    bits = "" if tensor is None or element >= tensor.size else _hex(tensor.reshape(-1)[element].tobytes())
    return walk.found(leaf, operator, element, mine=bits, theirs="nonfinite")


def _inside(walk: _Walk, leaf: int, segment: int, claimed: Mapping[int, bytes]) -> Divergence:
    """The first operator of a segment that differs. ``claimed``: the committed root of some operator's output there."""
    mine, part = walk.mine, segments(walk.mine.program)[segment]
    tree, name = mine.segment(segment), TreeId("segment", segment)
    root = walk.ask(name, tree.depth, 0)
    for operator, wanted in claimed.items():
        if walk.leaf(name, tree, root, operator - part.start, f"segment {segment}") != wanted:
            raise Refuted(f"segment {segment} does not hold the committed output of operator {operator}")
    if root == tree.root:
        raise Refuted(f"segment {segment} agrees, what it leads to does not")
    place, theirs = walk.first(name, tree, root, f"segment {segment}")
    operator = part[place]
    tensor = mine.tensor(operator)
    if tensor is None:
        if mine.run.nonfinite is None:
            raise LayoutError(f"the witness holds no output of operator {operator}")
        return walk.found(leaf, *mine.run.nonfinite, mine="nonfinite")
    tiles, name = mine.tiles(operator), TreeId("tensor", operator)
    try:
        root = walk.ask(name, tiles.depth, 0)
    except Refuted:  # a tree of another depth has no such node
        return walk.found(leaf, operator, note=OTHER_SHAPE)
    if tensor_hash(tensor, root) != theirs:
        return walk.found(leaf, operator, note=OTHER_SHAPE)
    index, hashed = walk.first(name, tiles, root, f"tiles of operator {operator}")
    tile = walk.tile(operator, index)
    if len(tile) != TILE_BYTES or hash_tile(tile) != hashed:
        raise Refuted(f"tile {index} of operator {operator} does not hash to its leaf")
    return _element(walk, leaf, operator, index, tensor, tile)


def _element(walk: _Walk, leaf: int, operator: int, index: int, tensor: Array, tile: bytes) -> Divergence:
    own, width = tile_bytes(tensor, index), tensor.dtype.itemsize
    lane = next(at for at in range(0, TILE_BYTES, width) if own[at : at + width] != tile[at : at + width]) // width
    row, column = divmod(index, -(-tensor.shape[-1] // tile_elements(tensor.dtype)))
    column = column * tile_elements(tensor.dtype) + lane
    inside = column < tensor.shape[-1]
    at = slice(lane * width, (lane + 1) * width)
    element = row * tensor.shape[-1] + column if inside else -1
    note = "" if inside else "junk in the padding of a tile"
    return walk.found(leaf, operator, element, tile=index, mine=_hex(own[at]), theirs=_hex(tile[at]), note=note)


def _hex(element: bytes) -> str:
    """Little-endian bytes as big-endian hex digits."""
    return element[::-1].hex()


class _Walk:
    """Asks the other side, checks each answer against its parent, and counts."""

    def __init__(self, mine: Witness, theirs: Side) -> None:
        self.mine, self._theirs, self.openings = mine, theirs, 0

    def ask(self, tree: TreeId, level: int, index: int) -> bytes:
        self.openings += 1
        try:
            answer = self._theirs.node(tree, level, index)
        except LayoutError as error:
            raise Refuted(f"the other side cannot open a {tree.kind} tree: {error.detail}") from error
        if len(answer) != 32:
            raise Refuted(f"a node of a {tree.kind} tree is not 32 bytes long")
        return answer

    def tile(self, operator: int, index: int) -> bytes:
        self.openings += 1
        try:
            return self._theirs.tile(operator, index)
        except LayoutError as error:
            raise Refuted(f"the other side cannot open a tile: {error.detail}") from error

    def first(self, name: TreeId, mine: Tree, root: bytes, where: str) -> tuple[int, bytes]:
        """(index, their leaf) of the leftmost leaf that differs. ``root``: theirs, another than mine."""
        at, above = 0, root
        for level in range(mine.depth - 1, -1, -1):
            left, right = self._children(name, level, at, above, where)
            differs = left != mine.node(level, 2 * at)
            at, above = (2 * at, left) if differs else (2 * at + 1, right)
        if at >= mine.size:
            raise Refuted(f"junk in the padding of the {where}")
        return at, above

    def leaf(self, name: TreeId, mine: Tree, root: bytes, index: int, where: str) -> bytes:
        """Their leaf ``index`` under their ``root``."""
        above = root
        for level in range(mine.depth - 1, -1, -1):
            pair = self._children(name, level, index >> (level + 1), above, where)
            above = pair[index >> level & 1]
        return above

    def _children(self, name: TreeId, level: int, parent: int, above: bytes, where: str) -> tuple[bytes, bytes]:
        left, right = self.ask(name, level, 2 * parent), self.ask(name, level, 2 * parent + 1)
        if node_hash(left, right) != above:
            raise Refuted(f"two nodes of the {where} do not hash to the one above them")
        return left, right

    def found(
        self,
        leaf: int,
        operator: int,
        element: int = -1,
        *,
        tile: int = -1,
        mine: str = "",
        theirs: str = "",
        note: str = "",
    ) -> Divergence:
        operators = self.mine.program.operators
        if 0 <= operator < len(operators):
            kind, value = operators[operator].kind, operators[operator].output
        else:
            kind, value = (CHOICE if operator == len(operators) else "input"), ""
        return Divergence(leaf, operator, kind, value, tile, element, mine, theirs, self.openings, note)
