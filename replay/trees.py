"""Decision trees as tables: what must hold before a walk through them is certain to end inside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.errors import ProgramError
from replay.kernels.spec import TREE_LEAF
from replay.layout import Array
from replay.operators import Operator


def check_trees(op: Operator, tables: Sequence[Array]) -> None:
    """Raises ``ProgramError`` unless every node names a feature that exists, every branch leads to later nodes, and every
    leaf has a number ≥ 0. ``tables``: feature, threshold, mode, yes, no, roots."""
    feature, _, mode, yes, no, roots = tables
    count, branch = len(mode), mode != TREE_LEAF
    at = np.arange(count)

    def need(condition: Array, why: str) -> None:
        if not bool(condition.all()):
            raise ProgramError(why, operator=op.kind, output=op.output)

    need((mode >= 0) & (mode <= TREE_LEAF), "a tree's node has an unknown mode")
    need((feature >= 0) & (feature < op.integer("features")), "a tree reads a feature that is not there")
    for children in (yes, no):
        need(~branch | ((children > at) & (children < count)), "a tree's children must stand behind their parent")
    need(branch | (yes >= 0), "a tree's leaf has a negative number")
    need((roots >= 0) & (roots < count), "a tree's root is not there")
