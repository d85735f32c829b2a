"""What one seed stands for: tasks and cheats, rules and limits, weather. Pure, and the same for ever."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from challenger.domain import Wei
from challenger.sim.deploy import MarketParams
from challenger.sim.faults.kinds import Episode, Fault, draw
from challenger.sim.scenario import CHEATS, DIGITS, MODELS, SENTENCES, Knobs

ENDPOINTS = 3
#: Blocks by which the weather has cleared (where the envelope holds), and until when it may last otherwise.
HORIZON, BEYOND = 60, 170
RULES = MarketParams(window=1_500, answer_period=300, ruling_period=900)
#: Seconds that the watcher needs, once nothing stands in its way, from a commitment to a challenge that is mined: the
#: draw, two tries of a worker that died, seal and challenge, and the longest it waits between two looks.
MARGIN = 660
#: Seconds that it needs to do again what a fault of one moment has undone.
REDO = 240
#: Faults that stand in nobody's way once they are over, but undo what was done.
MOMENTARY = (Fault.CRASH, Fault.DROPPED, Fault.REORG, Fault.SKEW)
_GWEI = 10**9


@dataclass(frozen=True, slots=True)
class Plan:
    """``exposure`` and ``max_fee`` are the operator's limits; ``correlated``: providers of one model accused before a
    person must look. ``pauses``: blocks between two rounds of tasks."""

    seed: int
    faults: tuple[Fault, ...]
    knobs: Knobs
    episodes: tuple[Episode, ...]
    exposure: Wei
    max_fee: Wei
    correlated: int
    pauses: tuple[int, ...]

    @property
    def tight(self) -> bool:
        """Whether the exposure cap may stand in the way of a filing."""
        return self.exposure < len(CHEATS) * 4 * RULES.challenge_bond


def plan(seed: int, faults: Sequence[Fault], *, all_of: bool) -> Plan:
    dice = random.Random(f"plan {seed}")  # noqa: S311  a plan, not a secret
    episodes = draw(seed, faults, endpoints=ENDPOINTS, horizon=HORIZON, beyond=BEYOND, all_of=all_of)
    # a task whose beacon leaves the chain has another seed afterwards: an answer that was drawn would turn false
    steady = not {Fault.REORG, Fault.FORKED} & set(faults)
    knobs = Knobs(
        tasks=10,
        seed=seed,
        cheating=100,
        sentences=30,
        texts=20 if steady else 0,
        by_uri=dice.choice((0, 25, 60)),
        round_size=dice.choice((5, 10)),
        models=MODELS if steady else (DIGITS, SENTENCES),
    )
    return Plan(
        seed,
        tuple(faults),
        knobs,
        episodes,
        exposure=Wei(2 * RULES.challenge_bond if dice.randrange(8) == 0 else 10 * 10**18),
        max_fee=Wei(15 * _GWEI if dice.randrange(4) == 0 else 500 * _GWEI),
        correlated=2 if dice.randrange(5) == 0 else 100,
        pauses=(dice.randint(0, 10), dice.randint(0, 10)),
    )
