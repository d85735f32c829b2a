"""Scenes of `challenger demo --protocol opengradient`: each plays on the chain, and says what an audit has to find of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from challenger.chain.devnet.base import Devnet
from challenger.protocols.opengradient.wire import Form
from challenger.settings import OpenGradientSettings
from challenger.sim.build import PIXELS
from challenger.sim.opengradient.hub import Hub
from challenger.sim.opengradient.nodes import FOUND, Conduct, Nodes, Served, canonical, request, served
from challenger.sim.wallet import Wallet
from challenger.sim.workshop import Variant
from replay.artifacts.ipfs.build import file_cid
from replay.artifacts.ipfs.cid import Cid
from replay.artifacts.manifest import MANIFEST_NAME
from replay.layout import Array

#: Images among which those are asked about on which a false twin errs most: of the others a distance tells nothing.
_IMAGES = 60


@dataclass(frozen=True, slots=True)
class Stage:
    """``models``: a folder for each variant of the digit classifier, and its inputs; ``blocks``: the gateway's folder;
    ``say``: a line for whoever watches."""

    devnet: Devnet
    models: Path
    blocks: Path
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Played:
    """``ours``: the deployment, as settings name it. ``expected``: kinds of findings by what they are about; whatever an
    audit finds beyond them is a false one."""

    title: str
    ours: OpenGradientSettings
    first: int
    expected: Mapping[str, frozenset[str]]


class Scene(Protocol):
    async def __call__(self, stage: Stage) -> Played: ...


async def by_way_of_the_hub(stage: Stage) -> Played:
    """A deployment of the full form: honest nodes, and one of each that is not."""
    hub = await _deployed(stage, Form.FULL)
    digits, twin, hidden = (_served(stage, variant) for variant in (Variant.REGISTERED, Variant.INT8, Variant.OLDER))
    for model in (digits, twin):
        publish(stage.blocks, model)
    nodes, images = Nodes("full"), _telling(stage, digits, twin)
    expected: dict[str, frozenset[str]] = {}
    order = [*Conduct, Conduct.HONEST, Conduct.HONEST]
    for conduct, image in zip(order, images, strict=False):
        answer = nodes.answer(digits, image, conduct, twin)
        await hub.run(request(digits, image), answer)
        expected[answer.inference] = FOUND[conduct]
    stage.say("a contract asks for two at once, past the hub and by way of it")
    inside = [nodes.answer(digits, image, Conduct.HONEST) for image in images[:2]]
    await hub.run_many([request(digits, image) for image in images[:2]], inside, through_hub=1)
    expected |= {answer.inference: frozenset() for answer in inside}
    stage.say("a model is asked for that nobody has published")
    answer = nodes.answer(hidden, images[0], Conduct.HONEST)
    await hub.run(request(hidden, images[0]), answer)
    expected[answer.inference] = frozenset({"model-unavailable"})
    return Played("nodes on ordinary kernels", _settings(hub), hub.start_block, expected)


async def on_declared_numerics(stage: Stage) -> Played:
    """A deployment of the brief form, whose nodes declare the canonical numerics: here the last bit counts."""
    hub = await _deployed(stage, Form.BRIEF)
    digits, twin = (_served(stage, variant) for variant in (Variant.REGISTERED, Variant.INT8))
    publish(stage.blocks, digits)
    nodes, images = Nodes("brief"), _telling(stage, digits, twin)
    expected: dict[str, frozenset[str]] = {}
    for conduct, image in zip((Conduct.CANONICAL, Conduct.CANONICAL, Conduct.ROUNDED), images, strict=False):
        answer = nodes.answer(digits, image, conduct)
        await hub.run(request(digits, image), answer)
        expected[answer.inference] = frozenset({"wrong-output"} if conduct is Conduct.ROUNDED else ())
    return Played("nodes on declared numerics", replace(_settings(hub), exact=(digits.cid,)), hub.start_block, expected)


#: In the order in which they are played.
SCENES: Sequence[Scene] = (by_way_of_the_hub, on_declared_numerics)


def publish(blocks: Path, model: Served) -> None:
    """The file's blocks, one file each, as a gateway of type ``file:`` has them."""

    def keep(cid: Cid, block: bytes) -> None:
        (blocks / str(cid)).write_bytes(block)

    with model.file.open("rb") as opened:
        file_cid(opened, sink=keep)


async def _deployed(stage: Stage, form: Form) -> Hub:
    stage.say(f"hub and precompile are deployed, with events of the {form} form")
    return await Hub.deploy(Wallet(stage.devnet.rpc, stage.devnet.accounts[0].key, "user"), form)


def _settings(hub: Hub) -> OpenGradientSettings:
    return OpenGradientSettings(hub=hub.address, precompile=hub.precompile)


def _served(stage: Stage, variant: Variant) -> Served:
    return served(stage.models / variant / MANIFEST_NAME)


def _telling(stage: Stage, model: Served, twin: Served) -> list[dict[str, Array]]:
    """Images, those first on which the twin's probabilities differ most."""
    pixels = np.load(stage.models / PIXELS, allow_pickle=False)[:_IMAGES]
    ours, theirs = (canonical(one, {"X": pixels})["probabilities"] for one in (model, twin))
    order = np.argsort(-np.abs(ours - theirs).max(axis=1), kind="stable")
    return [{"X": pixels[at : at + 1]} for at in order]
