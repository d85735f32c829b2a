"""The reference market's logs as neutral events. Pure, and total over whatever an endpoint serves.

The contract's code is pinned, so a log that it cannot have written (an enum value that does not exist, inline data of
another length than it says) did not come from it: such a log is refused as ``MalformedLog``, and whoever served it is
not to be believed. What the contract does let through is never refused, however odd, or a provider could hide a fraud
behind it: text is escaped by the codec, and a deadline beyond all time is brought down to ``NO_DEADLINE``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from challenger.chain.abi import signature
from challenger.chain.answers import RawLog
from challenger.chain.codec import EventDecoder
from challenger.chain.follower import LeftOut, one_by_one
from challenger.chain.hashing import keccak
from challenger.contracts import artifact
from challenger.domain import (
    Address,
    At,
    ChainEvent,
    Committed,
    DemandClosed,
    DemandOpened,
    DemandOutcome,
    DisputeClosed,
    DisputeOpened,
    DisputeOutcome,
    JobClosed,
    JobStatus,
    ModelDisabled,
    ModelRegistered,
    TaskClosed,
    TaskOpened,
    TaskTaken,
    UnixTime,
    WindowExtended,
)
from challenger.errors import MalformedLog
from challenger.protocols.base import NO_DEADLINE
from challenger.protocols.reference_calls import MODES, PARTS

DISPUTE_OUTCOMES = (
    DisputeOutcome.OPEN,
    DisputeOutcome.CHALLENGER,
    DisputeOutcome.PROVIDER,
    DisputeOutcome.EXPIRED,
    DisputeOutcome.MOOT,
)
DEMAND_OUTCOMES = (DemandOutcome.OPEN, DemandOutcome.ANSWERED, DemandOutcome.LOST, DemandOutcome.MOOT)
JOB_STATUSES = (JobStatus.COMMITTED, JobStatus.FINAL, JobStatus.FRAUD, JobStatus.VOID)

Args = Mapping[str, Any]


class MarketLogs:
    """Logs of the ``InferenceMarket`` at one address."""

    def __init__(self, market: Address) -> None:
        self._market = market
        self.emitters = (market,)
        events = [e for e in artifact("InferenceMarket").abi if e.get("name") in _MEANINGS and e["type"] == "event"]
        self._decoder = EventDecoder(events)
        self.topics = self._decoder.topics
        self._topics = {event["name"]: keccak(signature(event).encode()) for event in events}

    def topics_of(self, *names: str) -> list[bytes]:
        """First topics of the events with these names."""
        return [self._topics[name] for name in names]

    def among(self, logs: Iterable[RawLog]) -> list[RawLog]:
        """Those that mean something, by emitter and first topic."""
        return [log for log in logs if log.address == self._market and log.topics[:1] and log.topics[0] in self.topics]

    def decode(self, log: RawLog) -> ChainEvent | None:
        """None for what another contract wrote or what says nothing neutral; ``MalformedLog`` as above."""
        if log.address != self._market:
            return None
        event = self._decoder.decode(log)
        if event is None:
            return None
        try:
            return _MEANINGS[event.name](log.at, event.args)
        except (ValueError, IndexError) as error:
            raise MalformedLog(str(error), event=event.name, block=log.block, log=log.log_index) from None

    async def events(self, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        """Each log says all."""
        return one_by_one(self.decode, logs, left_out)


def _model_registered(at: At, args: Args) -> ChainEvent:
    spec = args["spec"]
    if spec["boundaries"] < 2 or spec["artefactTiles"] < 1:
        raise ValueError("a model has two boundaries and one tile at least")
    return ModelRegistered(
        at=at,
        model=args["model"],
        registrar=args["registrar"],
        file_digest=spec["fileDigest"],
        artefact_root=spec["artefactRoot"],
        program_root=spec["programRoot"],
        spec_version=spec["specVersion"],
        mode=_one_of(MODES, spec["mode"], "mode"),
        boundaries=spec["boundaries"],
        artefact_tiles=spec["artefactTiles"],
        uri=spec["uri"],
        known_input=spec["knownInput"],
        known_output_root=spec["knownOutputRoot"],
    )


def _model_disabled(at: At, args: Args) -> ChainEvent:
    return ModelDisabled(at, args["model"])


def _task_opened(at: At, args: Args) -> ChainEvent:
    return TaskOpened(
        at=at,
        task=args["task"],
        model=args["model"],
        requester=args["requester"],
        input_root=args["inputRoot"],
        input_data=_inline(args["inputData"], args["inputUri"], args["inputLength"]),
        input_uri=args["inputUri"],
        input_length=args["inputLength"],
        entropy=args["entropy"],
        fee=args["fee"],
        deadline=UnixTime(min(args["deadline"], NO_DEADLINE)),
    )


def _task_taken(at: At, args: Args) -> ChainEvent:
    return TaskTaken(at, args["task"], args["provider"], args["seed"])


def _task_cancelled(at: At, args: Args) -> ChainEvent:
    return TaskClosed(at, args["task"], "cancelled")


def _task_lapsed(at: At, args: Args) -> ChainEvent:
    return TaskClosed(at, args["task"], "lapsed")


def _committed(at: At, args: Args) -> ChainEvent:
    committed_at, closes = _time(args["committedAt"]), _time(args["windowEnd"])
    if closes <= committed_at:
        raise ValueError(f"the window closes at {closes}, not after the commitment at {committed_at}")
    return Committed(
        at=at,
        commitment=args["job"],
        task=args["task"],
        model=args["model"],
        provider=args["provider"],
        output_root=args["outputRoot"],
        state_root=args["stateRoot"],
        output_data=_inline(args["outputData"], args["outputUri"], args["outputLength"]),
        output_uri=args["outputUri"],
        output_length=args["outputLength"],
        committed_at=committed_at,
        closes=closes,
    )


def _window_extended(at: At, args: Args) -> ChainEvent:
    return WindowExtended(at, args["job"], _time(args["windowEnd"]))


def _challenged(at: At, args: Args) -> ChainEvent:
    return DisputeOpened(
        at=at,
        dispute=args["dispute"],
        commitment=args["job"],
        challenger=args["challenger"],
        output_root=args["outputRoot"],
        state_root=args["stateRoot"],
        evidence=args["evidence"],
        bond=args["bond"],
        ruling_by=_time(args["rulingBy"]),
    )


def _settled(at: At, args: Args) -> ChainEvent:
    outcome = _one_of(DISPUTE_OUTCOMES, args["outcome"], "outcome", first=1)
    return DisputeClosed(at, args["dispute"], args["job"], outcome, args["paid"], args["burnt"])


def _demanded(at: At, args: Args) -> ChainEvent:
    return DemandOpened(
        at=at,
        demand=args["demand"],
        commitment=args["job"],
        demander=args["demander"],
        part=_one_of(PARTS, args["part"], "part"),
        index=args["index"],
        bond=args["bond"],
        answer_by=_time(args["answerBy"]),
    )


def _demand_closed(at: At, args: Args) -> ChainEvent:
    outcome = _one_of(DEMAND_OUTCOMES, args["outcome"], "outcome", first=1)
    if bool(args["data"]) != (outcome is DemandOutcome.ANSWERED):
        raise ValueError("an answer has data, and nothing else has")
    return DemandClosed(at, args["demand"], args["job"], outcome, args["data"], args["paid"], args["burnt"])


def _job_closed(at: At, args: Args) -> ChainEvent:
    return JobClosed(at, args["job"], _one_of(JOB_STATUSES, args["status"], "status", first=1))


_MEANINGS: dict[str, Callable[[At, Args], ChainEvent]] = {
    "ModelRegistered": _model_registered,
    "ModelDisabled": _model_disabled,
    "TaskOpened": _task_opened,
    "TaskTaken": _task_taken,
    "TaskCancelled": _task_cancelled,
    "TaskLapsed": _task_lapsed,
    "Committed": _committed,
    "WindowExtended": _window_extended,
    "Challenged": _challenged,
    "Settled": _settled,
    "Demanded": _demanded,
    "DemandClosed": _demand_closed,
    "JobClosed": _job_closed,
}


def _inline(data: bytes, uri: str, length: int) -> bytes:
    """Data comes inline or by URI, never both, and has the length that is said."""
    if bool(data) == bool(uri):
        raise ValueError("data is given neither or both ways, inline and by URI")
    if length < 1 or (data and len(data) != length):
        raise ValueError(f"the length is said to be {length}, {len(data)} bytes are there")
    return data


def _time(value: int) -> UnixTime:
    if value > NO_DEADLINE:
        raise ValueError(f"{value} is no time")
    return UnixTime(value)


def _one_of(names: tuple[Any, ...], value: int, what: str, first: int = 0) -> Any:
    if not first <= value < len(names):
        raise ValueError(f"{value} is no {what}")
    return names[value]
