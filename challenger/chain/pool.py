"""Several endpoints as one: a provider under one ``Rpc`` that reads from a fit endpoint and sends through all of them.

Reads stay on one endpoint until it fails, lags or asks to rest, since a reader needs one view of the chain; an answer that
makes no sense is a failure too. Then the next fit one takes over, and whoever reads ranges notices a change of view by itself.
So it is with an error that says nothing about the request: it is no failure, but who has the answer is read from then on. A raw
transaction goes to every endpoint.

There is no task behind it: before ``latest`` is read, and at most every ``survey`` seconds, all endpoints are asked for
chain id and head. To lag is no fault and no disagreement; it only means to be read from last.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp

from challenger.chain import wire
from challenger.chain.asking import Asking, Member, Unfit, as_it_is, others_may, why_of
from challenger.chain.health import Resting, best_head
from challenger.chain.refusals import refusal
from challenger.chain.rpc import Parse, Request
from challenger.domain import Block
from challenger.errors import (
    AnswerTooLarge,
    ChallengerError,
    EndpointError,
    RateLimited,
    WrongChain,
)

_SEND = "eth_sendRawTransaction"
_KNOWN = re.compile(r"already known|known transaction|already imported|already exists", re.IGNORECASE)


#: The one endpoint that this task reads from just now, whatever others do.
_ALONE: ContextVar[Member | None] = ContextVar("alone", default=None)


@contextmanager
def _alone(member: Member) -> Iterator[None]:
    before = _ALONE.set(member)
    try:
        yield
    finally:
        _ALONE.reset(before)


@dataclass(frozen=True, slots=True)
class Change:
    """Details for the hook: ``endpoint`` is not used any more, for the reason ``why``; or again, when that is empty."""

    endpoint: str
    why: str


class PoolProvider:
    """``lag``: seconds of chain time behind the best head at which an endpoint is read from last. ``timeout``: seconds of
    one try at one endpoint; ``survey_timeout`` of one look at its head. ``clock`` is monotonic; ``wall`` is this machine's
    time, None where the chain's time is its own (a devnet)."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        chain_id: int,
        lag: int = 60,
        timeout: float = 10.0,
        survey: float = 5.0,
        survey_timeout: float = 3.0,
        resting: Resting | None = None,
        on_change: Callable[[Change], None] = lambda _change: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.members = tuple(members)
        self._chain_id = chain_id
        self._lag = lag
        self._survey = survey
        self._survey_timeout = survey_timeout
        self._resting = resting or Resting()
        self._on_change = on_change
        self._clock = clock
        self._wall = wall
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, decides nothing
        self._asking = Asking(timeout, clock, self._resting, self._rng)
        self._surveyed = -survey
        self._unfit: set[str] = set()
        self._current = self.members[0]

    @property
    def current(self) -> Member:
        """The endpoint that is read from."""
        return self._current

    @current.setter
    def current(self, member: Member) -> None:
        if _ALONE.get() is None:  # a look at another's view moves nobody else's
            self._current = member

    def views(self) -> list[AbstractContextManager[None]]:
        """Each lets the task that enters it read from one endpoint alone, and changes nothing for others: of each other host
        than the one that is read from, an endpoint that is well."""
        now, hosts = self._clock(), {self.current.host}
        found: list[AbstractContextManager[None]] = []
        for member in self.members:
            if member.host not in hosts and member.health.fit(now):
                hosts.add(member.host)
                found.append(_alone(member))
        return found

    # what Rpc asks of a provider

    async def make_request(self, method: Any, params: Any) -> Any:
        if method == _SEND:
            return await self._broadcast(params)
        return await self.make_read(method, params, as_it_is)

    async def make_batch_request(self, batch_requests: Sequence[Request]) -> Any:
        return await self.make_batch_read(batch_requests, [as_it_is] * len(batch_requests))

    async def make_read(self, method: Any, params: Any, parse: Parse) -> Any:
        """The answer with its result parsed: an endpoint whose answer ``parse`` refuses (``ValueError``) has failed, and
        the next one is asked. ``UnknownBlock`` is an answer like any other, and passes."""
        asked = [(method, params)]
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            await self.look()
            return await self._anywhere(asked, lambda member: self._newest(member, method, params, parse))
        return await self._anywhere(asked, lambda member: self._asking.one(member, method, params, parse))

    async def make_batch_read(self, requests: Sequence[Request], parses: Sequence[Parse]) -> Any:
        """As ``make_read``; one answer that makes no sense fails the batch, and one error that the next endpoint may not have
        sends all of it there: what a batch asks for belongs together."""
        return await self._anywhere(requests, lambda member: self._asking.many(member, requests, parses))

    async def make_words(self, method: Any, params: Any, parse: Parse) -> list[Any]:
        """The answer of each host of which an endpoint is well, refusals too: keys of one operator are one voice.
        ``EndpointError`` when none answers."""
        now = self._clock()
        hosts: dict[str, list[Member]] = {}
        for member in [m for m in self.members if m.health.fit(now)] or self._order():
            hosts.setdefault(member.host, []).append(member)

        async def ask(members: Sequence[Member]) -> list[Any]:
            for member in members:
                try:
                    return [await self._asking.one(member, method, params, parse)]
                except Unfit:
                    continue
                finally:
                    self._tell(member)
            return []

        found = [answer for told in await asyncio.gather(*map(ask, hosts.values())) for answer in told]
        if not found:
            raise self._nobody()
        return found

    # health

    async def look(self, *, now: bool = False) -> None:
        """Asks all for chain id and head, unless that was done a moment ago; never raises for what one does."""
        at = self._clock()
        if not now and (len(self.members) == 1 or at - self._surveyed < self._survey):
            return
        self._surveyed = at
        await asyncio.gather(*(self._visit(m, at) for m in self.members if now or at >= m.health.rests_until))
        heads = [(m, m.health.head) for m in self.members if m.health.head is not None and not m.health.wrong]
        heard = [(m, head) for m, head in heads if m.health.rests_until <= at]
        ahead = [m for m, head in heard if self._ahead(head[1], self._elsewhere(m, [one for one, _ in heard]))]
        best = best_head([head for m, head in heard if m not in ahead] or [head for _, head in heads])
        for member in self.members:
            health = member.health
            if health.head is not None and member in ahead:
                self._asking.failed(member, self._of_the_future(health.head[1]))
            behind = best[1] - health.head[1] if best is not None and health.head is not None else 0
            health.lags = behind if behind > self._lag else 0
            if health.lags:
                health.why = f"its head is {behind} s behind"
            self._tell(member)

    async def _newest(self, member: Member, method: str, params: Any, parse: Parse) -> Any:
        """The newest block of one endpoint. Whose lies ahead of this machine's clock and of all that others have, just asked,
        has failed: chain time never runs back, and one such block would close every window for good."""
        seen: list[Block] = []

        def noted(result: Any) -> Any:
            seen.append(wire.block(result))
            return parse(result)

        answer = await self._asking.one(member, method, params, noted)
        if seen and self._beyond(seen[0].time):
            at = self._clock()
            others = [m for m in self.members if m is not member and at >= m.health.rests_until]
            await asyncio.gather(*(self._visit(m, at) for m in others))
            heard = [m for m in others if m.health.rests_until <= at and not m.health.wrong]
            if self._ahead(seen[0].time, self._elsewhere(member, heard)):
                raise self._asking.failed(member, self._of_the_future(seen[0].time))
        return answer

    def _beyond(self, at: int) -> bool:
        return self._wall is not None and at > self._wall() + self._lag

    @staticmethod
    def _elsewhere(member: Member, heard: Sequence[Member]) -> list[int]:
        """The times of the heads that other hosts than the ``member``'s have, one each: keys of one operator are one voice."""
        times: dict[str, int] = {}
        for one in heard:
            if one.host != member.host and one.health.head is not None:
                times[one.host] = max(one.health.head[1], times.get(one.host, 0))
        return list(times.values())

    def _ahead(self, at: int, others: Sequence[int]) -> bool:
        """Of this machine's clock, and of most others; or of one who agrees with that clock, unless most have the same head:
        then the clock is behind, and so is who agrees with it. The clock alone condemns nobody."""
        if self._wall is None or not self._beyond(at):
            return False
        now, lag, voices = self._wall(), self._lag, len(others) + 1
        below = [other for other in others if other < at - lag]
        agree = any(abs(other - now) <= 2 * lag for other in below)
        same = 1 + sum(abs(other - at) <= lag for other in others)
        return 2 * len(below) > voices or (agree and 2 * same <= voices)

    def _of_the_future(self, at: int) -> str:
        ahead = "" if self._wall is None else f" {at - int(self._wall())} s"
        return f"its head is{ahead} ahead of this machine's clock, and of what others have"

    async def start(self) -> None:
        """The first look. Endpoints that do not answer are said and tried again later; ``WrongChain`` when one serves
        another chain, ``EndpointError`` when none answers."""
        await self.look(now=True)
        for member in self.members:
            if member.health.wrong:
                raise WrongChain(
                    "point the watcher at the right endpoint",
                    wanted=self._chain_id,
                    served=member.health.wrong,
                    endpoint=member.name,
                )
        if not any(member.health.fit(self._clock()) for member in self.members):
            raise self._nobody()

    async def _visit(self, member: Member, at: float) -> None:
        health = member.health
        try:
            async with asyncio.timeout(self._survey_timeout):
                served = wire.quantity(_result(await member.rpc.provider.make_request("eth_chainId", [])))
                answer = await member.rpc.provider.make_request("eth_getBlockByNumber", ["latest", False])
            block = wire.block(_result(answer))
        except RateLimited as error:
            health.limited(at, str(error.detail), error.retry_after, self._resting)
        except TimeoutError:
            health.failed(at, f"no answer within {self._survey_timeout:g} s", self._resting, self._rng)
        except (ChallengerError, aiohttp.ClientError, OSError, ValueError) as error:
            health.failed(at, why_of(error), self._resting, self._rng)
        else:
            health.head = (block.number, block.time)
            health.wrong = "" if served == self._chain_id else str(served)
            if health.wrong:
                health.why = f"it serves chain {served}"
            else:
                health.answered()

    def distrust(self, name: str, why: str) -> None:
        """An endpoint was caught serving something false: it rests for long, and is said."""
        for member in self.members:
            if member.name == name:
                member.health.distrusted(self._clock(), why, self._resting)
                self._tell(member)

    def fit(self, member: Member) -> bool:
        """Whether it is read from first, as far as is known now."""
        return member.health.fit(self._clock())

    def _tell(self, member: Member) -> None:
        """Says a change once."""
        fit = member.health.fit(self._clock())
        if fit and member.name in self._unfit:
            self._unfit.discard(member.name)
            self._on_change(Change(member.name, ""))
        elif not fit and member.name not in self._unfit:
            self._unfit.add(member.name)
            self._on_change(Change(member.name, member.health.why))

    def _order(self) -> list[Member]:
        """The current endpoint while it is fit, then the other fit ones, then what else may answer, longest rested first."""
        alone = _ALONE.get()
        if alone is not None:
            return [alone]
        now = self._clock()
        fit = sorted((m for m in self.members if m.health.fit(now)), key=lambda m: m is not self.current)
        rest = [m for m in self.members if not m.health.fit(now) and m.health.usable(now)]
        return fit + sorted(rest, key=lambda m: (m.health.rests_until, m.health.lags))

    # reads

    async def _anywhere(self, asked: Sequence[Request], attempt: Callable[[Member], Awaitable[Any]]) -> Any:
        """The first answer to ``asked``. An error that may be this endpoint's alone is kept, in case no other does better.
        Whoever answers is read from next: one who cannot do a thing is not asked twice for it, and that logs are read from
        the same endpoint as headers is what tells who served them."""
        kept: Any = None
        for member in self._order():
            try:
                answer = await attempt(member)
            except Unfit:
                self._tell(member)
                continue
            except EndpointError:  # it has answered: with too much, or that it knows no such block
                self.current = member
                raise
            member.health.answered()
            self._tell(member)
            told = answer if isinstance(answer, list) else [answer]
            if any(others_may(request, one) for request, one in zip(asked, told, strict=True)):
                kept = answer if kept is None else kept
                continue
            self.current = member
            return answer
        if kept is not None:
            return kept
        raise self._nobody()

    def _nobody(self) -> ChallengerError:
        now = self._clock()
        told = "; ".join(f"{m.name}: {m.health.why}" for m in self.members)
        waits = [m.health.rests_until - now for m in self.members if m.health.asked and not m.health.wrong]
        if waits and len(waits) == sum(not m.health.wrong for m in self.members):
            return RateLimited("every endpoint asks to rest", retry_after=max(0.0, min(waits)), endpoint=told)
        return EndpointError(f"no endpoint answers ({told})")

    # sends

    async def _broadcast(self, params: Any) -> Any:
        """To every endpoint of this chain at once. Taken if one took it; a refusal only if all that were asked refuse;
        else uncertain, since one that did not answer may have it."""
        now = self._clock()
        members = [m for m in self.members if m.health.fit(now) or (m.health.lags and m.health.usable(now))]
        members = members or self._order()
        if not members:
            raise self._nobody()
        outcomes = await asyncio.gather(*(self._sent(member, params) for member in members))
        for member in members:
            self._tell(member)
        answers = [answer for answer in outcomes if answer is not None]
        for answer in answers:
            if answer.get("error") is None:
                return answer
        refused = sorted(answers, key=lambda a: not _KNOWN.search(str(a["error"])))
        if refused and (len(refused) == len(members) or _KNOWN.search(str(refused[0]["error"]))):
            return refused[0]
        raise EndpointError("no endpoint said that it took the transaction", asked=", ".join(m.name for m in members))

    async def _sent(self, member: Member, params: Any) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = await self._asking.one(member, _SEND, params, as_it_is)
        except (Unfit, AnswerTooLarge):
            return None
        return answer


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict) or "result" not in answer:
        error = answer.get("error") if isinstance(answer, dict) else None
        told = refusal("survey", error, "") if error is not None else ValueError("not a JSON-RPC answer")
        raise told
    return answer["result"]
