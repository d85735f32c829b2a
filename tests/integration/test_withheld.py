"""Data that does not come: how often it is asked for, what that keeps waiting, and when it is demanded."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import replace

import pytest

from challenger.domain import Mode, State
from challenger.pipeline.approval import decide, terms_of
from challenger.pipeline.learned import action_of
from challenger.service import LOOKERS
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import TEXTS, ToyWorkers
from replay.artifacts import ArtifactMissing, ArtifactReason, ArtifactRefused, ArtifactStoreFailed, ArtifactTooLarge
from replay.sandbox import Inconclusive
from replay.sandbox.outcome import Reason
from tests.integration.test_cut_off import Net, demanded, on
from tests.integration.test_watcher import scene

RETRY = 60
WINDOW = 3_600
ONE = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": 1, "round_size": 1}


class Slow(Net):
    """``lost``: so many requests to an address come to nothing first; ``fails``: how an address answers every time;
    ``slow`` come after 59 s, and those ``dead`` give up after 60 s, for so many times. ``now``: chain time."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: dict[str, int] = {}
        self.fails: dict[str, Exception] = {}
        self.slow: set[str] = set()
        self.dead: dict[str, int] = {}
        self.asked_for: list[str] = []
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.now = 0

    async def until(self, time: int) -> None:
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((time, future))
        await future

    def wake(self, now: int) -> None:
        self.now = now
        for _, future in [one for one in self.waiting if one[0] <= now]:
            future.set_result(None)
        self.waiting = [one for one in self.waiting if one[0] > now]

    async def asked(self, uri, root, length):
        self.asked_for.append(uri)
        if uri in self.slow:
            await self.until(self.now + 59)
        if (dead := self.dead.get(uri, 0)) > 0:
            self.dead[uri] = dead - 1
            await self.until(self.now + 60)
        if uri in self.fails:
            error = self.fails[uri]
            error.uri, error.meanwhile = uri, self._routes.silent(uri)
            raise error
        left = self.lost.get(uri, 0)
        self.lost[uri] = left - 1
        was, self.down = self.down, self.down | ({uri} if left > 0 or dead > 0 else set())
        try:
            return await super().asked(uri, root, length)
        finally:
            self.down = was


class SlowWorkers(ToyWorkers):
    """One worker, ``seconds`` of chain time for each replay."""

    def __init__(self, net: Slow, seconds: int) -> None:
        super().__init__()
        self._net, self._seconds, self._lane = net, seconds, asyncio.Lock()

    async def replay(self, request):
        async with self._lane:
            await self._net.until(self._net.now + self._seconds)
            return await super().replay(request)


class Drive:
    """The service's loops side by side over chain time, in steps of four seconds."""

    def __init__(self, s, app, net: Slow) -> None:
        self.s, self.app, self.net = s, app, net
        turns = [app.prefetch, app.investigate, app.look_near, *(app.look for _ in range(LOOKERS))]
        self.turns = dict(enumerate(turns))
        self.tasks: dict[int, asyncio.Task[bool]] = {}

    async def block(self) -> None:
        await self.app.step()
        for _ in range(3):
            await self._until_all_wait()
            self.net.wake(self.net.now + 4)
        await self.s.world.blocks.travel(max(self.net.now, await self.s.world.blocks.now() + 1))
        self.net.now = await self.s.world.blocks.now()

    async def _until_all_wait(self) -> None:
        """Turns the loops until each is idle or waits for what only time brings."""
        idle: set[int] = set()
        while True:
            for number, turn in self.turns.items():
                if number not in self.tasks and number not in idle:
                    self.tasks[number] = asyncio.ensure_future(turn())
            known = len(self.net.waiting)
            for _ in range(200):
                await asyncio.sleep(0)
            done = [number for number, task in self.tasks.items() if task.done()]
            for number in done:
                if self.tasks.pop(number).result():
                    idle.clear()
                else:
                    idle.add(number)
            if not done and known == len(self.net.waiting):
                return

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def patient(s) -> None:
    s.settings = replace(s.settings, replay=replace(s.settings.replay, retry_seconds=RETRY))


async def commitments(app) -> list:
    async with app.store.read() as view:
        return [item.commitment for item in await view.work.listing(limit=500)]


async def verdicts(app, one) -> list:
    async with app.store.read() as view:
        return await view.verdicts.of(one.commitment)


async def alone(s, app):
    """Everything is committed and indexed; the one commitment that there is."""
    await s.world.play()
    await app.step()
    (one,) = await commitments(app)
    return one


async def task_of(app, one):
    async with app.store.read() as view:
        return await view.chain.task(one.task)


async def state(app, commitment) -> str:
    async with app.store.read() as view:
        return (await view.work.get(commitment)).state


async def until(s, app, net, close: int) -> None:
    """Another server answers between any two looks."""
    while await s.world.blocks.now() < close:
        await s.turn(app, people=False)
        net.another()


@pytest.mark.parametrize("left", [440, 540, 3_450])
@pytest.mark.parametrize("slowest", [0, 1_812])
async def test_a_few_lost_requests_are_no_withholding_however_little_time_is_left(tmp_path, left, slowest):
    async with scene(tmp_path, seed=3, by_uri=100, cheats=()) as s:
        patient(s)
        net = Slow()
        await s.world.play()
        await s.world.blocks.travel(await s.world.blocks.now() + WINDOW - 150 - left)
        async with on(s, net) as app:
            await app.step()
            if slowest:
                async with app.store.begin(await s.world.blocks.now()) as unit:
                    await app.learned.add(unit, "inclusion", float(slowest))
            one = (await commitments(app))[-1]
            net.lost = {one.output_uri: 3}
            while await state(app, one.commitment) in (State.OBSERVED, State.SAMPLED):
                await s.turn(app, people=False)
                net.another()
            assert await state(app, one.commitment) == State.REPLAYED
            assert net.asked_for.count(one.output_uri) == 4
            assert not await demanded(s)


async def test_two_silent_servers_are_demanded_where_another_answered_now_and_then(tmp_path):
    async with scene(tmp_path, seed=3, by_uri=100, cheats=()) as s:
        patient(s)
        net = Slow()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            two = (await commitments(app))[:2]
            net.down = {row.output_uri for row in two}
            turns = 0
            while await s.world.blocks.now() < two[0].closes - 60:
                await s.turn(app, people=False)
                turns += 1
                if turns % 80 == 0:
                    net.another()
            assert set(await demanded(s)) == {row.commitment for row in two}


@pytest.mark.parametrize("how", ["confirm", "correlated"])
async def test_a_person_is_told_while_half_of_the_window_is_left(tmp_path, how):
    knobs = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": 4, "round_size": 4}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Slow()
        filing = {"mode": Mode.CONFIRM} if how == "confirm" else {"correlated_providers": 2}
        async with on(s, net, **filing) as app:
            await s.world.play()
            await app.step()
            silent = (await commitments(app))[: 1 if how == "confirm" else 2]
            net.down = {row.output_uri for row in silent}
            wanted, told = ("approval" if how == "confirm" else "paused"), 0
            while not told and await s.world.blocks.now() < silent[0].closes:
                await s.turn(app, people=False)
                net.another()
                if any(name == wanted for name, _ in app.telemetry.alerts.active()):
                    told = silent[0].closes - await s.world.blocks.now()
            assert told > WINDOW / 2 - 300, told


async def test_who_answers_and_gives_nothing_is_asked_again_and_demanded_in_the_end(tmp_path):
    answers = [
        ArtifactMissing(ArtifactReason.STATUS, "HTTP 503"),
        ArtifactRefused(ArtifactReason.REDIRECT, "more than 3 redirects"),
        ArtifactRefused(ArtifactReason.ENCODING, "the server insists on compression"),
        ArtifactTooLarge(ArtifactReason.SIZE, "more than 100 bytes"),
    ]
    knobs = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": len(answers), "round_size": len(answers)}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Slow()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            rows = await commitments(app)
            net.fails = {row.output_uri: answer for row, answer in zip(rows, answers, strict=True)}
            await until(s, app, net, rows[0].closes - WINDOW // 2 - 300)
            assert not await demanded(s), "it may be their trouble, and pass"
            async with app.store.read() as view:
                details = [(await view.work.get(row.commitment)).detail for row in rows]
            for detail, answer in zip(details, answers, strict=True):
                assert detail.startswith("output: refused while another.example answered, file:"), detail
                assert detail.endswith(f" ({answer.detail})"), detail
            await until(s, app, net, rows[0].closes - WINDOW // 2 + 600)
            assert set(await demanded(s)) == {row.commitment for row in rows}


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (ArtifactMissing(ArtifactReason.STATUS, "HTTP 503"), "(HTTP 503)"),
        (ArtifactMissing(ArtifactReason.GATEWAYS, "unreachable"), "no IPFS gateway of ours"),
        (ArtifactTooLarge(ArtifactReason.ROOM, "all of it is in use"), "disk: the artefact cache on this machine"),
        (
            ArtifactStoreFailed(ArtifactReason.STORE, "No space left on device"),
            "disk: the artefact cache on this machine",
        ),
    ],
    ids=["a server's", "of our own gateways", "of our cache", "of our disk"],
)
async def test_a_trouble_that_passes_costs_no_case_and_no_demand(tmp_path, trouble, said):
    async with scene(tmp_path, seed=3, **ONE) as s:
        patient(s)
        net = Slow()
        async with on(s, net) as app:
            one = await alone(s, app)
            net.fails = {one.output_uri: trouble}
            await until(s, app, net, one.closes - WINDOW + 600)
            async with app.store.read() as view:
                row = await view.work.get(one.commitment)
            assert row.state == State.SAMPLED
            assert said in row.detail
            net.fails = {}
            await until(s, app, net, one.closes - WINDOW + 900)
            assert await state(app, one.commitment) == State.REPLAYED
            assert not await demanded(s)
            assert s.workers.asked.count(("torch", False)) == 2, (
                "known answer and one replay, however often it was looked for"
            )


async def test_a_task_longer_than_it_says_has_no_provider_asked_for_it(tmp_path):
    """Whoever asked chose its length, and could else have an honest provider asked for more than a transaction holds."""
    async with scene(tmp_path, seed=3, **ONE) as s:
        patient(s)
        net = Slow()
        async with on(s, net) as app:
            one = await alone(s, app)
            task = await task_of(app, one)
            net.fails = {task.input_uri: ArtifactTooLarge(ArtifactReason.SIZE, "more than 100 bytes")}
            await until(s, app, net, one.closes - WINDOW + 600)
            assert await state(app, one.commitment) == State.INCONCLUSIVE
            assert not await demanded(s)


async def test_slow_replays_of_silent_answers_leave_time_for_every_demand(tmp_path):
    many, seconds = 6, 100
    knobs = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": many, "round_size": many}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Slow()
        s.workers = SlowWorkers(net, seconds)
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            rows = await commitments(app)
            net.down = {row.output_uri for row in rows}
            net.now = await s.world.blocks.now()
            async with app.store.begin(net.now) as unit:
                for _ in range(20):
                    await app.learned.add(unit, action_of("replay", rows[0].model, "torch"), float(seconds))
            drive = Drive(s, app, net)
            while net.now < rows[0].closes - 60:
                net.another()
                await drive.block()
            await drive.end()
            assert set(await demanded(s)) == {row.commitment for row in rows}
            assert s.workers.asked.count(("torch", False)) == many + 1


async def test_a_flood_of_slow_answers_keeps_no_demand_waiting(tmp_path):
    """The watcher was away, and one server is silent; right then somebody else commits a hundred answers that drip for a
    minute each, and are right."""
    many = 100
    knobs = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": many + 1, "round_size": many + 1}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Slow()
        tasks = s.world.scenario.tasks
        await s.world.round(tasks[:1])
        await s.world.blocks.travel(await s.world.blocks.now() + WINDOW - 1_200)
        async with on(s, net) as app:
            await app.step()
            (one,) = await commitments(app)
            net.dead = {one.output_uri: 1_000}
            await s.world.round(tasks[1:])
            await app.step()
            net.slow = {row.output_uri for row in await commitments(app)} - set(net.dead)
            net.now = await s.world.blocks.now()
            drive = Drive(s, app, net)
            while net.now < one.closes - 60:
                net.another()
                await drive.block()
            await drive.end()
            assert set(await demanded(s)) == {one.commitment}


async def test_servers_that_are_silent_twice_keep_no_fraud_waiting(tmp_path):
    knobs = {"by_uri": 100, "cheats": (Kind.NUDGE,), "models": ("digits",), "tasks": 30, "round_size": 1}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Slow()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            wrong = s.jobs(Truth.WRONG)
            rows = await commitments(app)
            net.dead = {row.output_uri: 2 for row in rows if row.commitment not in wrong}
            assert len(net.dead) >= 20
            last = max((row for row in rows if row.commitment in wrong), key=lambda row: row.closes)
            start = net.now = await s.world.blocks.now()
            drive = Drive(s, app, net)
            while await state(app, last.commitment) == State.SAMPLED and net.now < last.closes:
                await drive.block()
            await drive.end()
            assert net.now - start <= 240, net.now - start


class Weights(Slow):
    """``trouble``: how it ends to ask for a model's files."""

    trouble: Exception | None = None
    fetched = 0

    async def fetch_model(self, uri, file_digest, max_bytes=0):
        self.fetched += 1
        if self.trouble is not None:
            raise self.trouble
        return await super().fetch_model(uri, file_digest, max_bytes)


FRAUDS = {"by_uri": 0, "cheats": (Kind.NUDGE,), "models": ("digits",), "tasks": 10, "round_size": 1}


@pytest.mark.parametrize(
    "trouble",
    [
        ArtifactMissing(ArtifactReason.GATEWAYS, "unreachable"),
        ArtifactTooLarge(ArtifactReason.ROOM, "all of it is in use"),
        ArtifactStoreFailed(ArtifactReason.STORE, "No space left on device"),
        ArtifactMissing(ArtifactReason.TIMEOUT, "not within 60 s"),
        ArtifactMissing(ArtifactReason.STATUS, "HTTP 503"),
    ],
    ids=["gateways", "cache", "disk", "time-out", "503"],
)
async def test_a_models_files_that_are_away_for_a_while_cost_no_fraud_and_pause_nothing(tmp_path, trouble):
    async with scene(tmp_path, seed=3, **FRAUDS) as s:
        patient(s)
        net = Weights()
        async with on(s, net, correlated_providers=2) as app:
            await s.world.play()
            await app.step()
            wrong = s.jobs(Truth.WRONG)
            assert len(wrong) >= 2
            rows = await commitments(app)
            net.trouble = trouble
            await until(s, app, net, await s.world.blocks.now() + 240)
            assert {await state(app, row.commitment) for row in rows} <= {State.SAMPLED, State.UNAVAILABLE}
            net.trouble = None
            await until(s, app, net, await s.world.blocks.now() + 480)
            async with app.store.read() as view:
                assert [pause.detail for pause in await view.approvals.active()] == [], "nobody was accused"
            states = {row.commitment: await state(app, row.commitment) for row in rows}
            assert not {State.INCONCLUSIVE, State.SAMPLED, State.UNAVAILABLE} & set(states.values()), states


async def test_files_that_were_away_are_asked_for_again_by_the_time_of_the_chain(tmp_path):
    async with scene(tmp_path, seed=3, **FRAUDS) as s:
        patient(s)
        net = Weights()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            net.trouble = ArtifactMissing(ArtifactReason.TIMEOUT, "not within 60 s")
            await app.gather()
            assert net.fetched == 1, "all that wait for them hear the same"
            net.trouble = None
            await until(s, app, net, await s.world.blocks.now() + 300)
            rows = await commitments(app)
            assert State.SAMPLED not in {await state(app, row.commitment) for row in rows}


async def test_an_input_is_demanded_whether_or_not_its_model_can_be_had(tmp_path):
    async with scene(tmp_path, seed=3, **ONE) as s:
        patient(s)
        net = Weights()
        async with on(s, net) as app:
            one = await alone(s, app)
            task = await task_of(app, one)
            net.gone = {task.input_uri}
            net.trouble = ArtifactMissing(ArtifactReason.NOT_FOUND, "HTTP 404")
            await until(s, app, net, one.closes - WINDOW // 2)
            assert set(await demanded(s)) == {one.commitment}


@pytest.mark.parametrize("part", ["input", "output"])
@pytest.mark.parametrize(("lost", "every"), [(ArtifactReason.TIMEOUT, 5), (ArtifactReason.NOT_FOUND, 10)])
async def test_losses_add_up_to_no_withholding_while_trouble_of_our_own_keeps_a_case_open(tmp_path, part, lost, every):
    """Served nine times of ten, as far as our disk takes it, all through a window."""

    class Full(Slow):
        count = 0
        where = ""

        async def asked(self, uri, root, length):
            if uri != self.where:
                return await super().asked(uri, root, length)
            self.count += 1
            if self.count % every:
                raise ArtifactStoreFailed(ArtifactReason.STORE, "No space left on device", uri=uri)
            error = ArtifactMissing(lost, uri=uri)
            error.meanwhile = self._routes.silent(uri) if lost is ArtifactReason.TIMEOUT else ""
            raise error

    async with scene(tmp_path, seed=3, **ONE) as s:
        s.settings = replace(s.settings, replay=replace(s.settings.replay, retry_seconds=RETRY // 6))
        net = Full()
        async with on(s, net) as app:
            one = await alone(s, app)
            task = await task_of(app, one)
            net.where = one.output_uri if part == "output" else task.input_uri
            await until(s, app, net, one.closes - 60)
            assert net.count >= 2 * every
            assert not await demanded(s)


class Mortal(ToyWorkers):
    """``deaths``: so many replays end in one."""

    deaths = 0

    async def replay(self, request):
        self.deaths -= 1
        return Inconclusive(Reason.MEMORY, "killed") if self.deaths >= 0 else await super().replay(request)


async def reorganised(s, one) -> None:
    """The block of ``one`` goes, and what was in it comes again."""
    await s.devnet.reorg((await s.devnet.rpc.block("latest")).number - one.block + 1, keep=True)


async def test_data_that_is_late_once_is_not_late_twice_because_its_block_went(tmp_path):
    async with scene(tmp_path, seed=3, **ONE) as s:
        patient(s)
        net = Slow()
        await s.world.play()
        async with on(s, net) as app:
            await app.step()
            (one,) = await commitments(app)
            async with app.store.read() as view:
                net.gone = {(await view.chain.task(one.task)).input_uri}
            while not (said := await verdicts(app, one)):
                await s.turn(app, people=False)
            await reorganised(s, one)
            await until(s, app, net, said[0].time + RETRY * 3 // 4)
            assert len(await verdicts(app, one)) == 2, "it was looked for anew at once"
            net.gone = set()
            await until(s, app, net, one.closes - WINDOW // 2)
            assert not await demanded(s)


async def test_deaths_before_a_reorganisation_use_up_no_try_after_it(tmp_path):
    async with scene(tmp_path, seed=3, **(FRAUDS | {"tasks": 1})) as s:
        net, s.workers = Slow(), Mortal()
        await s.world.play()
        async with on(s, net) as app:
            await app.step()
            (one,) = await commitments(app)
            s.workers.deaths = s.settings.replay.attempts - 1
            while s.workers.deaths > 0:
                await s.turn(app, people=False)
            await reorganised(s, one)
            while await app.step():
                pass
            s.workers.deaths = 1
            await until(s, app, net, one.closes - WINDOW // 2)
            assert await state(app, one.commitment) not in {State.SAMPLED, State.INCONCLUSIVE}


async def test_trouble_of_our_own_uses_up_no_try_of_a_worker(tmp_path):
    async with scene(tmp_path, seed=3, **FRAUDS) as s:
        patient(s)
        net, s.workers = Weights(), Mortal()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            rows = await commitments(app)
            net.trouble = ArtifactStoreFailed(ArtifactReason.STORE, "No space left on device")
            await until(s, app, net, rows[0].closes - WINDOW + 600)
            net.trouble, s.workers.deaths = None, len(rows)
            await until(s, app, net, rows[0].closes - WINDOW // 3)
            states = {row.commitment: await state(app, row.commitment) for row in rows}
            assert State.INCONCLUSIVE not in states.values(), states
            assert set(await s.accused()) == s.jobs(Truth.WRONG)


class Timeless(Slow):
    """Every look for a model's files takes a minute and gives nothing."""

    fetched = 0

    async def fetch_model(self, uri, file_digest, max_bytes=0):
        self.fetched += 1
        await self.until(self.now + 60)
        raise ArtifactMissing(ArtifactReason.TIMEOUT, "not within 60 s", uri=uri)


async def test_inputs_are_demanded_although_their_models_server_is_silent(tmp_path):
    many = 30
    knobs = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": many, "round_size": many}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Timeless()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            rows = await commitments(app)
            async with app.store.read() as view:
                tasks = await view.chain.tasks_by_id([row.task for row in rows])
            net.gone = {task.input_uri for task in tasks.values()}
            start = net.now = await s.world.blocks.now()
            drive = Drive(s, app, net)
            while len(await demanded(s)) < many and net.now < start + 1_200:
                await drive.block()
            await drive.end()
            assert len(await demanded(s)) == many, net.fetched


async def test_a_full_disk_has_no_page_of_data_fetched_again_and_again(tmp_path):
    async with scene(tmp_path, seed=3, by_uri=100, cheats=(), tasks=5, round_size=5) as s:
        net = Slow()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            rows = await commitments(app)
            full = {
                row.output_uri: ArtifactStoreFailed(ArtifactReason.STORE, "No space left on device") for row in rows
            }
            net.fails = dict(full)
            for _ in range(10):
                await app.prefetch()
                await s.world.blocks.travel(await s.world.blocks.now() + 12)
                await app.step()
            assert Counter(uri for uri in net.asked_for if uri in full) == Counter(dict.fromkeys(full, 1))


async def test_an_input_that_went_since_its_replay_keeps_no_output_from_being_demanded(tmp_path):
    async with scene(tmp_path, seed=3, **ONE) as s:
        patient(s)
        net = Slow()
        async with on(s, net) as app:
            one = await alone(s, app)
            task = await task_of(app, one)
            net.down = {one.output_uri}
            await until(s, app, net, one.closes - WINDOW + 300)
            assert s.workers.asked
            del net.cached[task.input_uri]
            net.down |= {task.input_uri}
            await until(s, app, net, one.closes - WINDOW // 3)
            assert set(await demanded(s)) == {one.commitment}


class Evicted(Weights):
    """``away``: from now on every look for a model's files is a transfer, which takes a minute."""

    away = False

    async def fetch_model(self, uri, file_digest, max_bytes=0):
        if self.away:
            await self.until(self.now + 60)
        return await super().fetch_model(uri, file_digest, max_bytes)


async def test_one_look_at_a_time_brings_a_models_files_back(tmp_path):
    """They were here, and went: the cache keeps what is used now and then, and no more."""
    knobs = {"by_uri": 0, "cheats": (Kind.NUDGE,), "models": ("digits",), "tasks": 60, "round_size": 1}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Evicted()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            assert await app.look()
            assert await app.investigate(), "nothing is left to be replayed"
            await s.world.blocks.travel(await s.world.blocks.now() + 600)
            await app.step()
            net.now, net.away = await s.world.blocks.now(), True
            drive = Drive(s, app, net)
            await drive.block()
            bringing = len(net.waiting)
            await drive.end()
            assert bringing == 1


async def test_a_mistake_over_one_address_keeps_no_other_data_waiting(tmp_path):
    async with scene(tmp_path, seed=3, by_uri=100, cheats=(), tasks=5, round_size=5) as s:
        net = Slow()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            rows = await commitments(app)
            net.fails = {rows[0].output_uri: RuntimeError("a mistake")}
            assert await app.prefetch()
            assert not await app.prefetch(), "the page is over"
            assert {row.output_uri for row in rows[1:]} <= set(net.cached)
            assert "bug" in {name for name, _ in app.telemetry.alerts.active()}


class Weightless(Slow):
    """One model's files trickle for a minute, and do not come."""

    async def fetch_model(self, uri, file_digest, max_bytes=0):
        if file_digest == hashlib.sha256(TEXTS.encode()).digest():
            await self.until(self.now + 60)
            raise ArtifactMissing(ArtifactReason.TIMEOUT, "not within 60 s", uri=uri)
        return await super().fetch_model(uri, file_digest, max_bytes)


async def test_weights_that_do_not_come_keep_no_fraud_waiting(tmp_path):
    knobs = {"by_uri": 0, "cheats": (Kind.NUDGE,), "models": ("digits", "texts"), "tasks": 40, "round_size": 1}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Weightless()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            rows = await commitments(app)
            async with app.store.read() as view:
                models = {row.model: (await view.chain.model(row.model)).file_digest for row in rows}
            away = {model for model, digest in models.items() if digest == hashlib.sha256(TEXTS.encode()).digest()}
            there = [row for row in rows if row.model not in away and row.commitment in s.jobs(Truth.WRONG)]
            assert there
            assert len([row for row in rows if row.model in away]) >= 10
            start = net.now = await s.world.blocks.now()
            drive = Drive(s, app, net)
            while any([await state(app, row.commitment) == State.SAMPLED for row in there]) and net.now < start + 600:
                await drive.block()
            await drive.end()
            assert net.now - start <= 120, net.now - start


async def test_silent_inputs_keep_no_other_answer_of_their_model_waiting(tmp_path):
    """After a start, when nobody knows yet that the model's files are here."""
    knobs = {"by_uri": 50, "cheats": (Kind.NUDGE,), "models": ("digits",), "tasks": 60, "round_size": 1}
    async with scene(tmp_path, seed=3, **knobs) as s:
        patient(s)
        net = Slow()
        await s.world.play()
        async with on(s, net) as app:
            await app.step()
            rows = await commitments(app)
            wrong = [row for row in rows if row.commitment in s.jobs(Truth.WRONG)]
            async with app.store.read() as view:
                tasks = await view.chain.tasks_by_id([row.task for row in rows])
            ours = {tasks[row.task].input_uri for row in wrong}
            net.dead = {
                task.input_uri: 1_000 for task in tasks.values() if task.input_uri and task.input_uri not in ours
            }
            assert len(net.dead) >= 16
            assert wrong
            start = net.now = await s.world.blocks.now()
            drive = Drive(s, app, net)
            while any([await state(app, row.commitment) == State.SAMPLED for row in wrong]) and net.now < start + 600:
                await drive.block()
            await drive.end()
            assert net.now - start <= 240, net.now - start


async def test_what_was_shed_is_taken_back_as_far_as_there_is_room_although_its_data_is_still_looked_for(tmp_path):
    many = 20
    knobs = {"by_uri": 100, "cheats": (), "models": ("digits",), "tasks": many, "round_size": many}
    async with scene(tmp_path, seed=3, **knobs) as s:
        net = Slow()
        async with on(s, net) as app:
            await s.world.play()
            await app.step()
            rows = await commitments(app)
            net.dead = {row.output_uri: 1_000 for row in rows}
            net.now = await s.world.blocks.now()
            async with app.store.begin(net.now) as unit:
                for _ in range(20):
                    await app.learned.add(unit, action_of("replay", rows[0].model, "torch"), WINDOW / (many / 2))
            drive = Drive(s, app, net)
            for _ in range(4):
                await drive.block()
            await drive.end()
            async with app.store.read() as view:
                moves = [entry.kind for entry in await view.journal.after(0, 100_000) if entry.kind == "shed"]
                counts = await view.work.counts()
            assert 0 < counts[State.SHED] < many
            assert len(moves) == counts[State.SHED], "none of it went to and fro"


async def test_nothing_is_looked_for_while_the_record_is_held_to_be_old(tmp_path):
    async with scene(tmp_path, seed=3, **ONE) as s:
        net = Slow()
        async with on(s, net) as app:
            one = await alone(s, app)
            app._reconciler.holding = "an older copy"
            assert not await app.look()
            assert net.asked_for.count(one.output_uri) == 0


async def test_what_came_back_while_a_person_took_their_time_is_not_demanded(tmp_path):
    async with scene(tmp_path, seed=3, **ONE) as s:
        patient(s)
        net = Slow()
        async with on(s, net, mode=Mode.CONFIRM) as app:
            one = await alone(s, app)
            net.down = {one.output_uri}
            while await state(app, one.commitment) != State.UNAVAILABLE:
                await s.turn(app, people=False)
                net.another()
            await until(s, app, net, await s.world.blocks.now() + 600)
            net.down = set()
            async with app.store.read() as view:
                item = await view.work.item(one.commitment)
                terms = await terms_of(view, app.adapter, item)
            async with app.store.begin(await s.world.blocks.now()) as unit:
                await decide(unit, item, terms, approved=True, person="ada", note="")
            await until(s, app, net, await s.world.blocks.now() + 120)
            assert await state(app, one.commitment) == State.REPLAYED
            assert not await demanded(s)
