"""Bundles on what a reorganisation put elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lives import checked, failing

from challenger.app import App
from challenger.audit.journal import Recovered
from challenger.audit.sampling import audit_epoch
from challenger.domain import CommitmentId, State
from challenger.evidence.gather import gather
from challenger.evidence.opened import gathering
from challenger.evidence.seal import decode, encode
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from challenger.store.heads import FilePublisher, verify
from tests.integration.test_watcher import Scene, scene

KEPT = "before a reorganisation that left the draw in force for money was on its way: so its journal, under "


async def place(s: Scene, job: CommitmentId) -> int:
    block: int = next(e.log.block for e in await s.events() if e.name == "Committed" and e.args["job"] == job)
    return block


async def wherever_it_was(s: Scene, job: CommitmentId, earlier: int) -> None:
    """The blocks from ``earlier`` before the commitment's on are others, and the first of them holds all that these held."""
    head = await s.devnet.rpc.block("latest")
    await s.devnet.reorg(head.number - await place(s, job) + 1 + earlier, keep=True)
    s.world.reread()


async def all_in_the_chain(s: Scene, raw: bytes) -> bool:
    """What `verify` says of the file, and what `--rpc` asks besides."""
    found = await checked(raw)
    assert failing(found) == []
    assert found.proved
    assert found.replayed
    served = await s.devnet.rpc.blocks([block.number for block in found.blocks])
    return [block.hash for block in found.blocks] == [block.hash for block in served]


async def findings(s: Scene, app: App) -> list[str]:
    heads = await FilePublisher(s.settings.store.heads).published()
    bound = (await verify(app.store, heads, Recovered())).vouched
    anchor = s.world.deployment.anchor
    async with app.store.read() as view:
        epochs = await view.epochs.all()
        reports = [await audit_epoch(view, one, anchor, s.devnet.rpc, app.adapter, bound=bound) for one in epochs]
    assert sum(report.commitments for report in reports) == 10
    return [finding.what for report in reports for finding in report.findings]


async def test_a_draw_that_money_followed_into_another_block_holds(tmp_path: Any) -> None:
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s, s.watcher(correlated_providers=100) as app:
        await s.world.play()
        while not (await s.states(app))[State.DISPUTING]:
            await s.turn(app, people=False)
        job = CommitmentId(min(s.jobs(Truth.WRONG)))
        was = await place(s, job)
        await wherever_it_was(s, job, earlier=1)
        await s.until_quiet(app)
        async with app.store.read() as view:
            row = await view.work.get(job)
        assert row is not None
        assert (row.seen_block, row.draw_block, row.state) == (was - 1, was + 2, "withdrawn")
        assert await findings(s, app) == [], "its head was published with the reorganisation"
        async with gathering(s.settings, rpc=s.devnet.rpc, files=ToyFiles(), workers=s.workers) as sources:
            evidence = await gather(sources, job)
        found = await checked(encode(evidence, None))
        assert failing(found) == []
        assert found.replayed
        (said,) = [finding for finding in found.findings if finding.part == "sampling"]
        assert said.holds is None
        assert KEPT + "no published head yet" in said.what
        await app.publish(row.updated)
        async with gathering(s.settings, rpc=s.devnet.rpc, files=ToyFiles(), workers=s.workers) as sources:
            found = await checked(encode(await gather(sources, job), None))
        assert any(KEPT + "the head" in finding.what for finding in found.findings)
        # without the reorganisation in its journal it is a draw with a block of the watcher's choice
        silent = tuple(entry for entry in evidence.journal if entry.kind != "restored")
        found = await checked(replace(decode(encode(evidence, None)), evidence=replace(evidence, journal=silent)))
        assert failing(found) == ["sampling: it was drawn with another block than promised"]


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_kept_bundle_is_written_anew_when_its_blocks_are_gone(tmp_path: Any, stopped: bool) -> None:
    """``stopped``: the watcher that followed the reorganisation is not the one that keeps the evidence."""
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE,)) as s:
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            await s.until_quiet(app)
            while await app.keep_evidence():
                pass
            paths = sorted(s.settings.store.evidence.iterdir())
            before = [path.read_bytes() for path in paths]
            assert len(paths) == len(s.jobs(Truth.WRONG)) > 1
            assert all([await all_in_the_chain(s, raw) for raw in before])
            job = decode(before[0]).evidence.commitment
            await wherever_it_was(s, job, earlier=0)
            assert not await all_in_the_chain(s, before[0])
            await s.until_quiet(app)
            while not stopped and await app.keep_evidence():
                pass
        async with s.watcher(correlated_providers=100) as app:
            await s.until_quiet(app)
            while await app.keep_evidence():
                assert stopped, "what is as the chain has it stays"
        assert sorted(s.settings.store.evidence.iterdir()) == paths
        after = [path.read_bytes() for path in paths]
        assert all([await all_in_the_chain(s, raw) for raw in after])
        assert after[0] != before[0]


@pytest.mark.slow
async def test_what_cannot_be_had_any_more_stays_in_the_bundle(tmp_path: Any) -> None:
    async with (
        scene(tmp_path, seed=3, cheats=(Kind.NUDGE,), by_uri=100) as s,
        s.watcher(correlated_providers=100) as app,
    ):
        await s.world.play()
        await s.until_quiet(app)
        while await app.keep_evidence():
            pass
        (path, *_) = sorted(s.settings.store.evidence.iterdir())
        before = decode(path.read_bytes()).evidence
        assert before.input.data is not None
        for datum in (s.folder.path / "data").iterdir():
            datum.unlink()
        await wherever_it_was(s, before.commitment, earlier=0)
        await s.until_quiet(app)
        while await app.keep_evidence():
            pass
        assert await all_in_the_chain(s, path.read_bytes())
        after = decode(path.read_bytes()).evidence
        assert (after.input, after.output, after.observed) == (before.input, before.output, before.observed)
        assert after.logs != before.logs
