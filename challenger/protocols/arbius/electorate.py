"""Who votes on contestations, and how they voted before: read from the engine's logs and stakes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from challenger.chain.answers import RawLog
from challenger.chain.rpc import Topics
from challenger.domain import Address, Hash32, TaskId
from challenger.errors import RangeTooLarge
from challenger.protocols.arbius.logs import EngineLogs
from challenger.protocols.arbius.odds import Habits, Poll, learn
from challenger.protocols.arbius.views import EngineViews, Rules

#: Of the newest contests; what people did long ago says little.
_REMEMBERED = 400


class Logs(Protocol):
    async def logs(
        self, addresses: Sequence[Address], first: int, last: int, topics: Topics | None = None
    ) -> list[RawLog]: ...


@dataclass(frozen=True, slots=True)
class Electorate:
    """``known``: everybody who was ever seen to vote, the two parties of a contest aside; ``seen``: these too."""

    known: frozenset[Address]
    polls: tuple[Poll, ...]
    habits: Habits
    seen: frozenset[Address] = frozenset()

    @classmethod
    def of(cls, votes: Sequence[tuple[bytes, Address, bool]], ours: Collection[Address] = ()) -> Electorate:
        """``votes`` in chain order: (task, voter, yea). In each contest the first yea is the contester's and the first nay the
        accused's. Our own votes beside others' say nothing of how others vote."""
        contests: dict[bytes, tuple[list[Address], list[Address]]] = {}
        for task, voter, yea in votes:
            contests.setdefault(task, ([], []))[0 if yea else 1].append(voter)
        known: set[Address] = set()
        tallies = []
        for yeas, nays in contests.values():
            more = (
                [voter for voter in yeas[1:] if voter not in ours],
                [voter for voter in nays[1:] if voter not in ours],
            )
            known.update(*more)
            tallies.append((len(known), len(more[0]), len(more[1])))
        polls = tuple(Poll(max(there, yeas + nays), yeas, nays) for there, yeas, nays in tallies[-_REMEMBERED:])
        return cls(frozenset(known), polls, learn(polls), frozenset(voter for _, voter, _ in votes))

    @classmethod
    async def read(
        cls, chain: Logs, logs: EngineLogs, first: int, last: int, ours: Collection[Address] = ()
    ) -> Electorate:
        """From the votes of blocks ``first`` to ``last``, in as many requests as the endpoint wants."""
        found: list[tuple[bytes, Address, bool]] = []
        width = last - first + 1
        while first <= last:
            until = min(last, first + width - 1)
            try:
                raw = await chain.logs(logs.emitters, first, until, [logs.topic("ContestationVote")])
            except RangeTooLarge:
                if width <= 1:
                    raise
                width //= 2
                continue
            found += [vote for log in raw if (vote := logs.vote(log)) is not None]
            first = until + 1
        return cls.of(found, ours)

    async def eligible(
        self, views: EngineViews, rules: Rules, block: Hash32, task: TaskId | None, but: Collection[Address]
    ) -> int:
        """How many of the known might vote now; with ``task``, on its contestation, by the engine's own word."""
        voters = sorted(self.known - set(but))
        may = await asyncio.gather(*(self._may(views, rules, block, task, voter) for voter in voters))
        return sum(may)

    async def _may(self, views: EngineViews, rules: Rules, block: Hash32, task: TaskId | None, voter: Address) -> bool:
        stake = await views.stake(voter, block)
        if stake.staked - stake.pending < rules.least or stake.staked < rules.slash or not stake.since:
            return False
        return task is None or await views.can_vote(voter, task, block) == 0


#: Before any vote was read.
NOBODY_KNOWN = Electorate(frozenset(), (), learn(()))
