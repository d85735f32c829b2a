"""Where a recording's files lie: in a folder, or in a tar file. Both give a name's bytes and never follow a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from replay.plain import open_plain
from replay.recording.errors import RecordingMalformed, RecordingTooLarge, RecordingUnreadable
from replay.recording.manifest import MAX_PARTS, MAX_STORED

CHUNK = 1 << 20
_BLOCK = 512


class Place(Protocol):
    def names(self) -> Mapping[str, int]:
        """Every file with its length in bytes."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """The stored bytes of a file that ``names`` told, a mebibyte at a time."""

    def close(self) -> None: ...


def place(path: Path) -> Place:
    """Raises ``RecordingUnreadable``, ``RecordingMalformed``, ``RecordingTooLarge``."""
    try:
        return Folder(path) if path.is_dir() else TarFile(path)
    except OSError as error:
        raise RecordingUnreadable(f"{path}: {error.strerror}") from error


class Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._names = dict(self._walk(root, ""))

    def _walk(self, folder: Path, prefix: str, depth: int = 0) -> Iterator[tuple[str, int]]:
        if depth > 2:
            raise RecordingMalformed("a folder in a folder in a folder", part=prefix)
        count = 0
        with os.scandir(folder) as entries:
            for entry in entries:
                count += 1
                if count > MAX_PARTS + 1:
                    raise RecordingTooLarge(f"more than {MAX_PARTS} files", part=prefix)
                name, state = prefix + entry.name, entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(state.st_mode):
                    yield from self._walk(Path(entry.path), f"{name}/", depth + 1)
                elif stat.S_ISREG(state.st_mode):
                    yield name, state.st_size
                else:
                    raise RecordingMalformed("a link, a pipe or a device", part=name)

    def names(self) -> Mapping[str, int]:
        return self._names

    def chunks(self, name: str) -> Iterator[bytes]:
        try:
            with open_plain(self._root / name) as opened:
                while chunk := opened.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise RecordingUnreadable(str(error.strerror), part=name) from error

    def close(self) -> None:
        """Nothing is held open."""


class TarFile:
    """An uncompressed tar file of plain files with names of at most 100 characters (ustar, or GNU's within those bounds).
    Everything else a tar can hold (links, devices, extended headers) is refused."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = open_plain(path)
        try:
            self._places = dict(self._index(os.fstat(self._file.fileno()).st_size))
        except BaseException:
            self._file.close()
            raise

    def _index(self, size: int) -> Iterator[tuple[str, tuple[int, int]]]:
        at, seen = 0, set()
        while True:
            self._file.seek(at)
            block = self._file.read(_BLOCK)
            if len(block) < _BLOCK:
                raise RecordingMalformed(f"the tar file ends early, at byte {at}")
            if block == bytes(_BLOCK):
                break
            name, length, folder = _member(block, at)
            at += _BLOCK
            if not folder:
                if name in seen:
                    raise RecordingMalformed("it stands twice in the tar file", part=name)
                seen.add(name)
                if len(seen) > MAX_PARTS + 1:
                    raise RecordingTooLarge(f"more than {MAX_PARTS} files")
                yield name, (at, length)
            at += -(-length // _BLOCK) * _BLOCK
            if at > size:
                raise RecordingMalformed("it reaches beyond the tar file's end", part=name)
        self._file.seek(at)
        while rest := self._file.read(CHUNK):
            if rest.strip(b"\0"):
                raise RecordingMalformed(f"bytes behind the tar file's end mark, from byte {at}")

    def names(self) -> Mapping[str, int]:
        return {name: length for name, (_, length) in self._places.items()}

    def chunks(self, name: str) -> Iterator[bytes]:
        at, left = self._places[name]
        while left:
            self._file.seek(at)  # two parts may be read in turns
            chunk = self._file.read(min(CHUNK, left))
            if not chunk:
                raise RecordingUnreadable("the file became shorter while it was read", part=name)
            at, left = at + len(chunk), left - len(chunk)
            yield chunk

    def close(self) -> None:
        self._file.close()


def _member(block: bytes, at: int) -> tuple[str, int, bool]:
    """(name, length, whether it is a folder) of a tar header (POSIX.1-1988, "ustar")."""
    try:
        name = block[:100].rstrip(b"\0").decode("ascii").removeprefix("./")
        length = int(block[124:136].strip(b" \0") or b"0", 8)
        total = int(block[148:156].strip(b" \0"), 8)
    except ValueError as error:
        raise RecordingMalformed(f"no tar header at byte {at}") from error
    if total != sum(block[:148]) + sum(block[156:]) + 8 * 0x20:
        raise RecordingMalformed(f"the tar header at byte {at} has a wrong checksum")
    kind = block[156:157]
    prefix = block[345:500].strip(b"\0") if block[257:263] == b"ustar\0" else b""
    if kind not in (b"0", b"\0", b"5") or prefix or (kind == b"5" and length):
        raise RecordingMalformed("a link, a device or an extended header in the tar file", part=name)
    if length >= MAX_STORED:
        raise RecordingTooLarge(f"{length} bytes", part=name)
    return name, length, kind == b"5"
