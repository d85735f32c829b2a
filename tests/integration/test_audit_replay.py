"""Past commitments run again: from the record, from the chain alone, never filed, and beside a watcher that is live."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from challenger.auditing import Audit, Wanted
from challenger.chain.rpc import Rpc
from challenger.cli import main
from challenger.cli.audit_replay import report
from challenger.domain import (
    Action,
    AuditId,
    Call,
    CommitmentId,
    DemandId,
    Hash32,
    Intent,
    Mode,
    Part,
    State,
    TxState,
    UnixTime,
    Wei,
)
from challenger.errors import AuditRefused, NotInRecord, StoreError
from challenger.pipeline.audits import Audited, Missing
from challenger.protocols.base import Accusation
from challenger.protocols.reference_calls import MarketCalls
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from challenger.sim.wallet import Wallet
from challenger.store import migrate, open_store
from challenger.store.engine import create_engine
from challenger.store.heads import verify
from challenger.store.schema import audits, metadata, transactions
from tests.acceptance.test_check import place
from tests.integration.test_watcher import Scene, scene
from tests.store.chains import audit_verdict
from tests.store.conftest import fresh, fresh_postgres, fresh_sqlite, postgres, sqlite_template

__all__ = ["fresh", "fresh_postgres", "fresh_sqlite", "postgres", "sqlite_template"]  # fixtures of the store's tests

SAYS = {Truth.HONEST: "VALID", Truth.WRONG: "FRAUD", Truth.WITHHELD: "UNAVAILABLE"}


@asynccontextmanager
async def small(folder: Any, *cheats: Kind):
    """A world of a few tasks, played to the end of its rounds, whose watcher draws nothing."""
    async with scene(folder, seed=3, tasks=4 + len(cheats), round_size=9, cheats=cheats) as s:
        # the blocks whose hashes would draw are far away
        s.settings = replace(s.settings, sampling=replace(s.settings.sampling, delay=200))
        await s.world.play()
        assert len(s.jobs(Truth.HONEST)) == 4
        await s.world.blocks.tick()
        yield s


async def audited(s: Scene, wanted: Wanted, *, rpc: Any = None, others: Any = (), **how: Any) -> list[Any]:
    rpc = rpc or s.devnet.rpc
    audit = Audit(s.settings, wanted, rpc=rpc, others=others, files=ToyFiles(), workers=s.workers, **how)
    return [result async for result in audit.results()]


async def indexed(s: Scene) -> None:
    async with s.watcher(mode=Mode.WATCH) as app:
        for _ in range(3):
            await s.turn(app, people=False)


def ids(s: Scene) -> tuple[str, ...]:
    return tuple(label.job.hex() for label in s.world.labels)


def kinds(results: list[Audited]) -> dict[bytes, str]:
    return {one.row.commitment: one.row.kind for one in results}


def truth(s: Scene) -> dict[bytes, str]:
    return {label.job: SAYS[label.truth] for label in s.world.labels}


async def counts(url: str) -> dict[str, int]:
    """Rows of every table but those that an audit writes."""
    async with open_store(url) as store, store.read() as view:
        return {
            name: (await view.connection.execute(select(func.count()).select_from(table))).scalar_one()
            for name, table in metadata.tables.items()
            if name not in ("audits", "journal")
        }


async def test_the_record_alone_is_enough_and_a_second_audit_is_put_beside_the_first(tmp_path, fresh):
    async with small(tmp_path, Kind.NUDGE, Kind.WITHHOLD) as s:
        s.settings = replace(s.settings, store=replace(s.settings.store, url=fresh()))
        await indexed(s)
        before = await counts(s.settings.store.url)
        first = await audited(s, Wanted(unjudged=True), rpc=Rpc(Away(), attempts=1), confirm=True)
        assert kinds(first) == truth(s)
        assert {one.row.source for one in first} == {"record"}
        fraud = next(one.row for one in first if one.row.kind == "FRAUD")
        assert (fraud.confirmed, fraud.differs) == ("numpy", ["output", "state"])
        assert set(json.loads(fraud.environment)) == {"torch", "numpy"}
        assert ("numpy", True) in s.workers.asked
        again = await audited(s, Wanted(unjudged=True))
        assert kinds(again) == {job: kind for job, kind in truth(s).items() if kind == "UNAVAILABLE"}
        assert not any(one.differs for one in again)
        s.workers.lies = {"torch"}
        third = await audited(s, Wanted(ids(s)))
        assert {one.row.kind for one in third if one.differs} == {"INCONCLUSIVE"}, "its known answer fails"
        assert await counts(s.settings.store.url) == before, "no other row was made"
        async with open_store(s.settings.store.url) as store:
            assert (await verify(store)).broken is None
            async with store.read() as view:
                rows = await view.audits.of(AuditId(fraud.commitment))
                told = await view.journal.about(AuditId(fraud.commitment).subject)
        assert [row.kind for row in rows] == ["FRAUD", "INCONCLUSIVE"]
        assert [entry.kind for entry in told] == ["audit-verdict"] * 2
        assert not any("environment" in json.loads(entry.payload) for entry in told)


class Away:
    """No endpoint at all."""

    async def make_request(self, method, params):
        raise OSError("away")


async def test_what_was_never_indexed_is_read_from_the_chain_at_its_block(tmp_path, capsys, monkeypatch):
    async with small(tmp_path, Kind.NUDGE, Kind.WITHHOLD) as s:
        while (end := s.world.last_window()) is not None:
            await s.world.blocks.travel(end)
            await s.world.finish()
        results = await audited(s, Wanted(ids(s)), confirm=True)
        assert kinds(results) == truth(s)
        assert {one.row.source for one in results} == {"chain"}
        rows = {one.row.commitment: one.row for one in results}
        head = await s.devnet.rpc.block("latest")
        ranged = await audited(s, Wanted(blocks=(0, head.number + 1_000), limit=2))
        assert [rows[one.row.commitment].block for one in ranged] == [
            rows[one.row.commitment].block for one in results[:2]
        ]
        found = await counts(s.settings.store.url)
        assert (found["work"], found["commitments"], found["verdicts"], found["transactions"]) == (0, 0, 0, 0)
        monkeypatch.setenv("CHALLENGER_STORE_URL", s.settings.store.url)
        fraud = next(one for one in results if one.row.kind == "FRAUD")
        name = "0x" + fraud.row.commitment.hex()
        assert await asyncio.to_thread(main, ["commitments", name[:20]]) == 0
        assert "Not in the index" in capsys.readouterr().out
        assert await asyncio.to_thread(main, ["commitments", name, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["commitment"] is None
        assert told["audits"][0]["differs"] == ["output", "state"]
        assert report(results, more=False, as_json=False) == 1, "withheld data is no judgement"
        said = capsys.readouterr().out
        assert f"computed  0x{fraud.row.output_root.hex()}" in said


async def test_an_answer_posted_on_demand_is_read_from_the_chain(tmp_path):
    async with small(tmp_path, Kind.WITHHOLD) as s:
        (job,) = s.jobs(Truth.WITHHELD)
        friend = Wallet(s.devnet.rpc, s.devnet.accounts[18].key, "friend")
        calls, bond = MarketCalls(s.world.deployment.market), s.world.deployment.params.demand_bond
        await s.world.blocks.together([(friend, calls.demand(job, Part.OUTPUT, 0, bond))])
        index = next(number for number, label in enumerate(s.world.labels) if label.job == job)
        answer, _ = s.world._answers[index].result()
        await s.world.blocks.together([(friend, calls.answer(DemandId(1), answer.output))])
        (result,) = await audited(s, Wanted((job.hex(),)))
        assert (result.row.kind, result.row.source) == ("VALID", "chain")


class Lesser:
    """An endpoint that keeps no state but its newest block's, or serves no receipts."""

    def __init__(self, inner: Any, *, history: bool = True, receipts: bool = True) -> None:
        self._inner, self._history, self._receipts = inner, history, receipts

    async def make_request(self, method, params):
        if method == "eth_call" and isinstance(params[1], dict) and not self._history:
            newest = await self._inner.make_request("eth_getBlockByNumber", ["latest", False])
            if params[1]["blockHash"] != newest["result"]["hash"]:
                return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "missing trie node 00ff"}}
        if not self._receipts and "Receipt" in method:
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no such method"}}
        return await self._inner.make_request(method, params)


async def test_an_endpoint_without_history_is_said_and_one_that_has_it_is_asked(tmp_path, capsys):
    async with small(tmp_path, Kind.NUDGE) as s:
        pruned = Rpc(Lesser(s.devnet.provider, history=False), name="pruned", backoff=0.0)
        (alone,) = await audited(s, Wanted(ids(s)[:1]), rpc=pruned)
        assert alone.row.kind == "INCONCLUSIVE"
        assert "archive node" in alone.row.detail
        assert "missing trie node" in alone.row.detail
        assert report([alone], more=False, as_json=True) == 1
        assert json.loads(capsys.readouterr().out)["judged"] is False
        both = await audited(s, Wanted(ids(s)), rpc=pruned, others=[s.devnet.rpc])
        assert kinds(both) == truth(s)
        assert both[0].differs, "it could not be judged before"
        bare = Rpc(Lesser(s.devnet.provider, receipts=False), name="bare", backoff=0.0)
        unproved = await audited(s, Wanted(ids(s)), rpc=bare)
        assert {one.row.source for one in unproved} == {"chain-unproved"}
        assert kinds(unproved) == truth(s)


class Altered:
    """An endpoint that shows another input for every task."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def make_request(self, method, params):
        answer = await self._inner.make_request(method, params)
        if method == "eth_getLogs":
            for log in answer["result"]:
                if len(log["topics"]) == 4 and len(log["data"]) > 8 * 64:
                    log["data"] = "0x" + "ab" * 32 + log["data"][66:]
        return answer


async def test_an_endpoint_that_alters_logs_makes_no_fraud_of_an_honest_answer(tmp_path):
    async with small(tmp_path) as s:
        results = await audited(s, Wanted(ids(s)), rpc=Rpc(Altered(s.devnet.provider), backoff=0.0))
        assert {one.row.kind for one in results} == {"INCONCLUSIVE"}


async def test_what_a_reorganisation_took_away_is_said(tmp_path):
    async with small(tmp_path) as s, s.watcher(mode=Mode.WATCH) as app:
        await s.turn(app, people=False)
        (one, *_) = ids(s)
        assert kinds(await audited(s, Wanted((one,)))) == {bytes.fromhex(one): "VALID"}
        head = await s.devnet.rpc.block("latest")
        async with app.store.read() as view:
            row = await view.chain.commitment(CommitmentId(bytes.fromhex(one)))
        await s.devnet.reorg(head.number - row.block + 1)
        for _ in range(3):
            await s.turn(app, people=False)
        (gone,) = await audited(s, Wanted((one,)))
        assert isinstance(gone, Missing)
        assert "reorganisation" in gone.why


async def test_nothing_is_filed_for_what_was_audited(tmp_path, fresh):
    """Beside a live watcher with money, on its database: frauds that it did not draw, while their window is open and
    after."""
    async with small(tmp_path, Kind.NUDGE, Kind.OLDER) as s:
        s.settings = replace(s.settings, store=replace(s.settings.store, url=fresh()))
        async with s.watcher(engine=create_engine) as app:
            await s.until_quiet(app)
            assert (await s.states(app)) == {State.OBSERVED: 6}
            for when in ("open", "closed"):
                results, _ = await asyncio.gather(audited(s, Wanted(ids(s)), confirm=True), s.until_quiet(app))
                assert {one.row.commitment for one in results if one.row.kind == "FRAUD"} == s.jobs(Truth.WRONG), when
                for _ in range(3):
                    await s.turn(app)
                assert not await s.accused()
                async with app.store.read() as view:
                    assert set(await view.work.counts()) <= {State.OBSERVED, State.FINALISED}
                    assert not [t for label in s.world.labels for t in await view.transactions.about(label.job)]
                    assert not await view.approvals.active(), "they count for no correlated accusation"
                    assert not [v for label in s.world.labels for v in await view.verdicts.of(label.job)]
                await s.world.blocks.travel(s.world.last_window())
            assert (await verify(app.store)).broken is None


def wish(subject: str) -> Intent:
    return Intent("reference", subject, Action.CHALLENGE, Call("0x" + "11" * 20, b"", Wei(0)), UnixTime(2**40))


async def test_accusation_outbox_and_sender_refuse_what_an_audit_found(tmp_path):
    about = AuditId(bytes(32))
    with pytest.raises(AuditRefused):
        Accusation(about, Hash32(bytes(32)), Hash32(bytes(32)), Hash32(b""))
    async with small(tmp_path) as s, s.watcher() as app:
        await s.turn(app)
        account = s.devnet.accounts[15].address
        now = (await s.devnet.rpc.block("latest")).time
        with pytest.raises(AuditRefused):
            async with app.store.begin(now) as unit:
                await unit.transactions.propose(wish(about.subject), account)
        async with app.store.begin(now) as unit:  # behind the outbox's back
            row = await unit.transactions.propose(wish("0x00"), account)
            renamed = update(transactions).where(transactions.c.id == row.id).values(subject=about.subject)
            await unit.connection.execute(renamed)
        for _ in range(2):
            await s.turn(app)
        async with app.store.read() as view:
            left = await view.transactions.get(row.id)
        assert (left.state, left.attempts) == (TxState.INTENT, ())
        assert {name for name, _ in app.telemetry.alerts.active()} == {"planted-filing"}


async def test_what_cannot_be_found_is_named(tmp_path, capsys):
    async with small(tmp_path) as s:
        nowhere = "ab" * 32
        results = await audited(s, Wanted((nowhere, "abcd", ids(s)[0])))
        assert [type(one) for one in results] == [Missing, Missing, Audited]
        assert report(results, more=False, as_json=False) == 1
        said = " ".join(capsys.readouterr().out.split())
        assert f"0x{nowhere}: not found: neither in the record nor on the chain" in said
        (away,) = await audited(s, Wanted((nowhere,)), rpc=Rpc(Away(), attempts=1))
        assert away.why.startswith("not in the record, and the JSON-RPC endpoint could not be used")
        (beyond,) = await audited(s, Wanted(blocks=(5, 9)), rpc=Rpc(Away(), attempts=1))
        assert beyond.asked == "blocks 5 to 9"
        await indexed(s)
        (whole,) = await audited(s, Wanted((ids(s)[0][:20],)), rpc=Rpc(Away(), attempts=1))
        assert whole.row.commitment.hex() == ids(s)[0]
        async with open_store(s.settings.store.url) as store, store.begin(UnixTime(1)) as unit:
            await unit.audits.add(audit_verdict(bytes.fromhex(ids(s)[0][:20] + "00" * 22)))
        with pytest.raises(NotInRecord, match="several commitments"):
            await audited(s, Wanted((ids(s)[0][:20],)))
        url = f"sqlite:///{tmp_path / 'other.sqlite'}"
        await migrate.upgrade(url)
        async with open_store(url) as store, store.begin(UnixTime(1)) as unit:
            await unit.settings.pin("deployment", "1/0xelsewhere")
        s.settings = replace(s.settings, store=replace(s.settings.store, url=url))
        with pytest.raises(StoreError, match="another deployment"):
            await audited(s, Wanted((nowhere,)))


async def test_a_confirmation_that_fails_is_no_fraud(tmp_path):
    async with small(tmp_path, Kind.NUDGE) as s:
        s.workers.fails = {"numpy": 1}
        results = await audited(s, Wanted(ids(s)), confirm=True)
        (held,) = [one.row for one in results if one.row.commitment in s.jobs(Truth.WRONG)]
        assert held.kind == "INCONCLUSIVE"
        assert held.detail.startswith("confirmation: ")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["0xzz"], "64 hex digits"),
        (["0x" + "ab" * 33], "64 hex digits"),
        ([], "nothing was asked for"),
        (["--from", "3"], "go together"),
        (["--from", "9", "--to", "3"], "in order"),
        (["--all-unjudged", "--limit", "0"], "at least 1"),
    ],
)
def test_usage(tmp_path, capsys, argv, says, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["audit", "replay", *argv])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert says in capsys.readouterr().err


async def test_no_key_is_loaded_whatever_the_settings_name(tmp_path, capsys):
    async with place(tmp_path) as p:
        p.values["key_file"] = '"/nowhere/key"'
        command = ["audit", "replay", "0x" + "ab" * 32, "--json", "-c", str(p.settings_file())]
        assert await asyncio.to_thread(main, command) == 1
        told = json.loads(capsys.readouterr().out)
        assert told["missing"][0]["why"] == "neither in the record nor on the chain"
        assert (told["judged"], told["audits"], told["more"]) == (False, [], False)


def test_the_table_of_audits_is_not_the_pipelines():
    """No other table refers to it, and no query of a decision reads it."""
    assert not audits.foreign_keys
    assert not [key for table in metadata.tables.values() for key in table.foreign_keys if key.column.table is audits]
