"""What every part of the adapter stands on: one engine, seen by one account. Reads and intents, no decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.chain.answers import RawLog
from challenger.chain.rpc import Topics
from challenger.domain import (
    ONE,
    Action,
    Address,
    Block,
    Call,
    ChainId,
    Hash32,
    Intent,
    TaskId,
    UnixTime,
    Wei,
    Window,
)
from challenger.errors import FilingRefused
from challenger.protocols.arbius.calls import EngineCalls
from challenger.protocols.arbius.electorate import Electorate
from challenger.protocols.arbius.eligible import Facts
from challenger.protocols.arbius.odds import Forecast
from challenger.protocols.arbius.views import Contest, EngineViews, Solution
from challenger.protocols.base import CodeReader, Money, Prospect

NAME = "arbius"


class Reader(CodeReader, Protocol):
    """What the adapter needs of the chain."""

    async def chain_id(self) -> ChainId: ...

    async def block(self, which: int | bytes | str) -> Block: ...

    async def read(self, method: str, params: list[Any], parse: Any) -> Any: ...

    async def logs(
        self, addresses: Sequence[Address], first: int, last: int, topics: Topics | None = None
    ) -> list[RawLog]: ...


@dataclass(frozen=True, slots=True)
class Holding:
    """Units of the token that an account has at the engine and in its own hands."""

    staked: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What a contest did to one account between two blocks, in units of the token. No event says so."""

    before: Holding
    after: Holding

    @property
    def gained(self) -> int:
        """Below zero for a loss."""
        return self.after.staked + self.after.tokens - self.before.staked - self.before.tokens


class Seat:
    """Bonds and rewards are units of the token; ``token_price``: what a whole one (10¹⁸ units) is worth in wei of ether."""

    name = NAME

    def __init__(
        self, chain: Reader, engine: Address, token_price: Wei, account: Address | None, electorate: Electorate
    ) -> None:
        self.calls = EngineCalls(engine)
        self._chain = chain
        self._engine = engine
        self._views = EngineViews(chain, engine)
        self._money = Money(token_price, paid=False, unit="units of the token", whole="tokens")
        self._account = account
        self._electorate = electorate

    async def settled_stakes(
        self, accounts: Sequence[Address], before: Hash32, after: Hash32
    ) -> dict[Address, Settled]:
        """Stake and tokens of these accounts in the states after two blocks: what no event of the engine tells."""
        token = await self._views.token(after)

        async def held(account: Address, block: Hash32) -> Holding:
            stake = await self._views.stake(account, block)
            return Holding(stake.staked, await self._views.tokens(token, account, block))

        return {one: Settled(await held(one, before), await held(one, after)) for one in accounts}

    async def _facts(self, task: TaskId, head: Block) -> Facts:
        account = self._own_account()
        contest: Contest | None = None
        if await self._views.contested_by(task, head.hash) is not None:
            contest = await self._views.contest(task, head.hash)
        return Facts(
            account,
            head.time,
            await self._views.rules(head.hash),
            await self._views.solution(task, head.hash),
            await self._views.stake(account, head.hash),
            contest,
        )

    def _prospect(self, slash: int, seen: Forecast, reward: int) -> Prospect:
        won = reward if seen.win else 0
        return Prospect(Wei(slash), Wei(won), min(ONE, seen.win))

    def _intent(self, about: str, call: Call, deadline: UnixTime, action: Action) -> Intent:
        return Intent(self.name, about, action, call, deadline)

    def _own_account(self) -> Address:
        if self._account is None:
            raise FilingRefused("there is no account: a watcher without a key contests nothing")
        return self._account

    def _others(self, *parties: Address) -> list[Address]:
        """Whose votes are not to be reckoned with: the parties', and our own."""
        return [*parties, *([self._account] if self._account else [])]


def window_of(solution: Solution, claim_time: int) -> Window:
    return Window(solution.blocktime, UnixTime(solution.blocktime + claim_time), frozen=False)
