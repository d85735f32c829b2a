"""What a hostile chain can put before the real engine: absurd models and commitments end as INCONCLUSIVE or
UNAVAILABLE, one reason each, and the honest one beside them is still judged."""

from __future__ import annotations

import hashlib
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import numpy as np
import pytest

from challenger.app import opened
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.domain import Hash32, Mode, State, VerdictKind
from challenger.protocols.reference_calls import ModelSpec
from challenger.sim import files, scenario, stage
from challenger.sim.kits import Kit
from challenger.sim.workshop import Artefact, Variant
from challenger.sim.world import WATCHER, World
from challenger.store import migrate
from replay.layout import encode_bundle
from replay.sandbox import Receipt


@dataclass(frozen=True)
class Spoilt(Kit):
    """A kit whose registration says something else than the truth."""

    change: tuple[tuple[str, object], ...] = ()

    def spec(self, known_output_root: Hash32) -> ModelSpec:
        return replace(super().spec(known_output_root), **dict(self.change))


class Bench:
    """All spoilt models are the digit classifier to their providers."""

    def __init__(self, inner) -> None:
        self._inner = inner

    async def run(self, model: str, data: bytes, variant: Variant = Variant.REGISTERED, seed: bytes = b"") -> Receipt:
        return await self._inner.run(scenario.DIGITS, data, variant, seed)

    async def replay(self, model: str, data: bytes, backend: str, seed: bytes = b"") -> Receipt:
        return await self._inner.replay(scenario.DIGITS, data, backend, seed)


def write_model(folder, content: bytes) -> Artefact:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    text = json.dumps({"files": {"model.onnx": digest}, "format": "onnx"}, sort_keys=True, separators=(",", ":"))
    (folder / "manifest.json").write_text(text)
    return Artefact(folder / "manifest.json", hashlib.sha256(text.encode()).digest())


@pytest.mark.slow
async def test_absurd_models_and_commitments_stop_nothing(tmp_path):
    async with AsyncExitStack() as stack:
        devnet = await stack.enter_async_context(EmbeddedDevnet(count=20))
        made = files.make(tmp_path / "out")
        kits, workshop = await stack.enter_async_context(stage.workshop(made.models, (scenario.DIGITS,)))
        good = kits[0]
        onnx = (good.variants[Variant.REGISTERED].manifest.parent / "model.onnx").read_bytes()
        truncated = write_model(made.path / "truncated", onnx[: len(onnx) // 2])
        rubbish = write_model(made.path / "rubbish", b"\x00\xff" * 5_000)
        spoilt = {
            "wrong digest": {"file_digest": Hash32(b"\x01" * 32)},
            "truncated onnx": {"file_digest": Hash32(truncated.file_digest), "uri": truncated.manifest.as_uri()},
            "rubbish onnx": {"file_digest": Hash32(rubbish.file_digest), "uri": rubbish.manifest.as_uri()},
            "other program": {"program_root": Hash32(b"\x02" * 32)},
            "other weights": {"artefact_root": Hash32(b"\x03" * 32)},
            "future spec": {"spec_version": 7},
            "tolerance": {"mode": 1},
            "forbidden place": {"file_digest": Hash32(b"\x04" * 32), "uri": "file:///etc/passwd"},
            "odd scheme": {
                "file_digest": Hash32(b"\x05" * 32),
                "uri": "gopher://example.invalid/\x01\u202e" + "x" * 500,
            },
            "nowhere": {"file_digest": Hash32(b"\x06" * 32), "uri": (made.path / "nowhere.json").as_uri()},
            "absurd known answer": {"known_input": encode_bundle({"Y": np.zeros((1, 3), np.float32)})},
        }
        names = [good.name, *spoilt]
        fields = {f: getattr(good, f) for f in Kit.__dataclass_fields__}
        others = [Spoilt(**(fields | {"name": n}), change=tuple(change.items())) for n, change in spoilt.items()]
        knobs = scenario.Knobs(tasks=len(names), models=(good.name,), cheats=(), round_size=len(names), by_uri=0)
        plan = scenario.plan(knobs)
        plan = replace(plan, tasks=tuple(replace(t, model=names[t.index]) for t in plan.tasks))
        world = await World.open(devnet, made.path, plan, [good, *others], Bench(workshop))
        stack.push_async_callback(world.close)
        settings = made.write_config(world.deployment, devnet.accounts[WATCHER].key, 1.0)
        settings = replace(
            settings,
            replay=replace(settings.replay, retry_seconds=12),
            filing=replace(settings.filing, mode=Mode.WATCH),
        )
        await migrate.upgrade(settings.store.url)
        app = await stack.enter_async_context(opened(settings, rpc=devnet.rpc))
        await world.play()
        for _ in range(90):  # one commitment a round, and what is away is fetched again and again
            await app.step()
            await app.gather()
            await app.investigate()
            await world.blocks.tick()
        by_model = {label.model: label.job for label in world.labels}
        found = {}
        async with app.store.read() as view:
            for name, job in by_model.items():
                item = await view.work.item(job)
                verdict = (await view.verdicts.of(job))[-1]
                found[name] = (item.work.state, verdict.kind, verdict.detail)
        assert found.pop(good.name)[:2] == (State.REPLAYED, VerdictKind.VALID)
        says = {
            "wrong digest": (VerdictKind.UNAVAILABLE, "weights"),
            "nowhere": (VerdictKind.UNAVAILABLE, "weights"),
            "truncated onnx": (VerdictKind.INCONCLUSIVE, "model-rejected"),
            "rubbish onnx": (VerdictKind.INCONCLUSIVE, "model-rejected"),
            "other program": (VerdictKind.INCONCLUSIVE, "program-mismatch"),
            "other weights": (VerdictKind.INCONCLUSIVE, "artefact-mismatch"),
            "future spec": (VerdictKind.INCONCLUSIVE, "spec:"),
            "tolerance": (VerdictKind.INCONCLUSIVE, "mode:"),
            "forbidden place": (VerdictKind.INCONCLUSIVE, "fetch:"),
            "odd scheme": (VerdictKind.INCONCLUSIVE, "fetch:"),
            "absurd known answer": (VerdictKind.INCONCLUSIVE, "known answer"),
        }
        for name, (kind, words) in says.items():
            state, got, detail = found[name]
            assert got == kind, (name, found[name])
            assert words in detail, (name, detail)
            assert detail.isprintable(), name
            resting = (State.UNAVAILABLE, State.SAMPLED) if kind is VerdictKind.UNAVAILABLE else (State.INCONCLUSIVE,)
            assert state in resting, name
