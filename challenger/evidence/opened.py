"""Making and checking bundles, wired: settings or a file in, a bundle or findings out."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from challenger.chain.endpoint import connect
from challenger.chain.rpc import Rpc
from challenger.domain import Block, ChainId, CommitmentId
from challenger.endpoints import open_endpoints
from challenger.errors import BundleRefused, ConfigError, NotInRecord, UnknownBlock, WrongChain
from challenger.evidence.check import Checked, Finding, check
from challenger.evidence.form import Evidence
from challenger.evidence.gather import SMALL, Sources
from challenger.evidence.seal import Sealed
from challenger.parts import artifact_store, replay_pool
from challenger.pipeline.engine import Engine, Files, Workers
from challenger.protocols.reference import ReferenceAdapter
from challenger.settings import ReplaySettings, Settings, addresses, reference_only
from challenger.store.engine import Store, open_store
from challenger.telemetry.instruments import Instruments
from replay.artifacts import ArtifactError, ArtifactMissing, ArtifactReason, ArtifactStore
from replay.artifacts.manifest import MANIFEST_NAME, manifest_files

#: On what a bundle is checked: two that share no kernel code.
BACKENDS = ("torch", "numpy")


@asynccontextmanager
async def gathering(
    settings: Settings,
    *,
    small: int = SMALL,
    rpc: Rpc | None = None,
    files: Files | None = None,
    workers: Workers | None = None,
) -> AsyncIterator[Sources]:
    """What bundles are gathered from. ``rpc`` stands in for the endpoints, ``files`` and ``workers`` for the artefact store
    and the replay pool. Raises ConfigError, WrongChain, EndpointError, StoreError."""
    reference_only(settings, "evidence")
    chain = addresses(settings).chain
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings.store.url))
        endpoints = await stack.enter_async_context(open_endpoints(settings, Instruments(), rpc))
        await ReferenceAdapter(endpoints.rpc, ChainId(chain.chain_id), chain.market).check()
        if files is None:
            files = await stack.enter_async_context(artifact_store(settings))
        if workers is None:
            workers = await stack.enter_async_context(replay_pool(settings))
        wanted = settings.replay
        engine = Engine(files, workers, model_bytes=wanted.fetch_bytes, bundle_bytes=wanted.input_bytes)
        yield Sources(
            store,
            endpoints.rpc,
            ChainId(chain.chain_id),
            chain.market,
            engine,
            files,
            wanted.backend,
            wanted.fetch_bytes,
            small,
        )


async def named(store: Store, digits: str) -> CommitmentId:
    """The one indexed commitment whose id begins so. Raises NotInRecord."""
    async with store.read() as view:
        found = await view.chain.commitments_beginning(digits)
    if len(found) == 1:
        return found[0]
    what = "no indexed commitment begins with this" if not found else "several commitments begin with this"
    raise NotInRecord(what, asked="0x" + digits)


async def canonical(blocks: Sequence[Block], url: str, chain: ChainId) -> list[Finding]:
    """Whether the node at ``url`` has these blocks in its chain. Raises EndpointError, RpcError, WrongChain."""
    async with connect(url) as rpc:
        served = await rpc.chain_id()
        if served != chain:
            raise WrongChain("the bundle is about another one", wanted=chain, served=served)
        found = []
        for block in blocks:
            try:
                there = await rpc.block(block.number)
            except UnknownBlock:
                found.append(Finding("canonical", None, f"{rpc.name} does not know block {block.number}"))
                continue
            if there.hash != block.hash:
                what = f"block {block.number} of the chain is 0x{there.hash.hex()}, not 0x{block.hash.hex()}"
                found.append(Finding("canonical", False, what))
    if not blocks:
        found.append(Finding("canonical", None, "no log is proved: there is no block to ask for"))
    elif not found:
        found.append(Finding("canonical", True, f"all {len(blocks)} blocks are in the chain of {rpc.name}"))
    return found


async def checked(sealed: Sealed, model: Path | None, backends: Sequence[str] = BACKENDS) -> Checked:
    """Checks ``sealed`` with the model in the folder ``model``, or else with the one in the bundle. Raises ConfigError for a
    folder that is none."""
    with tempfile.TemporaryDirectory(prefix="evidence-") as scratch:
        folder = await asyncio.to_thread(_folder, sealed.evidence, model, Path(scratch))
        if folder is None:
            return await check(sealed, None, backends)
        settings = Settings(replay=replace(ReplaySettings(), seconds=3_600.0))
        async with (
            ArtifactStore(Path(scratch) / "cache", roots=[folder]) as store,
            replay_pool(settings) as workers,
        ):
            engine = Engine(_Brought(store, folder), workers, model_bytes=1 << 40, bundle_bytes=1 << 32)
            return await check(sealed, engine, backends)


def _folder(evidence: Evidence, given: Path | None, scratch: Path) -> Path | None:
    """Where the manifest lies with its files; None where neither the bundle nor anybody brings them."""
    if given is not None:
        folder = given.parent if given.name == MANIFEST_NAME else given
        if not (folder / MANIFEST_NAME).is_file():
            raise ConfigError(f"--model must be a folder with a {MANIFEST_NAME}", model=given)
        return folder.resolve()
    manifest = evidence.files.get(MANIFEST_NAME)
    if manifest is None or len(evidence.files) == 1:
        return None
    try:
        names = manifest_files(manifest)
    except ArtifactError as error:
        raise BundleRefused(str(error)) from None
    folder = scratch / "model"
    folder.mkdir()
    for name in (MANIFEST_NAME, *names):
        if name in evidence.files:  # what is not, the store will miss
            (folder / name).write_bytes(evidence.files[name])
    return folder


class _Brought:
    """The model from a folder, whatever address the chain names; every digest is checked on the way."""

    def __init__(self, store: ArtifactStore, folder: Path) -> None:
        self._store = store
        self._uri = (folder / MANIFEST_NAME).as_uri()

    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = 1 << 40) -> Path:  # noqa: ARG002
        return await self._store.fetch_model(self._uri, file_digest, max_bytes)

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 0) -> bytes:  # noqa: ARG002
        raise ArtifactMissing(ArtifactReason.NOT_FOUND, "a bundle holds its data, or says that it does not", uri=uri)
