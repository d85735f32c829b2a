"""What a question to the quorum may take: an endpoint that never answers costs seconds, however many questions there are, and
one that contradicts is heard all the same. Time is a loop's that jumps to its next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from challenger.chain.hashing import keccak
from challenger.chain.rpc import Rpc
from challenger.domain import Address, Block, ChainEvent, Hash32, ModelId
from challenger.pipeline.quorum import Outcome, Quorum, Source, Stance
from challenger.sim.faults.chain import InlineDevnet
from tests.chain.chain_echo import deploy_echo, sign, topic
from tests.pipeline.test_agree import WINDOW, Contract, Faulty, altered_log

#: Seconds of one try at one endpoint, and those in which one that is known to be silent is still heard.
BOUND, EAR = 20.0, 1.0


class Jumping(selectors.DefaultSelector):
    """Nothing is waited for: ``skipped`` seconds would have gone by."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout is not None and timeout > 0:
            self.skipped += timeout
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return super().time() + self.jumping.skipped


class Slow:
    """A real endpoint that takes ``seconds`` for each answer, or for ever; ``asked``: its requests."""

    def __init__(self, inner: Any, seconds: float | None = None) -> None:
        self.inner, self.seconds = inner, seconds
        self.asked = 0

    async def make_request(self, method: Any, params: Any) -> Any:
        self.asked += 1
        if self.seconds is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self.seconds)
        return await self.inner.make_request(method, params)


class Scene:
    """Endpoints before one chain and an event on it; ``unfit``: those that the pool does not read from now."""

    def __init__(self, devnet: InlineDevnet, pins: dict[Address, Hash32], event: ChainEvent, at: Block) -> None:
        self.truth: Any = devnet.provider
        self.event = event
        self.unfit: set[int] = set()
        self._contract = Contract(pins)
        self._at = at
        self._quorum: Quorum | None = None

    def stand(self, doors: Sequence[Any], needed: int = 2) -> None:
        sources = [
            Source(Rpc(door, name=f"node {n}", timeout=BOUND).hasty(), str(n), lambda n=n: n not in self.unfit)
            for n, door in enumerate(doors)
        ]
        clock = asyncio.get_running_loop().time
        self._quorum = Quorum(sources, self._contract, needed, bound=BOUND, ear=EAR, clock=clock)

    async def ask(self, event: ChainEvent | None = None) -> tuple[Outcome, float]:
        """What the quorum says, and the seconds that it took."""
        assert self._quorum is not None
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome = await self._quorum.ask([event or self.event], self._at, WINDOW)
        return outcome, loop.time() - began


def staged(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def play() -> None:
        devnet = InlineDevnet()
        echo = await deploy_echo(devnet, devnet.accounts[0])
        tx = await devnet.rpc.send_raw(sign(devnet.accounts[0], 1, echo, topic("said") + b"a model"))
        receipt = await devnet.rpc.receipt(tx)
        await devnet.mine(3)
        assert receipt is not None
        pins = {echo: Hash32(keccak(await devnet.rpc.code(echo)))}
        event = await Contract(pins).shown(None, receipt.logs[0])
        await story(Scene(devnet, pins, event, await devnet.rpc.block(3)))

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(play())


@pytest.mark.parametrize("where", [0, 1, 2])
def test_one_that_never_answers_is_waited_for_once(where: int) -> None:
    async def story(s: Scene) -> None:
        hung = Slow(s.truth)
        doors: list[Any] = [s.truth] * 3
        doors[where] = hung
        s.stand(doors)
        outcome, took = await s.ask()
        assert outcome.reason == ""
        assert took <= BOUND + EAR + 0.5
        assert [one.stance for one in outcome.statements].count(Stance.SILENT) == 1
        assert hung.asked == 1, "one try"
        for _ in range(12):
            outcome, took = await s.ask()
            assert outcome.reason == ""
            assert took <= EAR + 0.5
        assert hung.asked == 13, "it is asked each time: what it has to say it may say"

    staged(story)


def test_one_that_the_pool_knows_to_be_unfit_is_not_waited_for() -> None:
    async def story(s: Scene) -> None:
        s.stand([s.truth, Slow(s.truth), s.truth])
        s.unfit.add(1)
        outcome, took = await s.ask()
        assert outcome.reason == ""
        assert took <= EAR + 0.5

    staged(story)


def test_one_that_is_well_again_counts_again() -> None:
    async def story(s: Scene) -> None:
        back = Slow(s.truth)
        s.stand([s.truth, back, s.truth])
        await s.ask()
        back.seconds = 0.0
        outcome, took = await s.ask()
        assert [one.stance for one in outcome.statements] == [Stance.AGREES] * 3
        assert took < 0.5
        back.seconds = 0.5  # slower than an ear is lent: it is waited for again
        outcome, _ = await s.ask()
        assert [one.stance for one in outcome.statements] == [Stance.AGREES] * 3

    staged(story)


@pytest.mark.parametrize("known", [True, False])
def test_whoever_contradicts_in_time_is_heard(known: bool) -> None:
    async def story(s: Scene) -> None:
        against = Slow(Faulty(s.truth, "eth_getTransactionReceipt", altered_log), 0.2 if known else 2.0)
        s.stand([s.truth, s.truth, against])
        if known:
            s.unfit.add(2)
        outcome, _ = await s.ask()
        assert outcome.against
        assert outcome.reason == "quorum: node 2 shows another ModelDisabled"

    staged(story)


def test_a_slow_one_is_waited_for_where_the_others_are_too_few() -> None:
    async def story(s: Scene) -> None:
        s.stand([s.truth, Slow(s.truth, BOUND / 4), Slow(s.truth)])
        s.unfit.add(1)
        outcome, took = await s.ask()
        assert outcome.reason == ""
        assert took <= 3 * BOUND + 0.5

    staged(story)


def test_without_enough_that_answer_the_question_ends() -> None:
    async def story(s: Scene) -> None:
        s.stand([s.truth, Slow(s.truth), Slow(s.truth)])
        for _ in range(2):
            outcome, took = await s.ask()
            assert outcome.reason.startswith("quorum: 1 of 2 independent endpoints agree (node 1 no answer")
            assert not outcome.against
            assert took <= 3 * BOUND + 0.5

    staged(story)


def test_the_proof_is_asked_of_those_that_answered() -> None:
    async def story(s: Scene) -> None:
        s.stand([Slow(s.truth), s.truth, s.truth])
        s.unfit.add(0)
        lied = replace(s.event, model=ModelId(b"\0"))
        lies = [Faulty(s.truth, "eth_getTransactionReceipt", altered_log) for _ in range(2)]
        outcome, took = await s.ask()
        assert outcome.reason == ""
        s.stand([Slow(s.truth), *lies])
        outcome, took = await s.ask(lied)
        assert outcome.unproven
        assert took <= EAR + 0.5

    staged(story)
