"""Borderline outputs: VALID or FRAUD exactly as the roots say, and the signers agree with every accusation."""

from __future__ import annotations

import itertools

import numpy as np

from challenger.domain import State, VerdictKind
from challenger.sim.foes import baits
from challenger.sim.foes.arena import Deal, sample
from challenger.sim.foes.baits import Bait, OtherState
from challenger.sim.scoreboard import Truth
from replay.layout import encode_bundle
from tests.sim.foes_stage import contest, state

WRONG = {
    "one bit": Bait(baits.last_bit),
    "minus zero": Bait(baits.minus_zero),
    "a NaN": Bait(baits.nan(0)),
    "a NaN with a payload": Bait(baits.nan(1)),
    "integers of the same value": Bait(baits.as_integers),
    "another shape": Bait(baits.reshaped),
    "another name": Bait(baits.unspoilt, "z"),
    "another state": OtherState(),
}
#: Sums to 0 at its end.
ZERO = encode_bundle({"x": np.array([[1, 2, 3, -3, -2, -1, 5, -5]], np.float32)})
#: Inputs under which an honest answer looks odd: −0, the smallest number there is, what is no number.
ODD = [np.array([[*first, 1, 1, 1, 1, 1, 1]], np.float32) for first in ((-0.0, -0.0), (1e-45, 0), (np.nan, 1))]


async def test_one_bit_is_a_fraud_and_nothing_else_is(tmp_path, template):
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a = c.arena
        cheat, honest = await a.party("cheat"), await a.party("honest")
        deals = [Deal(cheat, ZERO, strategy) for strategy in WRONG.values()]
        odd = [Deal(honest, encode_bundle({"x": one})) for one in (*ODD, np.zeros((1, 8), np.float32))]
        dealt = await a.serve([*deals, Deal(honest, ZERO), Deal(honest, sample(1)), *odd])
        assert [one.truth for one in dealt] == [Truth.WRONG] * len(WRONG) + [Truth.HONEST] * (2 + len(odd))
        await a.until(lambda: len(a.events("Ruled")) == len(WRONG), lambda: c.turn(app))
        assert c.once(*a.jobs(Truth.WRONG))
        assert {e["fraud"] for e in a.events("Ruled")} == {True}, "the signers say so too"
        for one in dealt:
            assert (one.job in c.filed()) != ((await state(app, one.job))[0] is State.REPLAYED)
        async with app.store.read() as view:
            said = [(await view.verdicts.of(one.job))[0] for one in dealt]
        assert [v.detail for v in said[: len(WRONG)]] == ["output"] * (len(WRONG) - 1) + ["state"]
        assert {v.kind for v in said[len(WRONG) :]} == {VerdictKind.VALID}
        assert app.telemetry.alerts.active() == []


async def test_a_file_that_is_no_bundle_of_that_root_is_asked_for_on_chain_and_then_judged(tmp_path, template):
    """Other bytes for the same values behind the URI: the root alone counts, nobody is accused of what a server gave."""
    async with contest(tmp_path, template) as c, c.watcher() as app:
        a = c.arena
        (one,) = await a.prepare([Deal(await a.party("honest"), sample(3), hides_output=True)])
        served = itertools.cycle((one.answer.output + b"\0", one.answer.output[:-1], b"", b"{}", sample(3)))

        async def serve() -> None:
            a.room.put(one.answer.output_root, next(served))

        c.before = serve
        await serve()
        await a.commit([one])
        await a.until(lambda: bool(a.market.demands), lambda: c.turn(app))
        (demand,) = a.market.demands
        await a.answer(one.deal.provider, demand, one.answer.output)
        await c.until_quiet(app)
        assert c.once()
        assert (await state(app, one.job))[0] is State.REPLAYED
        assert [e["outcome"] for e in a.events("DemandClosed")] == [1]
