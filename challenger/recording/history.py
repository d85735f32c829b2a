"""A recorded chain as events, without any watcher: what backtests and people read."""

from __future__ import annotations

from collections.abc import Iterator

from challenger.domain import Block, ChainEvent
from challenger.errors import MalformedLog
from challenger.protocols.reference_logs import MarketLogs
from challenger.recording.lines import RecordedBlock, deployment_of, recorded_lines
from replay.recording import Recording


def history(recording: Recording) -> Iterator[tuple[Block, list[ChainEvent]]]:
    """Each block with the events in it, in chain order; a log that the contract cannot have written is left out, as the
    watcher leaves it out. One line is in memory at a time. Raises ``RecordingError``."""
    logs = MarketLogs(deployment_of(recording).market)
    for line in recorded_lines(recording):
        if not isinstance(line, RecordedBlock):
            continue
        events = []
        for log in line.logs:
            try:
                event = logs.decode(log)
            except MalformedLog:
                continue
            if event is not None:
                events.append(event)
        yield line.block, events
