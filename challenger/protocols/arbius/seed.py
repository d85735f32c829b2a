"""The seed of a task: the solvers' software draws it from the task's id, so that all of them draw the same."""

from __future__ import annotations

from challenger.domain import Hash32, TaskId

#: Fifteen below the largest whole number that a double holds exactly: templates are JSON, and seeds numbers in them.
MODULUS = 0x1FFFFFFFFFFFF0


def seed_of(task: TaskId) -> int:
    """``task`` as a big-endian number, modulo ``MODULUS``."""
    return int.from_bytes(task, "big") % MODULUS


def seed_word(task: TaskId) -> Hash32:
    """The seed as 32 big-endian bytes: how the record and the engine hold one."""
    return Hash32(seed_of(task).to_bytes(32, "big"))
