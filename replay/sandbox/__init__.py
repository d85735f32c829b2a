"""Replays in worker processes that nothing hostile gets out of: limits, no network, no writing, one-line reasons."""

from replay.backends import BACKENDS
from replay.sandbox.outcome import Completed, Described, Inconclusive, Limits, Reason, ReplayRequest
from replay.sandbox.pool import ReplayPool
from replay.trace import Receipt

__all__ = [
    "BACKENDS",
    "Completed",
    "Described",
    "Inconclusive",
    "Limits",
    "Reason",
    "Receipt",
    "ReplayPool",
    "ReplayRequest",
]
