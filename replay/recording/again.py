"""Record runs anew over an older recording of them: beside it first, then in its place, one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from replay.artifacts.manifest import MANIFEST_NAME
from replay.recording.errors import RecordingError, RecordingExists, RecordingUnreadable
from replay.recording.manifest import TENSORS
from replay.recording.reader import Recording, open_recording
from replay.recording.runs import PART, RUNS, Identity, RecordedRun, RunRecorder, recorded_runs
from replay.recording.verify import Replays, compare
from replay.recording.writer import RecordingWriter


@dataclass(frozen=True, slots=True)
class Job:
    """What is run: a bundle, and a seed of 32 bytes where it asks for a generation."""

    input: bytes
    seed: bytes = b""


@dataclass(frozen=True, slots=True)
class Recorded:
    """``written``: false where what stood there was the same, so that nothing was touched. ``digest``: the recording's."""

    written: bool
    runs: int
    digest: str


def record_again(
    path: Path, manifest: Path, replays: Replays, jobs: Sequence[Job] | None = None, *, embed: bool = True
) -> Recorded:
    """Makes ``path`` a recording of the model ``manifest`` on ``jobs`` (None: on those that it holds already). ``embed``:
    with the model's files. Of several processes that do this at once the first writes, and the others find it done.

    A folder is exchanged in two steps, a tar file in one. Raises ``RecordingExists`` where something stands that is not
    a sound recording of runs, ``RecordingUnreadable`` where nothing stands and no jobs are given, ``ReplayError`` where
    the model cannot be run, ``OSError``.
    """
    path = path.resolve()  # a link stays one
    with _alone(path.parent), ExitStack() as stack:
        old = _standing(path, stack) if os.path.lexists(path) else None
        if old is None and jobs is None:
            raise RecordingUnreadable(f"{path.name}: nothing is there, and no inputs are given to record")
        identity = replays.identity(manifest)
        if old is not None and (count := _same(old, jobs, identity, manifest, replays, embed=embed)):
            return Recorded(written=False, runs=count, digest=old.manifest.digest)
        beside = Path(stack.enter_context(TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")))
        count = _write(beside / path.name, manifest, identity, replays, _jobs(old, jobs), embed=embed)
        with open_recording(beside / path.name) as made:
            digest = made.manifest.digest
        _exchange(beside, path)
    return Recorded(written=True, runs=count, digest=digest)


def _write(
    path: Path, manifest: Path, identity: Identity, replays: Replays, jobs: Iterable[Job], *, embed: bool
) -> int:
    count = 0
    with RecordingWriter(path, [RUNS]) as writer, RunRecorder(writer) as recorder:
        if embed:
            recorder.embed(manifest)
        for count, job in enumerate(jobs, 1):
            recorder.add(identity, job.input, job.seed, replays.replay(manifest, _as_run(count, identity, job)))
    return count


def _standing(path: Path, stack: ExitStack) -> Recording:
    """What may be replaced: nothing but a sound recording of runs is ever written over."""
    try:
        old = stack.enter_context(open_recording(path))
    except RecordingUnreadable:
        raise
    except RecordingError as error:
        raise RecordingExists(f"{path.name} is no sound recording: remove it first ({error})") from error
    parts = old.manifest.parts
    more = [n for n, part in parts.items() if n != PART and part.media != TENSORS and not n.startswith("model/")]
    if old.manifest.kinds != (RUNS,) or more:
        raise RecordingExists(f"{path.name} holds more than runs: it is not made anew")
    return old


def _same(
    old: Recording, jobs: Sequence[Job] | None, identity: Identity, manifest: Path, replays: Replays, *, embed: bool
) -> int:
    """How many runs stand there, if what stands there is what would be written; else 0."""
    if embed != (f"model/{identity.file_digest.hex()}/{MANIFEST_NAME}" in old.manifest.parts):
        return 0
    count = 0
    for run in recorded_runs(old):
        if jobs is not None and (count >= len(jobs) or jobs[count] != Job(run.input, run.seed)):
            return 0
        if compare(run, identity, replays.replay(manifest, run)).differs:
            return 0
        count += 1
    return count if jobs is None or count == len(jobs) else 0


def _jobs(old: Recording | None, jobs: Sequence[Job] | None) -> Iterable[Job]:
    if jobs is not None:
        return jobs
    return () if old is None else (Job(run.input, run.seed) for run in recorded_runs(old))


def _as_run(number: int, identity: Identity, job: Job) -> RecordedRun:
    return RecordedRun(number - 1, identity, job.input, job.seed, b"", (), {})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder's own lock: it leaves nothing behind, and the kernel takes it back from a process that dies."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _exchange(beside: Path, path: Path) -> None:
    draft, aside = beside / path.name, beside / "old"
    if not path.is_dir():
        draft.replace(path)
        return
    path.replace(aside)  # a folder with files cannot be replaced by another one in a single step
    try:
        draft.replace(path)
    except OSError:
        aside.replace(path)
        raise
