"""The real watcher, driven in step with the demonstration's blocks: the same parts that `challenger run` wires."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import select

from challenger.app import App, opened
from challenger.audit.journal import Recovered
from challenger.audit.sampling import audit_epoch
from challenger.chain.rpc import Rpc
from challenger.settings import Settings
from challenger.store import migrate
from challenger.store.heads import FilePublisher, verify
from challenger.store.schema import commitments, verdicts, work


@dataclass(frozen=True, slots=True)
class Seen:
    """What the watcher's own record says of one commitment."""

    commitment: bytes
    sampled: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class Audited:
    """``epochs`` with commitments in them, and what is wrong with any."""

    epochs: int
    findings: tuple[str, ...]


class SteppedWatcher:
    def __init__(self, app: App) -> None:
        self._app = app

    async def step(self) -> bool:
        """Chain side, replays, and the chain side again for what the replays decided."""
        moved = await self._app.step()
        await self._app.gather()
        if await self._app.investigate():
            moved = True
            await self._app.step()
        return moved

    async def sights(self) -> Sequence[Seen]:
        """In one query: a screen asks twice a second."""
        query = select(work.c.commitment, work.c.selected, verdicts.c.kind).select_from(
            work.join(commitments, commitments.c.commitment == work.c.commitment).outerjoin(
                verdicts, verdicts.c.id == work.c.verdict
            )
        )
        async with self._app.store.read() as view:
            rows = await view.connection.execute(query)
        return [Seen(row.commitment, bool(row.selected), row.kind or "") for row in rows]

    async def paused(self) -> Sequence[bytes]:
        async with self._app.store.read() as view:
            return [bytes.fromhex(pause.subject[2:]) for pause in await view.approvals.active()]

    async def audited(self) -> Audited:
        """Its sampling, re-checked against the chain while there is one, as `challenger audit sampling` does."""
        app, anchor = self._app, self._app.settings.chain.anchor
        heads = await FilePublisher(app.settings.store.heads).published()
        bound = (await verify(app.store, heads, Recovered())).vouched
        async with app.store.read() as view:
            rows = await view.epochs.all()
            reports = [await audit_epoch(view, row, anchor, app.rpc, app.adapter, bound=bound) for row in rows]
        told = [report for report in reports if report.commitments]
        findings = [
            f"sampling of epoch {report.epoch}: {found.what}" for report in reports for found in report.findings
        ]
        findings += [f"sampling of epoch {report.epoch} is not anchored" for report in told if not report.anchored]
        return Audited(len(told), tuple(findings))

    async def keep_evidence(self) -> int:
        """Writes the bundles on all frauds; how many."""
        written = 0
        while await self._app.keep_evidence():
            written += 1
        return written

    async def approve(self, model: bytes, note: str) -> None:
        await self._app.approve("0x" + model.hex(), "demo operator", note)


@asynccontextmanager
async def watching(settings: Settings, rpc: Rpc) -> AsyncIterator[SteppedWatcher]:
    """A watcher on ``rpc`` with a fresh schema at the settings' database."""
    await migrate.upgrade(settings.store.url)
    async with opened(settings, rpc=rpc) as app:
        yield SteppedWatcher(app)
        await app.publish((await rpc.block("latest")).time)
