"""Forced errors on the whole watcher: planted frauds are caught, leave no trace in the record, and nothing files them."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from challenger.app import opened
from challenger.cli import main
from challenger.domain import Action, Call, Intent, PlantId, State, TxState, UnixTime, Wei
from challenger.errors import PlantedRefused
from challenger.sim import data
from challenger.sim.toy import ToyFiles, ToyWorkers
from challenger.store.crossing import Moment
from challenger.store.heads import verify
from challenger.store.schema import journal, latencies, metadata, selftests, transactions
from challenger.store.selftests import Outcome, SelfTestRow
from replay.layout import bundle_root
from replay.sandbox import Completed
from tests.integration.test_watcher import Scene, scene
from tests.store.conftest import fresh, fresh_postgres, fresh_sqlite, postgres, sqlite_template

__all__ = ["fresh", "fresh_postgres", "fresh_sqlite", "postgres", "sqlite_template"]  # fixtures of the store's tests


@asynccontextmanager
async def honest(folder: Any, rate: int = 1_000_000, **knobs: Any):
    """A world without cheats whose watcher plants a fraud for each valid verdict, one at a time."""
    async with scene(folder, **({"cheating": 0, "tasks": 3, "round_size": 3} | knobs)) as s:
        s.settings = replace(s.settings, selftest=replace(s.settings.selftest, rate=rate))
        yield s


async def rested(s: Scene, app: Any, tasks: Any) -> None:
    """One round of honest answers, judged; the workers rest."""
    await app.selftest()
    await s.world.round(tasks)
    await judged(s, app)


async def judged(s: Scene, app: Any) -> None:
    for _ in range(12):
        await s.turn(app, people=False)
        if (await s.states(app))[State.REPLAYED] == len(s.world.labels):
            break
    assert not await app.investigate()


async def planted(app: Any) -> list[SelfTestRow]:
    async with app.store.read() as view:
        return await view.selftests.newest(100)


def raised(app: Any) -> set[str]:
    return {name for name, _ in app.telemetry.alerts.active()}


async def record(app: Any) -> dict[str, int]:
    """Rows of every table but the self-test's own."""
    async with app.store.read() as view:
        return {
            name: (await view.connection.execute(select(func.count()).select_from(table))).scalar_one()
            for name, table in metadata.tables.items()
            if table not in (selftests, journal)
        }


async def test_a_planted_fraud_is_caught_and_stands_in_no_other_record(tmp_path, fresh, capsys, monkeypatch):
    async with honest(tmp_path) as s:
        s.settings = replace(s.settings, store=replace(s.settings.store, url=fresh()))
        async with s.watcher() as app:
            await rested(s, app, s.world.scenario.rounds[0])
            before = await record(app)
            assert before["verdicts"] == 3
            assert before[latencies.name]
            assert await app.selftest()
            assert not await app.selftest(), "of several that were drawn at once the last one is planted"
            (row,) = await planted(app)
            assert (row.outcome, row.detail) == (Outcome.CAUGHT, "")
            assert await record(app) == before
            assert not raised(app)
            assert s.workers.asked[-3:] == [("torch", True), ("numpy", True), ("numpy", True)], "a known answer between"
            async with app.store.read() as view:
                told = await view.journal.about(PlantId(row.id).subject)
                assert [entry.kind for entry in told] == ["selftest-planted", "selftest-ended"]
                own = await view.journal.about("0x" + row.source.hex())
                assert all(not entry.kind.startswith("selftest") for entry in own)
            assert (await verify(app.store)).broken is None
            for _ in range(4):
                await s.turn(app)
            assert not await s.accused()
            assert (await s.states(app)) == {State.REPLAYED: 3}
        monkeypatch.setenv("CHALLENGER_STORE_URL", s.settings.store.url)
        assert await asyncio.to_thread(main, ["status", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)["selftest"]
        assert (told["planted"], told["caught"], told["missed"], told["recall"]) == (1, 1, 0, 1_000_000)
        assert told["last"]["outcome"] == "caught"
        assert await asyncio.to_thread(main, ["status"]) == 0
        assert "1 planted: 1 caught, 0 missed" in " ".join(capsys.readouterr().out.split())


async def test_turned_off_nothing_is_planted(tmp_path):
    async with honest(tmp_path, rate=0) as s, s.watcher() as app:
        await rested(s, app, s.world.scenario.rounds[0])
        assert not await app.selftest()
        assert await planted(app) == []


class Parrot(ToyWorkers):
    """Answers what is claimed: the honest answers are right, and it would find no fraud."""

    async def replay(self, request):
        outcome = await super().replay(request)
        if not request.claim or not isinstance(outcome, Completed):
            return outcome
        return Completed(replace(outcome.receipt, output_root=bundle_root(request.claim)))


async def test_workers_that_answer_what_is_claimed_raise_the_alarm(tmp_path):
    async with honest(tmp_path, tasks=8, round_size=1, by_uri=0) as s:
        s.workers = Parrot()
        async with s.watcher() as app:
            for tasks in s.world.scenario.rounds:
                await rested(s, app, tasks)
                assert await app.selftest()
                if "selftest-missed" in raised(app):
                    break
            missed = [row for row in await planted(app) if row.outcome == Outcome.MISSED]
            assert missed
            assert "selftest-missed" in raised(app)
            assert all(row.change != "state" for row in missed), "it parrots outputs only"
            assert not await s.accused()


async def test_three_in_a_row_without_a_verdict_are_told(tmp_path):
    async with honest(tmp_path, tasks=4, round_size=1) as s, s.watcher() as app:
        for number, tasks in enumerate(s.world.scenario.rounds):
            await rested(s, app, tasks)
            assert ("selftest-undecided" in raised(app)) is (number == 3)
            s.workers.fails = {"torch": int(number < 3)}
            assert await app.selftest()
        assert [row.outcome for row in await planted(app)] == ["caught", *["undecided"] * 3]
        assert not raised(app), "the alarm ends with the next one that is caught"


@dataclass
class Stuck(ToyWorkers):
    """``stuck``: replays in processes of their own never end, until they are cancelled."""

    stuck: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def replay(self, request):
        if self.stuck and request.fresh:
            self.reached.set()
            await asyncio.Event().wait()
        return await super().replay(request)


async def test_a_real_case_never_waits_for_a_planted_one(tmp_path):
    async with honest(tmp_path, tasks=2, round_size=1) as s:
        s.workers = Stuck()
        first, second = s.world.scenario.rounds
        async with s.watcher() as app:
            await rested(s, app, first)
            s.workers.stuck = True
            under_way = asyncio.create_task(app.selftest())
            await s.workers.reached.wait()
            await s.world.round(second)
            await judged(s, app)
            assert (await s.states(app))[State.REPLAYED] == 2
            assert await under_way
            (row,) = await planted(app)
            assert (row.outcome, row.detail) == (Outcome.BROKEN_OFF, "a real case came")
            assert not raised(app)


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize(("name", "moment"), [("selftest-planted", Moment.AFTER), ("selftest-ended", Moment.BEFORE)])
async def test_a_death_at_either_point_counts_neither_way(tmp_path, name, moment):
    def dies(names, when):
        if name in names and when is moment:
            raise Died

    async with honest(tmp_path, tasks=1, round_size=1) as s:
        how = {"rpc": s.devnet.rpc, "files": ToyFiles(), "workers": s.workers}
        async with opened(s.settings, crossing=dies, **how) as app:
            await rested(s, app, s.world.scenario.rounds[0])
            with pytest.raises(Died):
                await app.selftest()
        async with opened(s.settings, **how) as app:
            await app.selftest()
            assert [row.outcome for row in await planted(app)] == [Outcome.BROKEN_OFF]
            assert not raised(app)
            assert (await verify(app.store)).broken is None
            assert not await s.accused()


def wish(subject: str) -> Intent:
    return Intent("reference", subject, Action.CHALLENGE, Call("0x" + "11" * 20, b"", Wei(0)), UnixTime(2**40))


async def test_the_outbox_and_the_sender_refuse_what_is_planted(tmp_path):
    async with honest(tmp_path, tasks=1, round_size=1) as s, s.watcher() as app:
        await s.turn(app)
        account = s.devnet.accounts[15].address
        now = (await s.devnet.rpc.block("latest")).time
        with pytest.raises(PlantedRefused):
            async with app.store.begin(now) as unit:
                await unit.transactions.propose(wish(PlantId(1).subject), account)
        # behind the outbox's back
        async with app.store.begin(now) as unit:
            row = await unit.transactions.propose(wish("0x00"), account)
            planted_row = update(transactions).where(transactions.c.id == row.id).values(subject=PlantId(1).subject)
            await unit.connection.execute(planted_row)
        for _ in range(2):
            await s.turn(app)
        async with app.store.read() as view:
            left = await view.transactions.get(row.id)
        assert (left.state, left.attempts) == (TxState.INTENT, ())
        assert raised(app) == {"planted-filing"}


async def test_a_failure_of_our_own_while_planting_is_told_and_ends_nothing(tmp_path):
    """What an answer's server does to us is expected; what our own code makes of it may not be."""
    broken: list[str] = []

    def read(part: bytes, uri: str) -> bytes:
        if broken:
            raise ZeroDivisionError
        return data.read(part, uri)

    async with honest(tmp_path, tasks=2, round_size=1, by_uri=100) as s:
        how = {"rpc": s.devnet.rpc, "files": ToyFiles(read), "workers": s.workers}
        async with opened(s.settings, **how) as app:
            first, second = s.world.scenario.rounds
            await rested(s, app, first)
            broken.append("now")
            assert not await app.selftest()
            assert {name for name, _ in app.telemetry.alerts.active()} == {"bug"}
            assert await planted(app) == [], "nothing half planted"
            broken.clear()
            await rested(s, app, second)
            assert await app.selftest()
            assert [row.outcome for row in await planted(app)] == [Outcome.CAUGHT]
