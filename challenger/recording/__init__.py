"""Recorded chains: the chain half of a recording (docs/recordings.md), made from any endpoint and replayed offline."""

from challenger.recording.history import history
from challenger.recording.lines import (
    CHAIN,
    PART,
    Answer,
    Data,
    Deployment,
    RecordedBlock,
    deployment_of,
    recorded_lines,
)

__all__ = [
    "CHAIN",
    "PART",
    "Answer",
    "Data",
    "Deployment",
    "RecordedBlock",
    "deployment_of",
    "history",
    "recorded_lines",
]
