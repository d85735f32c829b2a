"""Reports on protocols that have no dispute on chain, wired from settings: no key, and nothing that could file.

What is found goes into the record's table of findings and to whoever asked; that is all that comes of it.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from challenger.chain.rpc import Rpc
from challenger.domain import Address, Block, Capability, ChainId, CommitmentId, Millionths, UnixTime
from challenger.errors import ConfigError, EndpointError, OwnDisk
from challenger.parts import artifact_store, replay_pool
from challenger.protocols.findings import Finding
from challenger.protocols.opengradient.audit import Audit, Checked, Terms
from challenger.protocols.opengradient.comparing import Tolerance
from challenger.protocols.opengradient.join import Inference, Unjoined
from challenger.protocols.opengradient.replaying import Models, Replayer, Workers
from challenger.protocols.opengradient.settlement.audit import Known, audited
from challenger.protocols.opengradient.settlement.fetch import BlobSources
from challenger.protocols.opengradient.settlement.terms import Deployment, Registry
from challenger.protocols.opengradient.wire import Form, Wire
from challenger.reach import reached
from challenger.sampling.draw import draw, selects
from challenger.settings import OpenGradientSettings, Settings
from challenger.store.engine import Store, open_store
from replay.artifacts.ipfs.cid import Cid
from replay.artifacts.ipfs.errors import IpfsError

OPENGRADIENT = "opengradient"
#: Findings that are held at once, a kilobyte or two each.
_HELD = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Blocks ``first ≤ b ≤ last``, None: up to the newest that is confirmed. An inference is run again iff
    HMAC-SHA256(``seed``, its id ‖ its block's hash) falls below ``rate``: whoever has the seed draws the same ones."""

    first: int
    last: int | None = None
    rate: Millionths = Millionths(1_000_000)
    seed: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def drawn(self, inference: Inference) -> bool:
        return selects(draw(self.seed, CommitmentId(inference.subject), inference.at.block_hash), self.rate)


class Report:
    """No adapter, since nothing is watched, drawn against a window or filed: a report on what is past. ``record``: whether
    findings are kept. ``chain``, ``last`` and ``new`` (findings that the record did not have) hold once ``results`` has
    ended."""

    capability = Capability.REPORT_ONLY
    chain = ChainId(0)
    last = 0
    new = 0

    def __init__(
        self,
        settings: Settings,
        wanted: Wanted,
        *,
        record: bool = True,
        rpc: Rpc | None = None,
        models: Models | None = None,
        workers: Workers | None = None,
        kept: Callable[[Finding], None] = lambda _: None,
        known: Known | None = None,
    ) -> None:
        """``rpc``, ``models`` and ``workers`` stand in for the endpoint, the artefact store and the replay pool; ``kept`` is
        told of each finding that holds; ``known``: of settlements, from the ranges before. Raises ConfigError where the
        settings name nothing to report on."""
        ours = settings.opengradient
        if not ours.hub and not ours.settlement:
            raise ConfigError("[opengradient] names neither hub nor settlement: there is nothing to report on")
        if ours.settlement and not ours.registry:
            raise ConfigError("[opengradient] registry is missing: the enclaves' status is rebuilt from it")
        _deployment(ours)
        _sources(settings)
        for model in ours.exact:
            try:
                Cid.parse(model)
            except IpfsError as error:
                raise ConfigError(f"[opengradient] exact: {error}") from None
        self._settings = settings
        self._wanted = wanted
        self._record = record
        self._rpc, self._models, self._workers = rpc, models, workers
        self._kept, self._known = kept, known

    async def results(self) -> AsyncIterator[Checked | Unjoined | Finding]:
        """Inferences in chain order, then what was found of settlements. Findings hold, and are recorded, once the chain was
        seen to stand as it was read: those of inferences before settlements are looked at, those of settlements at the
        end. ``EndpointError`` when it does not."""
        settings, wanted, ours = self._settings, self._wanted, self._settings.opengradient
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(settings.store.url)) if self._record else None
            rpc = self._rpc or (await stack.enter_async_context(reached(settings)))[0]
            self.chain = await rpc.chain_id()
            head = await rpc.block("latest")
            self.last = head.number - settings.chain.confirmations + 1 if wanted.last is None else wanted.last
            if self.last > head.number:
                raise ConfigError("--to is a block that there is not yet", newest=head.number)
            keep = _Keeper(store, rpc, self.chain, head.time, await rpc.block(self.last), self._kept)
            if ours.hub:
                audit = await self._inferences(stack, rpc, ours)
                async for one in audit.range(wanted.first, self.last):
                    if isinstance(one, Checked):
                        await keep.hold(one.findings)
                    yield one
                self.new += await keep.all()
            if ours.settlement:
                async for found in self._settlements(stack, rpc, ours):
                    await keep.hold((found,))
                    yield found
                self.new += await keep.all()

    async def _inferences(self, stack: AsyncExitStack, rpc: Rpc, ours: OpenGradientSettings) -> Audit:
        settings = self._settings
        models, workers = self._models, self._workers
        if models is None:
            store: Models = await stack.enter_async_context(artifact_store(settings))
            models = store
        if workers is None:
            pool: Workers = await stack.enter_async_context(replay_pool(settings))
            workers = pool
        replayer = Replayer(models, workers, settings.replay.cache, model_bytes=settings.replay.fetch_bytes)
        try:
            await stack.enter_async_context(replayer)
        except OSError as error:
            raise OwnDisk(str(error)) from error
        terms = Terms(
            Tolerance(ours.absolute, ours.relative),
            frozenset(ours.exact),
            settings.replay.backend,
            settings.replay.confirm_backend,
        )
        return Audit(rpc, wire_of(ours), replayer, terms, self._wanted.drawn, settings.replay.workers)

    async def _settlements(self, stack: AsyncExitStack, rpc: Rpc, ours: OpenGradientSettings) -> AsyncIterator[Finding]:
        sources = _sources(self._settings)
        blobs = None if sources is None else await stack.enter_async_context(sources)
        first, last = self._wanted.first, self.last
        async for found in audited(rpc, _deployment(ours), first, last, blobs, known=self._known):
            yield found


def _deployment(ours: OpenGradientSettings) -> Deployment:
    others = tuple(map(Registry.parse, ours.registries))
    return Deployment(
        ours.settlement, ours.registry, ours.registry_start, ours.registry_form, ours.older_leaves, others
    )


def _sources(settings: Settings) -> BlobSources | None:
    """None: batches are only compared with each other."""
    named, replay = settings.opengradient.aggregators, settings.replay
    if not named:
        return None
    folders = [one for one in named if one.startswith("file://")]
    return BlobSources(
        [one for one in named if one not in folders],
        Path(unquote(urlsplit(folders[0]).path)) if folders else None,
        private_networks=replay.private_networks,
        timeout=replay.fetch_seconds,
    )


def wire_of(ours: OpenGradientSettings) -> Wire:
    return Wire(Address(ours.hub), ours.precompile, tuple(Form(name) for name in ours.events))


class _Keeper:
    """Holds findings until the chain was seen to stand: its ``end`` as at the beginning, and the block of each of them.
    ``store`` None: nothing is kept, and nothing is new."""

    def __init__(
        self, store: Store | None, rpc: Rpc, chain: ChainId, now: UnixTime, end: Block, kept: Callable[[Finding], None]
    ) -> None:
        self._store = store
        self._rpc = rpc
        self._chain = chain
        self._now = now
        self._end = end
        self._kept = kept
        self._held: list[Finding] = []
        self._new = 0

    async def hold(self, found: Iterable[Finding]) -> None:
        """Of more than are held at once the first ones are kept as though the range ended here."""
        self._held += found
        if len(self._held) >= _HELD:
            self._new += await self._recorded()

    async def all(self) -> int:
        """How many of them the record did not have, since it was asked last."""
        new, self._new = self._new + await self._recorded(), 0
        return new

    async def _recorded(self) -> int:
        held, self._held = self._held, []
        seen = [(self._end.number, self._end.hash), *((found.at.block, found.at.block_hash) for found in held)]
        stand = {block.number: block.hash for block in await self._rpc.blocks(sorted({number for number, _ in seen}))}
        for number, block_hash in seen:
            if stand[number] != block_hash:
                raise EndpointError("the chain was reorganised while it was read: ask again", block=number)
        new = 0
        if self._store is not None and held:
            async with self._store.begin(self._now) as unit:
                for found in held:
                    new += (await unit.findings.add(self._chain, OPENGRADIENT, found))[1]
        for found in held:
            self._kept(found)
        return new


#: Protocols that can be reported on.
REPORTS: dict[str, Callable[..., Report]] = {OPENGRADIENT: Report}
