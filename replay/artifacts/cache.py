"""The folder behind the store: verified objects named by what they are, a size bound, several processes at once.

``objects/ab/<kind>-<hex>`` hold bytes; ``models/<hex>/`` are views, hard links to objects under the names that a
manifest gives them. An inode counts once, its modification time is the time of its last use, and evicting it takes
all its names. Everything here blocks: callers run it in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from replay.artifacts.errors import ArtifactReason, ArtifactStoreFailed, ArtifactTooLarge

Check = Callable[[Path], bool]

#: a temporary file this old (seconds) was left by a process that died
_STALE = 3600.0


@dataclass(slots=True)
class _Inode:
    size: int
    used: float
    names: list[Path] = field(default_factory=list)


class Cache:
    """``max_bytes`` bounds the objects; what was used in the last ``grace`` seconds is never evicted, because
    somebody may be about to open it."""

    def __init__(self, folder: Path, *, max_bytes: int, grace: float, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._grace = grace
        self._clock = clock
        self._verified: dict[Path, tuple[int, ...]] = {}

    def prepare(self) -> None:
        for name in ("objects", "models", "temporary"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def place(self, key: str) -> Path:
        """Where the object ``key`` (``kind-hex``) lies, whether it is there or not."""
        return self._folder / "objects" / key[-2:] / key

    def view(self, hex_digest: str) -> Path:
        folder = self._folder / "models" / hex_digest
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def look_up(self, path: Path, check: Check) -> int | None:
        """The size of ``path`` when it is there and passes ``check``; a damaged one is removed. Marks it as used.

        A file is read again only when its stamps have changed since this process last verified it.
        """
        try:
            if self._verified.get(path) != _stamp(path):
                if not check(path):
                    path.unlink(missing_ok=True)
                    return None
                self._verified[path] = _stamp(path)
            status = path.stat()
            if self._clock() - status.st_mtime > self._grace / 2:
                os.utime(path, (self._clock(), self._clock()))
                self._verified[path] = _stamp(path)
        except FileNotFoundError:
            self._verified.pop(path, None)
            return None
        return status.st_size

    @contextlib.contextmanager
    def temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A file that vanishes unless it was moved away."""
        handle, name = tempfile.mkstemp(dir=self._folder / "temporary")
        try:
            with os.fdopen(handle, "wb") as opened:
                yield Path(name), opened
        finally:
            Path(name).unlink(missing_ok=True)

    def adopt(self, temporary: Path, place: Path) -> None:
        """Give a verified temporary file its name, after making room for it. Raises ``ArtifactTooLarge``."""
        with self._alone():
            place.unlink(missing_ok=True)  # another process had it meanwhile, or it is damaged
            self._make_room(temporary.stat().st_size)
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.utime(temporary, (self._clock(), self._clock()))
            temporary.replace(place)
            self._verified[place] = _stamp(place)

    def link(self, source: Path, name: Path) -> None:
        """Let ``name`` in a view be ``source``: a hard link, or a copy where the file system has none."""
        with contextlib.suppress(FileNotFoundError):
            if name.samefile(source):
                return
        name.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.temporary() as (scratch, _):
            scratch.unlink()
            try:
                os.link(source, scratch)
            except FileNotFoundError:
                raise
            except OSError:
                with self._alone():
                    self._make_room(source.stat().st_size)
                shutil.copyfile(source, scratch)
            scratch.replace(name)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread of one process at a time evicts and adopts."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_room(self, wanted: int) -> None:
        """Evict what was used longest ago until ``wanted`` more bytes fit."""
        inodes = self._inodes()
        total = sum(one.size for one in inodes) + wanted
        now = self._clock()
        for one in sorted(inodes, key=lambda inode: inode.used):
            if total <= self._max_bytes or now - one.used < self._grace:
                break
            for name in one.names:
                name.unlink(missing_ok=True)
                self._verified.pop(name, None)
            total -= one.size
        if total > self._max_bytes:
            raise ArtifactTooLarge(
                ArtifactReason.ROOM,
                f"{wanted} bytes do not fit: the cache may hold {self._max_bytes}, and what is there is in use",
            )

    def _inodes(self) -> list[_Inode]:
        found: dict[tuple[int, int], _Inode] = {}
        for top in ("objects", "models"):
            for folder, _, names in os.walk(self._folder / top):
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        status = path.stat(follow_symlinks=False)
                        inode = found.setdefault(
                            (status.st_dev, status.st_ino), _Inode(status.st_size, status.st_mtime)
                        )
                        inode.names.append(path)
        now = self._clock()
        for path in (self._folder / "temporary").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if now - path.stat().st_mtime > _STALE:
                    path.unlink()
        return list(found.values())


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat(follow_symlinks=False)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def disk_trouble(error: OSError) -> ArtifactStoreFailed:
    """Our own disk's failure, told apart from data that somebody withholds."""
    detail = os.strerror(error.errno) if error.errno else str(error)
    return ArtifactStoreFailed(ArtifactReason.STORE, f"{detail}; check its folder's space and rights")
