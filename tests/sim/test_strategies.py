"""Every cheat's commitment differs from the honest one, and still passes what the contract can check of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from challenger.sim.models import digits_model, int8_weights, older
from challenger.sim.scenario import CHEATS, DIGITS, Kind
from challenger.sim.strategies import STRATEGIES, Answer, Honest, Order, nudge, truncate
from challenger.sim.toy import ToyBench, kits
from challenger.sim.workshop import Variant, Workbench
from replay.layout import Array, bundle_root, decode_bundle, encode_bundle, verify_path
from replay.model import load_model
from replay.sandbox import Receipt
from replay.trace import commit


class Desk:
    """The real digits classifier and its twins, run in this process on NumPy."""

    def __init__(self, folder: Path) -> None:
        registered = digits_model(folder / "registered", iterations=3)
        paths = {
            Variant.REGISTERED: registered,
            Variant.INT8: int8_weights(registered, folder / "int8"),
            Variant.OLDER: older(registered, folder / "older"),
        }
        self._models = {variant: load_model(path) for variant, path in paths.items()}

    async def run(self, model: str, data: bytes, variant: Variant = Variant.REGISTERED, seed: bytes = b"") -> Receipt:
        return commit(self._models[variant], decode_bundle(data), "numpy", seed=seed)

    async def replay(self, model: str, data: bytes, backend: str, seed: bytes = b"") -> Receipt:
        return await self.run(model, data, seed=seed)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("models"))


def digit(number: int) -> bytes:
    from sklearn.datasets import load_digits

    return encode_bundle({"X": (load_digits().data[number : number + 1] / 16.0).astype("float32")})


async def lie(kind: Kind, bench: Workbench, order: Order) -> tuple[Answer, Answer]:
    return await STRATEGIES[kind].answer(order, bench), await Honest().answer(order, bench)


def accepted(answer: Answer, data: bytes) -> bool:
    """What the contract checks when it takes a commitment."""
    count, root = len(answer.leaves), answer.state_root
    first = verify_path(bundle_root(data), 0, count, answer.first_path, root)
    last = verify_path(answer.output_root, count - 1, count, answer.last_path, root)
    return first and last and bundle_root(answer.output) == answer.output_root


@pytest.mark.parametrize("kind", CHEATS)
async def test_each_cheat_differs_on_the_real_classifier(desk: Desk, kind: Kind) -> None:
    order = Order(DIGITS, digit(0), b"", (digit(1), b""))
    cheat, honest = await lie(kind, desk, order)
    assert accepted(cheat, order.data)
    assert accepted(honest, order.data)
    assert cheat.same_roots(honest) == (kind is Kind.WITHHOLD)
    assert cheat.served == (kind is not Kind.WITHHOLD)


@pytest.mark.parametrize("kind", CHEATS)
@pytest.mark.parametrize("number", [0, 1, 2])
async def test_each_cheat_differs_on_every_kind_of_input(kind: Kind, number: int) -> None:
    sample = kits()[number].sample
    order = Order(kits()[number].name, sample(1), b"\1" * 32, (sample(2), b"\2" * 32))
    cheat, honest = await lie(kind, ToyBench(), order)
    assert accepted(cheat, sample(1))
    assert cheat.same_roots(honest) == (kind is Kind.WITHHOLD)


def flat(bundle: bytes) -> Array:
    (array,) = decode_bundle(bundle).values()
    return array.reshape(-1)


def test_a_nudge_is_one_bit() -> None:
    sample = kits()[0].sample(3)
    before, after = (b"".join(a.tobytes() for a in decode_bundle(one).values()) for one in (sample, nudge(sample)))
    assert sum((x ^ y).bit_count() for x, y in zip(before, after, strict=True)) == 1


def test_truncation_halves_measurements_and_shortens_tokens() -> None:
    measurements, tokens = (kit.sample(4) for kit in kits()[:2])
    assert (flat(truncate(measurements))[4:] == 0).all()
    assert list(flat(truncate(measurements))[:4]) == list(flat(measurements)[:4])
    assert list(flat(truncate(tokens))) == list(flat(tokens)[:4])
