"""The Merkle tree of OpenZeppelin's StandardMerkleTree, from leaf hashes. Pure.

``2n − 1`` nodes in one row: the root is node 0, the children of node i are 2i+1 and 2i+2, and the leaves stand at the
end, in ascending order from the last place backwards. The two children of a node are hashed in ascending order, so that
a proof is a list of siblings without sides. A tree of one leaf is that leaf; a tree of none does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from challenger.chain.hashing import keccak


class StandardTree:
    """``leaves``: hashes of 32 bytes, in any order, the same one more than once if need be. ``ValueError`` when there is
    none, or one that is not 32 bytes."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        ascending = sorted(leaves)
        if not ascending:
            raise ValueError("a tree has one leaf at least")
        self._first_leaf = len(ascending) - 1
        self._nodes = _filled([b""] * self._first_leaf + ascending[::-1])
        self._places = {leaf: len(self._nodes) - 1 - i for i, leaf in reversed(list(enumerate(ascending)))}

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._nodes[0]

    @property
    def nodes(self) -> tuple[bytes, ...]:
        """All ``2n − 1``, the root first: the ``tree`` of a published dump."""
        return tuple(self._nodes)

    def __len__(self) -> int:
        """How many leaves."""
        return len(self._nodes) - self._first_leaf

    def place(self, leaf: bytes) -> int:
        """Among ``nodes``; of equal leaves the last one. ``ValueError`` when it is none of the tree's."""
        try:
            return self._places[leaf]
        except KeyError:
            raise ValueError("no such leaf in the tree") from None

    def proof(self, leaf: bytes) -> list[bytes]:
        """The siblings on the way from ``leaf`` to the root. ``ValueError`` as in ``place``."""
        at = self.place(leaf)
        siblings = []
        while at:
            siblings.append(self._nodes[at + 1 if at % 2 else at - 1])
            at = (at - 1) // 2
        return siblings


def proves(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` leads from ``leaf`` to ``root``."""
    node = leaf
    for sibling in proof:
        node = pair(node, sibling)
    return node == root


def placed_root(leaves: Mapping[int, bytes]) -> bytes:
    """The root when each leaf stands at the place among the nodes that is said of it (a tree published with
    ``sortLeaves: false``). ``ValueError`` when the places are not those of the leaves of a tree."""
    count = len(leaves)
    if not count or set(leaves) != set(range(count - 1, 2 * count - 1)):
        raise ValueError("the places of the leaves are not those of a tree")
    return _filled([b""] * (count - 1) + [leaves[at] for at in range(count - 1, 2 * count - 1)])[0]


def pair(one: bytes, other: bytes) -> bytes:
    """The parent of two nodes, whichever is named first."""
    return keccak(one + other if one < other else other + one)


def _filled(nodes: list[bytes]) -> list[bytes]:
    """The inner nodes computed, from the last one up."""
    inner = len(nodes) // 2
    if any(len(leaf) != 32 for leaf in nodes[inner:]):
        raise ValueError("a leaf is a hash of 32 bytes")
    for at in range(inner - 1, -1, -1):
        nodes[at] = pair(nodes[2 * at + 1], nodes[2 * at + 2])
    return nodes
