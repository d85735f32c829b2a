"""``replay record`` and ``replay verify-recording``: runs happen in confined workers, the recording is written here."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from replay.cli import Failure
from replay.cli.commands import asked_for, asks_for_text, described, within_limits
from replay.errors import ReplayError
from replay.kernels.spec import SPEC_VERSION
from replay.recording import RecordingError, RecordingWriter, open_recording
from replay.recording.runs import RUNS, Identity, RecordedRun, RunRecorder
from replay.recording.verify import verify
from replay.sandbox import Inconclusive, Receipt, ReplayPool, ReplayRequest


def record(options: argparse.Namespace) -> int:
    try:
        with RecordingWriter(options.out, [RUNS]) as writer, RunRecorder(writer) as recorder:
            if options.with_model:
                recorder.embed(options.manifest)
            count = within_limits(options, lambda pool, opts: _record(pool, opts, recorder))
        with open_recording(options.out) as made:
            told = {"recording": str(options.out), "runs": count, "digest": made.manifest.digest}
    except RecordingError as error:
        raise Failure(str(error), error.reason) from error
    except ReplayError as error:
        raise Failure(str(error), "model-refused") from error
    except OSError as error:
        raise Failure(f"{options.out} cannot be written: {error.strerror}", "unwritable") from error
    print(json.dumps(told) if options.json else f"{count} runs in {options.out}, digest {told['digest']}")
    return 0


async def _record(pool: ReplayPool, options: argparse.Namespace, recorder: RunRecorder) -> int:
    identity = _identity(await described(pool, options, options.backend))
    for path in options.inputs:
        request = await asked_for(pool, argparse.Namespace(**{**vars(options), "input": path, "text": None}))
        seed = request.seed if asks_for_text(request.input) else b""
        recorder.add(identity, request.input, seed, await _replayed(pool, request))
    return len(options.inputs)


def verify_recording(options: argparse.Namespace) -> int:
    return within_limits(options, _verify)


async def _verify(pool: ReplayPool, options: argparse.Namespace) -> int:
    return await asyncio.to_thread(_compared, _Workers(pool, options.backend), options)


def _compared(workers: _Workers, options: argparse.Namespace) -> int:
    """Each run as it is compared: a line for a person, or one JSON object at the end."""
    rows: list[dict[str, Any]] = []
    runs = 0
    try:
        with open_recording(options.recording) as recording:
            for outcome in verify(recording, workers, options.model, explain=not options.no_explain):
                runs += 1
                if outcome:
                    continue
                rows.append(asdict(outcome))
                if not options.json:
                    print(f"run {outcome.run} differs: {', '.join(outcome.differs)}")
                    print("".join(f"  {line}\n" for line in outcome.explanation), end="")
    except RecordingError as error:
        raise Failure(str(error), error.reason) from error
    except ReplayError as error:
        raise Failure(str(error), "model-refused") from error
    if options.json:
        print(json.dumps({"runs": runs, "differing": rows}))
    elif not rows:
        print(f"{runs} runs, each the same bit for bit")
    return 1 if rows else 0


class _Workers:
    """``verify.Replays`` from another thread than the pool's loop."""

    def __init__(self, pool: ReplayPool, backend: str) -> None:
        self._pool, self._backend, self._loop = pool, backend, asyncio.get_running_loop()

    def identity(self, manifest: Path) -> Identity:
        request = ReplayRequest(manifest, None, None, None, SPEC_VERSION, b"", self._backend)
        described = asyncio.run_coroutine_threadsafe(self._pool.describe(request), self._loop).result()
        if isinstance(described, Inconclusive):
            raise Failure(f"{described.reason}: {described.detail}", described.reason)
        return _identity(described.facts)

    def replay(self, manifest: Path, run: RecordedRun) -> Receipt:
        request = ReplayRequest(manifest, None, None, None, SPEC_VERSION, run.input, self._backend, seed=run.seed)
        return asyncio.run_coroutine_threadsafe(_replayed(self._pool, request), self._loop).result()


async def _replayed(pool: ReplayPool, request: ReplayRequest) -> Receipt:
    outcome = await pool.replay(request)
    if isinstance(outcome, Inconclusive):
        raise Failure(f"{outcome.reason}: {outcome.detail}", outcome.reason)
    return outcome.receipt


def _identity(facts: dict[str, Any]) -> Identity:
    digest, program, artefact = (bytes.fromhex(facts[k]) for k in ("file_digest", "program_root", "artefact_root"))
    return Identity(digest, program, artefact, facts["spec_version"], facts["grid"])


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"record": record, "verify-recording": verify_recording}
