"""One endpoint of a pool is asked: what it answers is parsed, and every way to go wrong is its failure or its wish to rest.

Batches and log ranges shrink to what it takes, and grow again; ``health.py`` keeps what is learnt of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from challenger.chain import wire
from challenger.chain.health import Health, Resting
from challenger.chain.refusals import refusal
from challenger.chain.rpc import Parse, Request, Rpc
from challenger.errors import AnswerTooLarge, ChallengerError, RangeTooLarge, RateLimited, Reverted, UnknownBlock


@dataclass(slots=True)
class Member:
    """One endpoint: ``rpc`` asks it alone, ``host`` is what makes it independent of another."""

    rpc: Rpc
    host: str
    health: Health = field(default_factory=Health)

    @property
    def name(self) -> str:
        return self.rpc.name


class Unfit(Exception):
    """no answer from one endpoint; the next one may give it"""


class Asking:
    """``timeout``: seconds of one try; ``clock`` is monotonic; ``rng`` spreads retries."""

    def __init__(self, timeout: float, clock: Callable[[], float], resting: Resting, rng: random.Random) -> None:
        self._timeout = timeout
        self._clock = clock
        self._resting = resting
        self._rng = rng

    async def one(self, member: Member, method: str, params: Any, parse: Parse) -> Any:
        """Its answer, with the result parsed, or with its refusal. Raises ``Unfit``; ``UnknownBlock`` and, of a range of
        logs, ``AnswerTooLarge`` are answers too."""
        width = _width(method, params)
        span = member.health.span
        if width and span is not None and width > span.blocks:
            return {"error": {"code": -32602, "message": f"block range exceeds the {span.blocks} of this endpoint"}}
        began = self._clock()
        try:
            answer = await self._tried(member, member.rpc.provider.make_request(method, params))
        except AnswerTooLarge as large:
            if width:
                raise  # the request's fault: the caller splits it
            raise self.failed(member, f"{method}: {large.detail}") from None
        if not _is_answer(answer):
            raise self.failed(member, f"the answer to {method} is not a JSON-RPC answer")
        error = None if answer.get("error") is None else refusal(method, answer["error"], member.name)
        if isinstance(error, RateLimited):
            raise self.limited(member, error)
        if isinstance(error, RangeTooLarge) and width:
            member.health.range_refused(width)
        if error is not None:
            return answer
        found = self._parsed(member, method, answer["result"], parse)
        if width and span is not None:
            span.answered(width, self._clock() - began, len(found) if isinstance(found, list) else 0)
        return {"result": found}

    def _parsed(self, member: Member, method: str, result: Any, parse: Parse) -> Any:
        try:
            return parse(result)
        except ValueError as error:
            raise self.failed(member, f"nonsense in answer to {method}: {error}") from None
        except UnknownBlock as error:
            raise UnknownBlock(error.detail, endpoint=member.name) from None

    async def many(self, member: Member, requests: Sequence[Request], parses: Sequence[Parse]) -> list[Any]:
        """As ``one``, in the order of the requests, in as many batches as it wants."""
        answers: list[Any] = []
        batching: Any = getattr(member.rpc.provider, "make_batch_request", None)
        while len(answers) < len(requests):
            size = member.health.batch if batching is not None else 0
            if size < 2:
                method, params = requests[len(answers)]
                answers.append(await self.one(member, method, params, parses[len(answers)]))
                member.health.batch_answered()  # so that larger ones are tried again some day
                continue
            chunk = list(requests[len(answers) :][:size])
            try:
                found = await self._tried(member, batching(chunk))
            except AnswerTooLarge:
                member.health.batch_refused()
                continue
            if isinstance(found, dict):
                error = refusal("batch", found.get("error"), member.name)
                if isinstance(error, RateLimited):
                    raise self.limited(member, error)
                member.health.batch_refused()
                continue
            if not isinstance(found, list) or len(found) != len(chunk):
                raise self.failed(member, "a batch came back with the wrong number of answers")
            for (method, _), answer in zip(chunk, found, strict=True):
                if not _is_answer(answer):
                    raise self.failed(member, f"the answer to {method} is not a JSON-RPC answer")
                refused = answer.get("error")
                limit = None if refused is None else refusal(method, refused, member.name)
                if isinstance(limit, RateLimited):
                    raise self.limited(member, limit)
                parse = parses[len(answers)]
                answers.append(
                    answer if refused is not None else {"result": self._parsed(member, method, answer["result"], parse)}
                )
            member.health.batch_answered()
        return answers

    async def _tried(self, member: Member, request: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await request
        except RateLimited as error:
            raise self.limited(member, error) from None
        except AnswerTooLarge:
            raise
        except TimeoutError:
            raise self.failed(member, f"no answer within {self._timeout:g} s") from None
        except (ChallengerError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self.failed(member, why_of(error)) from None

    def failed(self, member: Member, why: str) -> Unfit:
        member.health.failed(self._clock(), why, self._resting, self._rng)
        return Unfit(why)

    def limited(self, member: Member, error: RateLimited) -> Unfit:
        member.health.limited(self._clock(), error.detail, error.retry_after, self._resting)
        return Unfit(error.detail)


def _width(method: str, params: Any) -> int:
    """Blocks of a log query over a range of numbers; 0 for any other request."""
    if method != "eth_getLogs" or "blockHash" in params[0]:
        return 0
    try:
        return wire.quantity(params[0]["toBlock"]) - wire.quantity(params[0]["fromBlock"]) + 1
    except (ValueError, KeyError):
        return 0


def others_may(request: Request, answer: Any) -> bool:
    """Whether ``answer`` is an error that another endpoint may not have. A broken node says anything under any code (-32000:
    "missing trie node", "database closed"), so these are the exceptions: a revert, which all would say, and a range of
    logs that is too much, which whoever asked makes smaller. One block cannot be made smaller."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if error is None:
        return False
    told = refusal(request[0], error, "")
    return not isinstance(told, Reverted) and not (isinstance(told, RangeTooLarge) and _width(*request) > 1)


def as_it_is(result: Any) -> Any:
    return result


def _is_answer(answer: Any) -> bool:
    return isinstance(answer, dict) and (answer.get("error") is not None or "result" in answer)


def why_of(error: Exception) -> str:
    # of foreign errors only the kind: the text may hold the full URL, and with it a key
    return error.detail or str(error) if isinstance(error, ChallengerError) else type(error).__name__
