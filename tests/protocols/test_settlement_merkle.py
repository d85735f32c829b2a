"""The batch tree against two other implementations of it: PyPI's murky-tree, npm's @openzeppelin/merkle-tree."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from murky_tree import StandardMerkleTree

from challenger.chain.hashing import keccak
from challenger.protocols.opengradient.settlement.merkle import StandardTree, pair, placed_root, proves
from challenger.protocols.opengradient.settlement.settled import LEAF_ENCODING, Inference

WORD = st.binary(min_size=32, max_size=32)
INFERENCE = st.builds(Inference, WORD, WORD, WORD, st.binary(max_size=600), st.integers(0, 2**256 - 1))
BATCH = st.lists(INFERENCE, min_size=1, max_size=40)
LEAVES = st.lists(WORD, min_size=1, max_size=70)


def sample(count: int) -> list[Inference]:
    """Settled inferences by a formula, for the vectors below."""
    return [
        Inference(
            (7 * i + 1).to_bytes(32, "big"),
            (11 * i + 2).to_bytes(32, "big"),
            (13 * i + 3).to_bytes(32, "big"),
            bytes((i + j) % 256 for j in range(37 * i % 300)),
            1_700_000_000 + i,
        )
        for i in range(count)
    ]


#: By @openzeppelin/merkle-tree 1.0.8: the root, and keccak of all nodes of the dump in a row, of ``sample(n)``.
VECTORS = {
    1: (
        "2ec6d578d359bc57e4ecaac556a6839c6d0386832abbdddb414b35e620e74eaf",
        "f25d54e1436e2b796a0be7ef9cec0dab9a7669f973db6cb5691a423bf2d0c865",
    ),
    2: (
        "c9d268ceaa5cbccc1b663daa75b6cf0a365a67a62e28accef21888f62f9eb4b4",
        "bffc6debdfe65e51c64a44e5af99e8d5718a0b84766e216bd9a29b6547d1b25f",
    ),
    3: (
        "7ed7745863dde39ebfcf8c400ae1f96223307269c6465e0a9133cdbb213a551c",
        "8f5b414ccf12c5555bc75c00fcaa2a531151d3e5caeb7963737494fe439cec4c",
    ),
    4: (
        "36df8efb3dd78666014c48e25e7fad9b3d7d6e0e4eacfaf8df47e03d0878ed2c",
        "eee04a4d85d1b86454812a8b269b954b664ca6c772e6e5d24161b55e775493ac",
    ),
    5: (
        "c9e8493b1d003055da6ff7f1287b42fa09ae26b89717a2d3204324c6d52f822a",
        "5ac88375aa473d6af85c8499b7a4d957e748ebbc32183e1aaa8321c02fc498a2",
    ),
    7: (
        "e9d2c739d9e809c976247818ddc8cd0991ecb960886f111f27e31ef967b75cff",
        "2566151eae63c5343fe6c0fcd0854f3f66640183d0655f650d974acac225b97e",
    ),
    8: (
        "d0aca382be3463016e8f95aee3e84acaf52518264115053014dafc79ad11f3dd",
        "93b9b0e63d86016acb25c29f1db073d85003f2b19fafdc54a02857a18b05d8e7",
    ),
    9: (
        "3bac015b586f9c5e40762ab3e3556194701341f7edb2b26e7ef0fa8a9a079616",
        "876a362ecac2ac5e5775cfbc51a17b218307ddf1f7494cb0a3d0a501e7f361ed",
    ),
    20: (
        "77f575167af04914e55e8ba040c30b52a06dd29ebf5909eb2c2e34838faef848",
        "c4bc8a572b9075474237967905dbd7b8418571f08dd6c94c4099254c81b0b9ea",
    ),
    33: (
        "92bac56144d53c20b9aada7127a2b22d9d8dbc6a2f3edbda840231d00b617bb1",
        "092f3604ecf91baa4fbb49261d46aaf67897adbafad4625331e344466d16f9d2",
    ),
}


def murky(batch: list[Inference]) -> StandardMerkleTree:
    return StandardMerkleTree.of([list(one) for one in batch], list(LEAF_ENCODING))


@pytest.mark.parametrize("count", sorted(VECTORS))
def test_the_tree_is_openzeppelins(count: int) -> None:
    tree = StandardTree(one.leaf for one in sample(count))
    root, nodes = VECTORS[count]
    assert tree.root.hex() == root
    assert keccak(b"".join(tree.nodes)).hex() == nodes


@given(BATCH)
def test_leaves_nodes_and_proofs_agree_with_murky(batch: list[Inference]) -> None:
    other = murky(batch)
    tree = StandardTree(one.leaf for one in batch)
    assert list(tree.nodes) == other.tree
    for i, one in enumerate(batch):
        assert "0x" + one.leaf.hex() == other.leaf_hash(list(one))
        if tree.place(one.leaf) == other.values[i].tree_index:  # of equal leaves it takes another one
            assert ["0x" + node.hex() for node in tree.proof(one.leaf)] == other.get_proof(i)


@given(LEAVES)
def test_every_leaf_is_proved_and_nothing_else(leaves: list[bytes]) -> None:
    tree = StandardTree(leaves)
    assert len(tree) == len(leaves)
    for leaf in leaves:
        proof = tree.proof(leaf)
        assert proves(tree.root, leaf, proof)
        assert not proves(tree.root, keccak(leaf), proof)
        assert tree.nodes[tree.place(leaf)] == leaf
    with pytest.raises(ValueError, match="no such leaf"):
        tree.proof(keccak(b"".join(leaves)))


@given(LEAVES, st.randoms())
def test_the_order_of_the_leaves_does_not_matter(leaves: list[bytes], random) -> None:
    shuffled = random.sample(leaves, len(leaves))
    assert StandardTree(shuffled).root == StandardTree(leaves).root


@given(LEAVES, st.data())
def test_one_bit_of_one_leaf_changes_the_root(leaves: list[bytes], data) -> None:
    which, bit = data.draw(st.integers(0, len(leaves) - 1)), data.draw(st.integers(0, 255))
    other = list(leaves)
    other[which] = (int.from_bytes(other[which], "big") ^ 1 << bit).to_bytes(32, "big")
    assert StandardTree(other).root != StandardTree(leaves).root


@given(LEAVES)
def test_leaves_at_their_places_give_the_same_root(leaves: list[bytes]) -> None:
    tree = StandardTree(leaves)
    first = len(leaves) - 1
    assert placed_root({first + i: leaf for i, leaf in enumerate(tree.nodes[first:])}) == tree.root


def test_leaves_placed_in_another_order_are_an_unsorted_tree() -> None:
    a, b, c = (keccak(bytes([i])) for i in range(3))
    assert placed_root({4: a, 3: b, 2: c}) == pair(pair(b, a), c)


@pytest.mark.parametrize("places", [{}, {1: 0}, {0: 0, 1: 0}, {2: 0, 3: 0}, {1: 0, 2: 0, 5: 0}])
def test_places_that_are_no_trees_are_refused(places: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="not those of a tree"):
        placed_root({at: bytes(32) for at in places})


@pytest.mark.parametrize("leaves", [[], [b""], [bytes(31)], [bytes(32), bytes(33)]])
def test_no_leaf_and_no_hash_are_refused(leaves: list[bytes]) -> None:
    with pytest.raises(ValueError, match="leaf"):
        StandardTree(leaves)


def test_what_is_signed_twice_is_one_tuple_and_two_leaves() -> None:
    one = sample(1)[0]
    again = one._replace(signature=b"another")
    assert one.tuple_key == again.tuple_key
    assert one.leaf != again.leaf


@pytest.mark.solc
def test_npms_own_tree_is_the_same(request: pytest.FixtureRequest, node: str) -> None:
    roots = os.environ["NODE_PATH"].split(os.pathsep)
    if not any((Path(root) / "@openzeppelin" / "merkle-tree").is_dir() for root in roots if root):
        say = pytest.fail if request.config.getoption("--require-extras") else pytest.skip
        say("npm's @openzeppelin/merkle-tree is not on NODE_PATH")
    batches = [sample(count) for count in range(1, 66)]
    script = Path(__file__).with_name("standard_tree.js")
    text = json.dumps([[_shown(one) for one in batch] for batch in batches])
    done = subprocess.run([node, script], input=text, capture_output=True, text=True, check=True)
    for batch, other in zip(batches, json.loads(done.stdout), strict=True):
        tree = StandardTree(one.leaf for one in batch)
        assert ["0x" + n.hex() for n in tree.nodes] == other["tree"]
        assert "0x" + tree.root.hex() == other["root"]
        assert [["0x" + n.hex() for n in tree.proof(one.leaf)] for one in batch] == other["proofs"]


def _shown(one: Inference) -> list[str]:
    hexed = ["0x" + part.hex() for part in one[:4]]
    return [*hexed, str(one.timestamp)]
