"""What is wished for is signed before the watcher goes on with anything else."""

from __future__ import annotations

from dataclasses import replace

from challenger.app import opened
from challenger.chain.rpc import Rpc
from challenger.domain import State
from challenger.service import approve as lift
from challenger.sim.scenario import Kind
from challenger.sim.toy import ToyFiles
from challenger.store.crossing import Moment
from challenger.store.subjects import subject_of
from tests.integration.test_watcher import scene


class Heard:
    """An endpoint; whom each call asks is kept, among the transitions that are persisted."""

    def __init__(self, inner) -> None:
        self._inner = inner
        self.story = []

    async def make_request(self, method, params):
        if method == "eth_call":
            self.story.append(params[0]["to"].lower())
        return await self._inner.make_request(method, params)

    def crossing(self, names, moment) -> None:
        if moment is Moment.AFTER:
            self.story.append(names)


async def test_open_disputes_are_not_looked_after_between_a_wish_and_its_signature(tmp_path):
    knobs = {"cheats": (Kind.NUDGE, Kind.OLDER, Kind.TRUNCATE)}
    async with scene(tmp_path, seed=3, **knobs) as s:
        heard = Heard(s.devnet.provider)
        filing = replace(s.settings.filing, correlated_providers=100)
        settings = replace(s.settings, filing=filing)
        parts = {"rpc": Rpc(heard), "files": ToyFiles(), "workers": s.workers, "crossing": heard.crossing}
        async with opened(settings, **parts) as app:
            async with app.store.begin(app.clock.latest) as unit:
                for model in list(s.world.models.values())[:1]:
                    await unit.approvals.pause("lost", subject_of(model), "looked at later")
            await s.world.play()
            for _ in range(25):
                await s.turn(app, people=False)
            states = await s.states(app)
            assert states[State.DISPUTING]
            assert states[State.CONFIRMED], "and one of the model that is paused"
            heard.story.clear()
            assert await lift(app.store, app.clock.latest, "", "ada", "looked at it")
            for _ in range(6):
                await s.turn(app, people=False)
        court = app.adapter.params.adjudicator.lower()
        assert court in heard.story, "open disputes are followed"
        wished = next(n for n, one in enumerate(heard.story) if "work:confirmed->filing" in one)
        signed = next(n for n, one in enumerate(heard.story) if n > wished and "tx:signed" in one)
        assert court not in heard.story[wished:signed]
