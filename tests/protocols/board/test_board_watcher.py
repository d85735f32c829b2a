"""The whole watcher on a protocol that a third party brings: nothing of ours knows the board."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager

import pytest
from board_stage import OURS, OWNER, board_stage

from challenger.app import opened
from challenger.audit.sampling import audit_epoch
from challenger.contracts import artifact
from challenger.domain import Action, DisputeClosed, DisputeOpened, DisputeOutcome, Mode, State, TxState
from challenger.plugins.kit import adapter_on, events_on
from challenger.settings import build
from challenger.sim.scenario import DIGITS
from challenger.sim.toy import ToyBench, ToyFiles, ToyWorkers, kits
from challenger.sim.workshop import Variant
from challenger.store import migrate
from replay.layout import bundle_root

BLOCK = 12
KIT = next(kit for kit in kits() if kit.name == DIGITS)


class Scene:
    def __init__(self, stage, settings) -> None:
        self.stage, self.settings, self.asked = stage, settings, 0

    async def answered(self, variant: Variant) -> bytes:
        """A question and its answer, computed with ``variant`` of the model; the answer's id."""
        self.asked += 1
        data = KIT.sample(self.asked)
        receipt = await ToyBench().run(DIGITS, data, variant)
        task = await self.stage.ask(bundle_root(data), data)
        return await self.stage.answer(task, receipt.output_root, receipt.state_root, receipt.output)

    @asynccontextmanager
    async def watcher(self):
        async with opened(self.settings, rpc=self.stage.rpc, files=ToyFiles(), workers=ToyWorkers()) as app:
            yield app

    async def until_quiet(self, app) -> None:
        idle = 0
        for _ in range(120):
            moved = await app.step()
            await app.gather()
            moved |= await app.investigate()
            moved |= await app.step()
            moved |= await self.judged()
            await self.stage.mine(BLOCK)
            idle = 0 if moved else idle + 1
            if idle == 6:
                return
        raise AssertionError("the watcher never comes to rest")

    async def told(self, kind) -> list:
        return [e for e in await events_on(self.stage, await adapter_on(self.stage)) if isinstance(e, kind)]

    async def judged(self) -> bool:
        """The judge runs the model himself."""
        adapter, moved = await adapter_on(self.stage), False
        for case in await self.told(DisputeOpened):
            standing = await adapter.status(case.dispute)
            if standing.outcome is DisputeOutcome.OPEN and not standing.ruled:
                committed = await adapter.hydrate(case.commitment)
                await self.stage.decide(case.dispute, for_us=case.output_root != committed.output_root)
                moved = True
        return moved


@asynccontextmanager
async def scene(folder, mode: Mode):
    known = await ToyBench().run(DIGITS, KIT.known)
    spec = KIT.spec(known.output_root)
    facts = {
        "fileDigest": spec.file_digest,
        "artefactRoot": spec.artefact_root,
        "programRoot": spec.program_root,
        "specVersion": spec.spec_version,
        "uri": spec.uri,
        "knownInput": spec.known_input,
        "knownOutputRoot": spec.known_output_root,
    }
    async with board_stage(facts) as stage:
        anchor, _ = await stage.wallets[OWNER].create(artifact("EpochAnchor").bytecode)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_text(stage.devnet.accounts[OURS].key.hex(), encoding="ascii")
        raw = {
            "chain": {
                "embedded": True,
                "chain_id": stage.place.chain_id,
                "market": stage.place.contract,
                "anchor": anchor,
                "confirmations": 2,
            },
            "protocol": {"name": "board"},
            "store": {
                "url": f"sqlite:///{folder / 'watcher.sqlite'}",
                "heads": str(folder / "heads.jsonl"),
                "evidence": str(folder / "evidence"),
            },
            "signer": {"key_file": str(key)} if mode is not Mode.WATCH else {},
            "sampling": {"base": 1_000_000, "newcomer": 1_000_000, "epoch_blocks": 20},
            "replay": {"retry_seconds": BLOCK},
            "filing": {"mode": mode.value, "exposure": 10**19},
        }
        settings = build(raw, {}, "c.toml")
        await migrate.upgrade(settings.store.url)
        yield Scene(stage, settings)


@pytest.mark.parametrize("mode", [Mode.WATCH, Mode.LIVE])
async def test_a_wrong_answer_is_found_and_in_live_mode_disputed_and_won(tmp_path, installed, mode):
    async with scene(tmp_path, mode) as s, s.watcher() as app:
        await s.until_quiet(app)
        right, wrong = await s.answered(Variant.REGISTERED), await s.answered(Variant.INT8)
        await s.until_quiet(app)
        async with app.store.read() as view:
            states = {item.work.commitment: State(item.work.state) for item in await view.work.listing()}
            rows = await view.transactions.about(wrong)
        disputes = [(case.commitment, case.challenger) for case in await s.told(DisputeOpened)]
        if mode is Mode.WATCH:
            assert states == {right: State.REPLAYED, wrong: State.CONFIRMED}
            assert (disputes, rows) == ([], [])
            return
        assert states == {right: State.REPLAYED, wrong: State.WITHDRAWN}
        assert disputes == [(wrong, s.stage.place.account)]
        (closed,) = await s.told(DisputeClosed)
        assert closed.outcome is DisputeOutcome.CHALLENGER
        assert Counter((row.intent.protocol, row.intent.action, row.state) for row in rows) == {
            ("board", Action.CHALLENGE, TxState.FINAL): 1,
            ("board", Action.SETTLE, TxState.FINAL): 1,
        }


async def test_a_window_made_shorter_meanwhile_is_believed_and_nothing_is_sent(tmp_path, installed):
    async with scene(tmp_path, Mode.LIVE) as s, s.watcher() as app:
        await s.until_quiet(app)
        wrong = await s.answered(Variant.INT8)
        await app.step()  # the index has it with an hour to go
        await s.stage.act(OWNER, "setWindow", 5)
        await s.until_quiet(app)
        async with app.store.read() as view:
            (item,) = await view.work.some([wrong])
            assert await view.transactions.about(wrong) == []
        assert item.commitment.closes - item.commitment.committed_at == 3_600
        assert item.work.state == State.EXPIRED
        assert item.work.detail.startswith("window: ")
        assert await s.told(DisputeOpened) == []


async def test_what_bound_its_sampling_is_found_on_the_chain_whatever_the_protocol(tmp_path, installed):
    async with scene(tmp_path, Mode.LIVE) as s, s.watcher() as app:
        await s.until_quiet(app)
        await s.answered(Variant.REGISTERED)
        await s.until_quiet(app)
        async with app.store.read() as view:
            anchored = [row for row in await view.epochs.all() if row.anchor_block is not None]
            reports = [
                await audit_epoch(view, row, s.settings.chain.anchor, s.stage.rpc, app.adapter) for row in anchored
            ]
        assert reports
        assert all(report.anchored and report.holds for report in reports), [report.findings for report in reports]
