"""What is asked of a sandbox and what comes back: frozen values, nothing heavy imported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from replay.trace import Receipt


class Reason(StrEnum):
    """Why a replay says nothing about the commitment. None of these is ever FRAUD."""

    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"
    MODEL_REJECTED = "model-rejected"
    MODEL_DIGEST = "model-digest"
    PROGRAM_MISMATCH = "program-mismatch"
    ARTEFACT_MISMATCH = "artefact-mismatch"
    SPEC_VERSION = "spec-version"
    INPUT_REJECTED = "input-rejected"
    BACKEND_REFUSED = "backend-refused"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one worker process. Memory is private writable memory, the libraries' share included (torch
    needs 0.3 GB before it computes anything); CPU and wall seconds are per request, start seconds per process."""

    memory_bytes: int = 4 << 30
    cpu_seconds: int = 600
    wall_seconds: float = 300.0
    start_seconds: float = 120.0
    open_files: int = 128
    answer_bytes: int = 256 << 20
    models: int = 4
    threads: int = 1


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """One replay. ``manifest`` is the model's manifest with its files beside it; digest and roots (32 bytes each)
    are checked when given. ``input`` is the canonical bundle. ``fresh`` starts a process for this request alone. ``seed``
    (32 bytes) is wanted where the input asks for a generation; ``claim``, an output bundle, makes checking one cheap."""

    manifest: Path
    file_digest: bytes | None
    program_root: bytes | None
    artefact_root: bytes | None
    spec_version: int
    input: bytes
    backend: str = "torch"
    fresh: bool = False
    seed: bytes = b""
    claim: bytes = b""


@dataclass(frozen=True, slots=True)
class Completed:
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Described:
    """A model as its worker sees it: digest, roots, counts, inputs, operators and outputs (docs/replay.md)."""

    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """Nothing is said about the commitment; ``detail`` is one line."""

    reason: Reason
    detail: str


class Refusal(Exception):
    """A request that ends here with a reason: raised in the worker, becomes ``Inconclusive`` at the parent."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = one_line(detail)


def one_line(text: str, limit: int = 400) -> str:
    """``text`` as one printable line of at most ``limit`` characters: it may come from a hostile process."""
    clean = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
