"""What strikes now: the plan's episodes against the present height, with dice of their own for every concern.

Simulated seconds are counted, never waited for: an answer that takes eight seconds lets the block come that would have
come meanwhile. A dead process is dead: once killed, everything that it still tries raises ``Killed`` too.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from challenger.sim.faults.kinds import Episode, Fault

BLOCK = 12


class Killed(BaseException):
    """the simulated process has died; no handler for errors of a living one may catch it"""


class Engine:
    """``block``: called when a block's worth of simulated seconds has gone by within a turn."""

    def __init__(self, seed: int, episodes: Sequence[Episode]) -> None:
        self.episodes = tuple(episodes)
        self.height = 0
        self.injected: Counter[Fault] = Counter()
        self.block: Callable[[], None] = lambda: None
        self.dead = False
        self._seed = seed
        self._dice: dict[str, random.Random] = {}
        self._seconds = 0.0
        self._until_death: int | None = None
        self._error, self._error_until = 0, 0

    def dice(self, concern: str) -> random.Random:
        """The same numbers for the same seed and concern, whatever the other concerns draw."""
        if concern not in self._dice:
            self._dice[concern] = random.Random(f"{self._seed} {concern}")  # noqa: S311  faults, no secrets
        return self._dice[concern]

    def now(self, fault: Fault, where: int | None = None) -> Iterator[Episode]:
        """The episodes of ``fault`` that hold at this height."""
        for one in self.episodes:
            if one.fault is fault and one.at(self.height) and (where is None or one.where == where):
                yield one

    def strikes(self, fault: Fault, concern: str, where: int | None = None) -> Episode | None:
        """The episode that strikes this time, if one does; counted."""
        for one in self.now(fault, where):
            if one.rate >= 100 or self.dice(concern).randrange(100) < one.rate:
                self.injected[fault] += 1
                return one
        return None

    @property
    def clock_error(self) -> int:
        """Seconds by which the machine's date is wrong; ahead when positive."""
        return self._error if self.height < self._error_until else 0

    def misread(self, seconds: int, blocks: int) -> None:
        """The machine's date is wrong by ``seconds`` for that many blocks."""
        self._error, self._error_until = seconds, self.height + blocks

    def clock(self) -> float:
        """Simulated seconds that have gone by."""
        return self.height * BLOCK + self._seconds

    def spend(self, seconds: float) -> None:
        self._seconds += seconds
        while self._seconds >= BLOCK:
            self._seconds -= BLOCK
            self.block()

    # life and death

    def born(self) -> None:
        """A new process. Where crashes are due, its hour is drawn now."""
        self.dead, self._until_death = False, None

    def doom(self) -> None:
        """At the beginning of a turn: the process may die in it, after so many steps."""
        if self._until_death is None and self.strikes(Fault.CRASH, "crash") is not None:
            self._until_death = self.dice("crash").randint(1, 120)

    def cross(self) -> None:
        """A step at which a process may die: a request sent or answered, a statement, a commit."""
        if self.dead:
            raise Killed
        if self._until_death is not None:
            self._until_death -= 1
            if self._until_death <= 0:
                self.dead = True
                raise Killed

    # the database

    def gate(self, statement: str) -> None:
        """In front of every statement; see ``store.inline.Gate``."""
        if statement == "committed":
            if self.strikes(Fault.SLOW_DISK, "disk") is not None:
                self.spend(self.dice("disk").uniform(0.5, 6.0))
            self.cross()
            return
        if self.dead and statement == "ROLLBACK":
            return
        self.cross()
        if statement in ("CONNECT", "BEGIN", "BEGIN IMMEDIATE", "COMMIT") and self.strikes(Fault.OUTAGE, "outage"):
            raise sqlite3.OperationalError("unable to open database file")
        writes = statement.startswith(("INSERT", "UPDATE", "DELETE")) or statement == "COMMIT"
        if writes and self.strikes(Fault.FULL_DISK, "full"):
            raise sqlite3.OperationalError("database or disk is full")
