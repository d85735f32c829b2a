"""What the board's logs say. Pure, and total over whatever an endpoint serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from challenger.domain import (
    At,
    ChainEvent,
    Committed,
    DisputeClosed,
    DisputeOpened,
    DisputeOutcome,
    Hash32,
    JobClosed,
    JobStatus,
    ModelRegistered,
    TaskOpened,
    UnixTime,
)
from challenger.protocols.base import NO_DEADLINE

#: As the contract's enums number them.
STATUSES = (None, JobStatus.COMMITTED, JobStatus.FINAL, JobStatus.FRAUD)
OUTCOMES = (DisputeOutcome.OPEN, DisputeOutcome.CHALLENGER, DisputeOutcome.PROVIDER, DisputeOutcome.EXPIRED)
MEANINGFUL = ("Registered", "Asked", "Answered", "Disputed", "DisputeEnded", "AnswerEnded")


def meaning(name: str, at: At, said: Mapping[str, Any], window: int) -> ChainEvent:
    """``window``: seconds, as the chain had them at the log's block; an answer's log alone asks for it. Raises ValueError
    or IndexError for what the contract cannot have written."""
    if name == "Registered":
        model = said["facts"]
        return ModelRegistered(
            at=at,
            model=said["model"],
            registrar=said["registrar"],
            file_digest=model["fileDigest"],
            artefact_root=model["artefactRoot"],
            program_root=model["programRoot"],
            spec_version=model["specVersion"],
            mode="exact",
            boundaries=2,  # nobody can demand single leaves or tiles here: the fewest that there are
            artefact_tiles=1,
            uri=model["uri"],
            known_input=model["knownInput"],
            known_output_root=model["knownOutputRoot"],
        )
    if name == "Asked":
        return TaskOpened(
            at=at,
            task=said["task"],
            model=said["model"],
            requester=said["requester"],
            input_root=said["inputRoot"],
            input_data=_inline(said["input"]),
            input_uri="",
            input_length=len(said["input"]),
            entropy=Hash32(bytes(32)),
            fee=said["fee"],
            deadline=NO_DEADLINE,
        )
    if name == "Answered":
        return Committed(
            at=at,
            commitment=said["answer"],
            task=said["task"],
            model=said["model"],
            provider=said["provider"],
            output_root=said["outputRoot"],
            state_root=said["stateRoot"],
            output_data=_inline(said["output"]),
            output_uri="",
            output_length=len(said["output"]),
            committed_at=said["since"],
            closes=_time(said["since"] + window),
        )
    if name == "Disputed":
        return DisputeOpened(
            at=at,
            dispute=said["dispute"],
            commitment=said["answer"],
            challenger=said["challenger"],
            output_root=said["outputRoot"],
            state_root=said["stateRoot"],
            evidence=said["evidence"],
            bond=said["bond"],
            ruling_by=_time(said["rulingBy"]),
        )
    if name == "DisputeEnded":
        outcome = OUTCOMES[said["outcome"]]
        if outcome is DisputeOutcome.OPEN:
            raise ValueError("a dispute does not end open")
        return DisputeClosed(at, said["dispute"], said["answer"], outcome, said["paid"], said["burnt"])
    status = STATUSES[said["status"]]
    if status not in (JobStatus.FINAL, JobStatus.FRAUD):
        raise ValueError(f"an answer does not end {status}")
    return JobClosed(at, said["answer"], status)


def _inline(data: bytes) -> bytes:
    if not data:
        raise ValueError("what stands on chain is never empty")
    return data


def _time(value: int) -> UnixTime:
    if value > NO_DEADLINE:
        raise ValueError(f"{value} is no time")
    return UnixTime(value)
