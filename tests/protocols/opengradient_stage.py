"""A hub on the embedded chain, a small model that nodes run, and the audit of it all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.protocols.opengradient.audit import Audit, Checked, Terms
from challenger.protocols.opengradient.comparing import Tolerance
from challenger.protocols.opengradient.join import Unjoined
from challenger.protocols.opengradient.replaying import Replayer
from challenger.protocols.opengradient.wire import Form, Wire
from challenger.sim.opengradient.hub import Hub
from challenger.sim.opengradient.nodes import Conduct, Nodes, Served, request, served
from challenger.sim.wallet import Wallet
from replay.artifacts import ArtifactStore
from replay.artifacts.ipfs.build import file_cid
from replay.artifacts.ipfs.cid import Cid
from replay.importers.manifest import write_manifest
from replay.layout import Array
from replay.sandbox import Limits, ReplayPool


def softmax_model(folder: Path, seed: int = 0) -> Path:
    """``p = softmax(x·W + b)``, x float32 [B, 4], p float32 [B, 3]; the manifest's path."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    arrays = {"w": random.normal(size=(4, 3)), "b": random.normal(size=3)}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Softmax", ["h"], ["p"])],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["B", 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return write_manifest(folder, "onnx", ["model.onnx"])


def rows(number: int) -> dict[str, Array]:
    return {"x": np.sin(np.arange(8, dtype=np.float32) + np.float32(number)).reshape(2, 4)}


def keep(folder: Path, cid: Cid, block: bytes) -> None:
    (folder / str(cid)).write_bytes(block)


def publish(folder: Path, model: Served) -> None:
    """The file's blocks in ``folder``, as a gateway on this machine has them."""
    with model.file.open("rb") as opened:
        file_cid(opened, sink=lambda cid, block: keep(folder, cid, block))


@dataclass
class Stage:
    hub: Hub
    model: Served
    twin: Served
    blocks: Path
    pool: ReplayPool
    store: ArtifactStore
    folder: Path
    nodes: Nodes = field(default_factory=Nodes)
    number: int = 0

    async def ask(self, conduct: Conduct, *, past: bool = False, model: Served | None = None) -> str:
        """One inference by way of the hub, or ``past`` it; its id."""
        inputs, asked = rows(self.number), model or self.model
        self.number += 1
        answer = self.nodes.answer(asked, inputs, conduct, self.twin)
        send = self.hub.run_past if past else self.hub.run
        await send(request(asked, inputs), answer)
        return answer.inference

    def terms(self, exact: Sequence[str] = ()) -> Terms:
        return Terms(Tolerance(1e-4, 1e-3), frozenset(exact), "numpy", "numpy")

    async def audit(self, terms: Terms | None = None, **how: object) -> list[Checked | Unjoined]:
        rpc = self.hub.wallet.rpc
        last = (await rpc.block("latest")).number
        async with Replayer(self.store, self.pool, self.folder / "models", model_bytes=1 << 20) as replayer:
            audit = Audit(rpc, self.wire, replayer, terms or self.terms(), **how)  # type: ignore[arg-type]
            return [one async for one in audit.range(self.hub.start_block, last)]

    @property
    def wire(self) -> Wire:
        return Wire(self.hub.address, self.hub.precompile)


@asynccontextmanager
async def stage(folder: Path, form: Form = Form.FULL) -> AsyncIterator[Stage]:
    blocks = folder / "blocks"
    blocks.mkdir()
    model, twin = (served(softmax_model(folder / f"model{seed}", seed)) for seed in (0, 1))
    publish(blocks, model)
    async with (
        EmbeddedDevnet() as devnet,
        ReplayPool(limits=Limits(memory_bytes=1 << 30)) as pool,
        ArtifactStore(folder / "cache", gateways=[blocks.as_uri()]) as store,
    ):
        hub = await Hub.deploy(Wallet(devnet.rpc, devnet.accounts[0].key, "user"), form)
        yield Stage(hub, model, twin, blocks, pool, store, folder)
