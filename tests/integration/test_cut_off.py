"""Servers that do not answer: the watcher's own line may be down, and then nobody is asked for what he serves."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

from challenger.app import opened
from challenger.domain import State
from challenger.sim import data
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from challenger.sim.world import WATCHER
from challenger.store.inline import passing
from replay.artifacts import ArtifactMissing, ArtifactReason, Routes
from tests.integration.test_watcher import scene


class Net(ToyFiles):
    """As the real store: what was had once is kept. ``down``: addresses at which nobody answers, all of them while ``cut``; ``gone``: at which there is nothing."""

    def __init__(self, read=data.read) -> None:
        super().__init__(read)
        self.cached: dict[str, bytes] = {}
        self.cut = False
        self.down: set[str] = set()
        self.gone: set[str] = set()
        self._routes = Routes()

    def another(self) -> None:
        """As if the data of another commitment had been fetched."""
        self._routes.answered("https://another.example/")

    async def fetch_bundle(self, uri, root, length, max_bytes=0):
        if uri not in self.cached:
            self.cached[uri] = await self.asked(uri, root, length)
        return self.cached[uri]

    async def asked(self, uri, root, length):
        if self.cut or uri in self.down:
            error = ArtifactMissing(ArtifactReason.UNREACHABLE, uri=uri)
            error.meanwhile = self._routes.silent(uri)
            raise error
        self._routes.answered(uri)
        if uri in self.gone:
            raise ArtifactMissing(ArtifactReason.NOT_FOUND, uri=uri)
        return await super().fetch_bundle(uri, root, length)


@asynccontextmanager
async def on(s, net, **filing):
    settings = replace(s.settings, filing=replace(s.settings.filing, **({"correlated_providers": 100} | filing)))
    parts = {"rpc": s.devnet.rpc, "files": net, "workers": s.workers, "engine": passing}
    async with opened(settings, **parts) as app:
        yield app


async def demanded(s) -> Counter:
    account = s.devnet.accounts[WATCHER].address
    return Counter(e.args["job"] for e in await s.events() if e.name == "Demanded" and e.args["demander"] == account)


async def test_while_our_own_line_is_down_nobody_is_asked_for_data(tmp_path):
    async with scene(tmp_path, seed=3, by_uri=100, cheats=(Kind.NUDGE, Kind.WITHHOLD)) as s:
        net = Net()
        async with on(s, net) as app:
            net.cut = True
            await s.world.play()
            for _ in range(20):
                await s.turn(app)
            assert not await demanded(s)
            states = await s.states(app)
            assert states[State.SAMPLED] == 10, states
            net.cut = False
            for _ in range(60):  # each try waited longer than the one before
                await s.turn(app)
            assert await demanded(s) == Counter(dict.fromkeys(s.jobs(Truth.WITHHELD), 1))
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


async def test_down_until_the_window_closes_it_is_missed_and_says_why(tmp_path):
    async with scene(tmp_path, seed=3, by_uri=100, cheats=(Kind.WITHHOLD,), tasks=5, round_size=5) as s:
        net = Net()
        async with on(s, net) as app:
            net.cut = True
            await s.world.play()
            end = s.world.last_window()
            assert end is not None
            stood = False
            while await s.world.blocks.now() <= end:
                await s.turn(app, people=False)
                stood = stood or ("cut-off", "") in app.telemetry.alerts.active()
            await s.turn(app, people=False)
            assert stood
            assert not await demanded(s)
            async with app.store.read() as view:
                rows = [item.work for item in await view.work.listing()]
            assert {row.state for row in rows} == {State.EXPIRED}
            assert all("our own line may be down" in row.detail for row in rows), [row.detail for row in rows]
            await s.world.blocks.travel(await s.world.blocks.now() + app.settings.filing.correlated_seconds)
            await s.turn(app, people=False)
            assert ("cut-off", "") not in app.telemetry.alerts.active(), "nobody was silent within the hour"


async def one_is_silent(s, app, net):
    """Everything is committed, and at the address of one honest output nobody answers; its commitment."""
    await s.world.play()
    await app.step()  # the index alone
    async with app.store.read() as view:
        rows = [item.commitment for item in await view.work.listing()]
    silent = next(row for row in rows if row.commitment in s.jobs(Truth.HONEST))
    net.down = {silent.output_uri}
    return silent


async def test_a_server_that_is_silent_while_others_answer_is_taken_at_its_silence(tmp_path):
    async with scene(tmp_path, seed=3, by_uri=100, cheats=(Kind.NUDGE,)) as s:
        net = Net()
        async with on(s, net) as app:
            silent = await one_is_silent(s, app, net)
            for _ in range(20):
                await s.turn(app)
                net.another()
            assert not await demanded(s), (
                "a line that loses some requests answers for others: there is time to ask again"
            )
            while await s.world.blocks.now() < silent.closes - 60:
                await s.turn(app)
                net.another()
            assert await demanded(s) == Counter({silent.commitment: 1})


async def test_where_nothing_else_is_asked_silence_is_borne_for_three_quarters_of_the_time(tmp_path):
    knobs = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": 1, "round_size": 1}
    async with scene(tmp_path, seed=3, **knobs) as s:
        net = Net()
        net.cut = True
        async with on(s, net) as app:
            await s.world.play()
            for _ in range(40):
                await s.turn(app)
            assert not await demanded(s)
            async with app.store.read() as view:
                (item,) = await view.work.listing()
            closes = item.commitment.closes
            while await s.world.blocks.now() < closes - 60:
                await s.turn(app)
            assert set(await demanded(s)) == {item.commitment.commitment}, (
                "its input, and when that was posted its output"
            )
            demand = next(e for e in await s.events() if e.name == "Demanded")
            assert closes - 1_100 < (await s.devnet.rpc.block(demand.log.block)).time < closes - 900


async def test_providers_who_withhold_one_after_the_other_count_together(tmp_path):
    """Each is demanded as soon as it is found away: what has gone on to be filed counts with what is found next."""
    knobs = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": 2, "round_size": 1}
    async with scene(tmp_path, seed=3, **knobs) as s:
        net = Net()
        async with on(s, net, correlated_providers=2) as app:
            for tasks in s.world.scenario.rounds:
                await s.world.round(tasks)
                await app.step()
                async with app.store.read() as view:
                    net.gone |= {item.commitment.output_uri for item in await view.work.listing()}
                for _ in range(12):
                    await s.turn(app, people=False)
            async with app.store.read() as view:
                rows = list(await view.work.listing())
                pauses = [pause.reason for pause in await view.approvals.active()]
            assert len({item.commitment.provider for item in rows}) == 2
            assert await demanded(s) == Counter(
                {min(rows, key=lambda item: item.commitment.block).commitment.commitment: 1}
            )
            assert pauses == ["correlated"]
