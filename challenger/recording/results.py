"""Replay results that need no second run, and the time that a replay takes in a simulated world.

A result is kept under everything that it follows from: the model's digests and roots, the input, the seed, the backend,
this machine and the versions of what computes. What a worker could not do is not kept.
"""

from __future__ import annotations

import json
import platform
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from challenger.pipeline.engine import Workers
from replay.sandbox import Completed, Inconclusive, Receipt, ReplayRequest

_TABLE = "CREATE TABLE IF NOT EXISTS results (question BLOB PRIMARY KEY, receipt TEXT NOT NULL) WITHOUT ROWID"
_FIELDS = ("input_root", "output_root", "state_root")


class Results:
    """A file of results; several processes may share it. A context manager. Raises ``OSError`` where it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: what was wrong with the file last; a replay does without it
        self.trouble = ""

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._base = sqlite3.connect(self._path, isolation_level=None, timeout=30.0)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute(_TABLE)
        except sqlite3.Error as error:
            raise OSError(f"{self._path} is no file of results: {error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._base.close()

    def get(self, question: bytes) -> Receipt | None:
        """None too where the file is damaged: then the model is run."""
        try:
            row = self._base.execute("SELECT receipt FROM results WHERE question = ?", (question,)).fetchone()
            return None if row is None else _receipt(json.loads(row[0]))
        except (sqlite3.Error, ValueError, KeyError, TypeError, AttributeError) as error:
            self.trouble = f"{type(error).__name__}: {error}"
            return None

    def put(self, question: bytes, receipt: Receipt) -> None:
        told = {name: getattr(receipt, name).hex() for name in _FIELDS}
        text = json.dumps(told | {"environment": dict(receipt.environment)})
        try:
            self._base.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (question, text))
        except sqlite3.Error as error:
            self.trouble = f"{type(error).__name__}: {error}"


class KnownWorkers:
    """Asks ``results`` first and ``workers`` then. Each replay takes ``seconds``, told to ``pass_time``: a result that
    was known takes as long as one that was not, so that a second run tells the same story."""

    def __init__(
        self, workers: Workers, results: Results | None, seconds: float, pass_time: Callable[[float], None]
    ) -> None:
        self._workers = workers
        self._results = results
        self._seconds = seconds
        self._pass_time = pass_time
        self.run = self.known = 0

    async def replay(self, request: ReplayRequest) -> Completed | Inconclusive:
        self._pass_time(self._seconds)
        question = _question(request)
        kept = None if self._results is None else self._results.get(question)
        if kept is not None:
            self.known += 1
            return Completed(replace(kept, seconds=self._seconds))
        self.run += 1
        outcome = await self._workers.replay(request)
        if isinstance(outcome, Inconclusive):
            return outcome
        receipt = replace(outcome.receipt, seconds=self._seconds)
        if self._results is not None:
            self._results.put(question, receipt)
        return Completed(receipt)


def _receipt(kept: Any) -> Receipt:
    """With the roots, which is what a verdict needs; tensors are not kept."""
    roots = {name: bytes.fromhex(kept[name]) for name in _FIELDS}
    if any(len(root) != 32 for root in roots.values()):
        raise ValueError("a root is not of 32 bytes")
    environment = {str(name): str(value) for name, value in kept["environment"].items()}
    return Receipt(**roots, leaves=(), output=b"", first_path=(), last_path=(), environment=environment, seconds=0.0)


@cache
def _here() -> str:
    """What computes: a result of another machine or library is not this one's."""
    libraries = (f"{name}={version(name)}" for name in ("inference-challenger", "numpy", "torch"))
    return "/".join([*libraries, platform.node(), platform.machine(), platform.python_version()])


def _question(request: ReplayRequest) -> bytes:
    """32 bytes. ``fresh`` and ``claim`` change how a result is come by, not what it is."""
    digest = sha256(f"{_here()}/{request.spec_version}/{request.backend}/".encode())
    for part in (request.file_digest, request.program_root, request.artefact_root, request.seed, request.input):
        digest.update(len(part or b"").to_bytes(8, "big") + (part or b""))
    return digest.digest()
