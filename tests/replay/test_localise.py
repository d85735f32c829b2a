"""Every cheat whose difference reaches a boundary is found at the operator and element that brute force names."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import write_bert
from small_model import dense_model
from tampering import ANY, GENERATING, LAYERED, Case, activation_bit, asked, by_brute_force, numpy_prepared, one_token
from tiny_gpt import VOCABULARY, tiny_gpt

from replay.importers.build import Builder
from replay.layout import PAD_LEAF, LayoutError, Tree, bundle_root, encode_bundle, tensor_root
from replay.localise import CHOICE, Divergence, Refuted, localise
from replay.model import Model, load_model
from replay.operators import Operator, TensorType
from replay.program import Port
from replay.run import NONFINITE
from replay.sampling import TOKENS, Sampling
from replay.witness import TreeId, Witness

SEED = bytes(range(32))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder: Path = tmp_path_factory.mktemp("models")
    return {
        "gpt": tiny_gpt(),
        "gpt lo": tiny_gpt(1, grid="lo"),
        "bert": load_model(write_bert(folder / "bert")),
        "dense": load_model(dense_model(folder / "dense", wide=700)),
    }


def drawn(models: dict[str, Model], dice: random.Random) -> tuple[Case, object]:
    name = dice.choice(["gpt", "gpt", "gpt lo", "bert", "dense"])
    model = models[name]
    if name == "dense":
        x = np.array([dice.uniform(-2, 2) for _ in range(12)], np.float32).reshape(3, 4)
        return Case(model, {"x": x}), dice.choice(ANY)
    tokens = [dice.randrange(VOCABULARY) for _ in range(dice.randrange(2, 9))]
    if name == "bert":
        return Case(model, {"input_ids": np.array(tokens, np.int32)}), dice.choice((*ANY, *LAYERED))
    return Case(model, asked(tokens, dice), dice.randbytes(32)), dice.choice((*ANY, *LAYERED, *GENERATING))


def campaign(models: dict[str, Model], count: int, seed: int) -> Counter:
    """How many cheats of each kind were found, and how many vanished before a boundary (those are VALID)."""
    seen: Counter = Counter()
    for number in range(count):
        dice = random.Random(f"{seed}/{number}")
        case, cheat = drawn(models, dice)
        theirs = cheat(case, dice)
        tokens = theirs.run.outputs[TOKENS].tolist() if case.generates else ()
        honest = numpy_prepared(case.model)
        mine = Witness(honest, case.inputs, case.seed, tokens)
        wanted = by_brute_force(mine, theirs)
        found = localise(mine, theirs, theirs.state.root, theirs.output)
        if found is None:
            assert wanted is None, (number, cheat.__name__, wanted)
            assert mine.leaves == theirs.leaves
            seen["vanished", cheat.__name__] += 1
            continue
        assert (found.operator, found.element) == wanted, (number, cheat.__name__, found, wanted)
        assert found.openings <= 120
        seen["found", cheat.__name__] += 1
    return seen


def test_cheats_are_localised(models):
    seen = campaign(models, 120, seed=1)
    assert sum(seen.values()) == 120
    assert {name for what, name in seen if what == "found"} == {f.__name__ for f in (*ANY, *LAYERED, *GENERATING)}


@pytest.mark.slow
def test_a_thousand_cheats_are_localised(models):
    seen = campaign(models, 1000, seed=2)
    assert sum(seen.values()) == 1000
    vanished = sum(count for (what, _), count in seen.items() if what == "vanished")
    print(dict(seen))
    print(f"{vanished} of 1000 differences vanished before a boundary")
    # a changed bit far below a row's unit is rounded away; nothing else may vanish
    assert {name for what, name in seen if what == "vanished"} <= {
        "weight_bit",
        "activation_bit",
        "wrong_seed",
        "wrong_temperature",
        "truncated_prompt",
    }


def a_cheat(models: dict[str, Model]) -> tuple[Witness, Witness]:
    case = Case(models["gpt"], asked([1, 2, 3], random.Random(5)), SEED)
    theirs = activation_bit(case, random.Random(11))
    mine = Witness(numpy_prepared(case.model), case.inputs, SEED, theirs.run.outputs[TOKENS].tolist())
    assert mine.state.root != theirs.state.root
    return mine, theirs


class Lying:
    """Answers for another, except where told otherwise."""

    def __init__(self, honest: Witness, lie: dict) -> None:
        self._honest, self._lie = honest, lie

    def node(self, tree: TreeId, level: int, index: int) -> bytes:
        return self._lie.get((tree.kind, level), self._honest.node)(tree, level, index)

    def tile(self, operator: int, index: int) -> bytes:
        return self._lie.get("tile", self._honest.tile)(operator, index)


def refuses(*_: object) -> bytes:
    raise LayoutError("not mine to show")


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({("state", 0): lambda *_: bytes(32)}, "do not hash"),
        ({("state", 0): lambda *_: b"short"}, "32 bytes"),
        ({("segment", 0): lambda *_: b"\1" * 32}, "do not hash"),
        ({("tensor", 0): refuses}, "cannot open"),
        ({"tile": lambda *_: bytes(1024)}, "does not hash"),
        ({"tile": lambda *_: b""}, "does not hash"),
        ({"tile": refuses}, "cannot open"),
    ],
)
def test_a_side_that_cannot_open_its_commitment_is_refuted(models, lie, said):
    mine, theirs = a_cheat(models)
    with pytest.raises(Refuted, match=said):
        localise(mine, Lying(theirs, lie), theirs.state.root, theirs.output)


def test_an_output_that_is_not_the_committed_one_is_refuted(models):
    case = Case(models["gpt"], asked([1, 2, 3], random.Random(5)), SEED)
    theirs = one_token(case, random.Random(0))
    said = theirs.run.outputs[TOKENS]
    mine = Witness(numpy_prepared(case.model), case.inputs, SEED, said.tolist())
    found = localise(mine, theirs, theirs.state.root, theirs.output)
    assert found is not None
    assert found.kind == CHOICE
    with pytest.raises(Refuted, match="does not hash"):
        localise(mine, theirs, theirs.state.root, encode_bundle({TOKENS: said + 1}))


def test_honest_runs_have_no_difference(models):
    case = Case(models["gpt"], asked([5, 6], random.Random(1)), SEED)
    honest = numpy_prepared(case.model)
    theirs = Witness(honest, case.inputs, SEED)
    mine = Witness(honest, case.inputs, SEED, theirs.run.outputs[TOKENS].tolist())
    assert localise(mine, theirs, theirs.state.root, theirs.output) is None


# runs that are not finite, and sides that say so

SAMPLED = {"input_ids": np.zeros(2, np.int32), "sampling": Sampling(4).tensor()}


def exploding(small: float = 0.5) -> Model:
    """Says token 1 whatever it reads, and the square of that token's row is infinite. Boundaries: the rows, their squares."""
    b = Builder([Port("input_ids", TensorType("int32", ("T",)))], {"T": 8})
    x = b.add("embedding", ["input_ids"], [b.weight("words", np.array([[small, 1], [1e30, 1]], np.float32))])
    squares = b.add("mul", [x, x])
    logits = b.linear(squares, "head", np.zeros((2, 2), np.float32), np.array([0, 1], np.float32))
    return b.model({"logits": logits}, [x, squares])


def generated(model: Model, tokens: tuple[int, ...] = ()) -> Witness:
    return Witness(numpy_prepared(model), SAMPLED, SEED, tokens)


def test_a_text_that_breaks_off_can_be_opened_where_it_was_committed():
    witness = generated(exploding())
    assert witness.run.outputs[NONFINITE].tolist() == [1, 4]  # the first token that was generated is read as the third
    assert witness.leaves[1] == tensor_root(witness.tensor(0))
    assert witness.tensor(0).shape == (3, 2)
    assert (witness.leaves[2], witness.tensor(1), witness.tensor(2)) == (PAD_LEAF, None, None)


class Tamed:
    """Kernels that square one where the honest have no number."""

    def __init__(self, honest: object) -> None:
        self._honest = honest

    def __getattr__(self, name: str) -> object:
        return getattr(self._honest, name)

    def apply(self, op: Operator, values: list[np.ndarray], dims: dict, state: object = None) -> np.ndarray:
        tame = [np.where(x > 1e20, np.float32(1), x) for x in values] if op.kind == "mul" else values
        return self._honest.apply(op, tame, dims, state)


def test_where_a_text_broke_off_each_side_finds_the_same_place():
    honest, other = generated(exploding()), generated(exploding(0.25))
    for mine, theirs in ((honest, other), (other, honest)):
        found = localise(mine, theirs, theirs.state.root, theirs.output)
        assert (found.leaf, found.operator, found.element) == (1, 0, 0)
    prepared = numpy_prepared(exploding())
    tamed = replace(prepared, kernels=Tamed(prepared.kernels))
    liar = Witness(tamed, SAMPLED, SEED)
    said = liar.run.outputs[TOKENS].tolist()
    found = localise(generated(exploding(), said), liar, liar.state.root, liar.output)
    assert (found.leaf, found.operator, found.element, found.mine) == (2, 1, 4, "nonfinite")
    as_far = Witness(
        tamed, SAMPLED, SEED, said[:2]
    )  # of which it reads the first: three tokens, as the honest side did
    found = localise(as_far, honest, honest.state.root, honest.output)
    assert (found.leaf, found.operator, found.element, found.theirs) == (2, 1, 4, "nonfinite")


class Committed:
    """An honest side that has committed to another output, and to no boundary from ``left_out`` on."""

    def __init__(self, honest: Witness, output: bytes, left_out: int) -> None:
        self._honest = honest
        leaves = [honest.leaves[0], *honest.leaves[1:-1][:left_out]]
        leaves += [PAD_LEAF] * (len(honest.leaves) - 1 - len(leaves))
        self.state = Tree([*leaves, bundle_root(output)])

    def node(self, tree: TreeId, level: int, index: int) -> bytes:
        return self.state.node(level, index) if tree.kind == "state" else self._honest.node(tree, level, index)

    def tile(self, operator: int, index: int) -> bytes:
        return self._honest.tile(operator, index)


def comparing() -> Model:
    """A truth value, an integer and a number for each of two inputs, the integers under a name that texts have."""
    b = Builder([Port("x", TensorType("float32", (2,)))], {})
    larger = b.add("less", [b.constant("zero", np.zeros(2, np.float32)), "x"])
    return b.model(
        {"larger": larger, TOKENS: b.add("cast", [larger], to="int32"), "y": b.add("neg", ["x"])}, ["v0.constant"]
    )


@pytest.fixture(scope="module")
def witnesses() -> list[Witness]:
    plain = Witness(numpy_prepared(comparing()), {"x": np.array([1, -1], np.float32)})
    return [plain, generated(exploding()), Witness(numpy_prepared(tiny_gpt(layers=1)), SAMPLED, SEED)]


@st.composite
def hostile(draw: st.DrawFn) -> dict[str, np.ndarray]:
    names = draw(st.lists(st.sampled_from([TOKENS, NONFINITE, "larger", "y", "x"]), min_size=1, unique=True))
    if draw(st.booleans()):
        names = draw(st.sampled_from([[TOKENS], [NONFINITE], ["larger", TOKENS, "y"]]))
    made = {}
    for name in names:
        shape = draw(st.sampled_from([(1,), (2,), (3,), (4,), (1, 2), (2, 1), (4, 1)]))
        words = draw(st.lists(st.integers(-1, 9) | st.integers(-(2**31), 2**31 - 1), min_size=4, max_size=4))
        array = np.resize(np.array(words, np.int32), shape)
        kind = draw(st.sampled_from(["i4", "i4", "i8", "f4"]))
        made[name] = array.view(np.float32) if kind == "f4" else array.astype(kind)
    return made


@settings(max_examples=150, deadline=None)
@given(hostile(), st.integers(0, 2), st.integers(0, 9))
def test_whatever_output_is_claimed_it_is_placed_or_refuted(witnesses, tensors, which, left_out):
    mine, output = witnesses[which], encode_bundle(tensors)
    theirs = Committed(mine, output, left_out)
    try:
        found = localise(mine, theirs, theirs.state.root, output)
    except Refuted:
        return
    if found is None:
        assert theirs.state.root == mine.state.root
        return
    assert isinstance(found, Divergence)
    assert 0 <= found.operator <= len(mine.program.operators)


@pytest.mark.parametrize("output", [b"", b"\1", encode_bundle({TOKENS: np.zeros(1, np.int32)})])
def test_an_output_that_cannot_be_shown_is_refuted_where_a_boundary_is_left_out(witnesses, output):
    theirs = Committed(witnesses[0], encode_bundle({NONFINITE: np.zeros(2, np.int32)}), 0)
    with pytest.raises(Refuted, match="output given"):
        localise(witnesses[0], theirs, theirs.state.root, output)


def test_a_boundary_left_out_before_the_place_that_was_not_finite_is_refuted(witnesses):
    theirs = Committed(witnesses[1], witnesses[1].output, 0)
    with pytest.raises(Refuted, match="left out"):
        localise(witnesses[1], theirs, theirs.state.root, witnesses[1].output)


def test_a_witness_says_what_it_does_not_have(witnesses):
    for tree in (TreeId("segment", 99), TreeId("segment", -1), TreeId("tensor", 99), TreeId("tensor", -1)):
        with pytest.raises(LayoutError):
            witnesses[0].node(tree, 0, 0)
