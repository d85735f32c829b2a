"""The Arbius engine's logs, strictly read. Pure, and total over whatever an endpoint serves.

A log of Arbius names a task and an address and little else; what it means is read from the engine at its block
(``meaning.py``). Some say two neutral things at once: the second stands ``beside`` the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from challenger.chain.abi import signature
from challenger.chain.answers import RawLog
from challenger.chain.codec import EventDecoder
from challenger.chain.hashing import keccak
from challenger.domain import Address
from challenger.protocols.arbius.abi import EVENTS, OTHER_EVENTS
from challenger.protocols.base import BESIDE


@dataclass(frozen=True, slots=True)
class Heard:
    """A log by name, with its arguments, at its own place; ``nth``: which of the things that it says is asked for."""

    name: str
    args: dict[str, Any]
    log: RawLog
    nth: int


class EngineLogs:
    """Logs of the engine at one address."""

    def __init__(self, engine: Address) -> None:
        self._engine = engine
        self.emitters = (engine,)
        self._decoder = EventDecoder(EVENTS)
        self._votes = EventDecoder(OTHER_EVENTS)
        self.topics = self._decoder.topics
        self._topics = {event["name"]: keccak(signature(event).encode()) for event in EVENTS + OTHER_EVENTS}

    def topic(self, name: str) -> bytes:
        """First topic of the event ``name``."""
        return self._topics[name]

    def read(self, log: RawLog) -> Heard | None:
        """None for what another contract wrote or what no neutral event comes of; ``MalformedLog`` for what does not hold
        what it claims."""
        if log.address != self._engine:
            return None
        nth, index = divmod(log.log_index, BESIDE)
        event = self._decoder.decode(log._replace(log_index=index))
        return None if event is None else Heard(event.name, event.args, log, nth)

    def vote(self, log: RawLog) -> tuple[bytes, Address, bool] | None:
        """Task, voter and vote, for whoever keeps track of how people vote; None for another log."""
        if log.address != self._engine:
            return None
        event = self._votes.decode(log)
        if event is None or event.name != "ContestationVote":
            return None
        return event.args["task"], event.args["addr"], event.args["yea"]
