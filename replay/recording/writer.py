"""Write a recording: streamed into a draft beside its place, which takes its name when all is there, or vanishes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import zstandard

from replay.recording.errors import RecordingExists, RecordingMalformed, RecordingTooLarge
from replay.recording.manifest import (
    BYTES,
    LINES,
    MANIFEST,
    MAX_PARTS,
    MEDIA,
    TENSORS,
    Part,
    canonical,
    usable_name,
    write_manifest,
)
from replay.recording.places import CHUNK
from replay.recording.reader import MAX_LINE, MAX_TENSOR_PART

if TYPE_CHECKING:
    from replay.layout import Array

_LEVEL = 6
_BLOCK = 512


class RecordingWriter:
    """A context manager that makes ``path``: a tar file where the name ends in ``.tar``, else a folder.

    ``kinds``: what is recorded. Nothing is at ``path`` until the block has ended well; after an exception nothing is left.
    Memory does not grow with the recording, but for a record of each part. Raises ``RecordingExists`` where something
    is at ``path``, and ``OSError``.

    >>> with RecordingWriter(path, ["runs"]) as writer, writer.lines("runs.jsonl.zst") as add:  # doctest: +SKIP
    ...     add({"entry": {}})
    """

    def __init__(self, path: Path, kinds: Sequence[str]) -> None:
        self._path, self._kinds = Path(path), tuple(kinds)
        self._parts: dict[str, Part] = {}
        self._draft = Path()

    def __enter__(self) -> Self:
        if os.path.lexists(self._path):
            raise RecordingExists(f"{self._path} is there already")
        self._draft = Path(tempfile.mkdtemp(dir=self._path.parent, prefix=f".{self._path.name}."))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._draft, ignore_errors=True)

    @contextmanager
    def lines(self, name: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """A function that adds an object as a line of canonical JSON to the part ``name`` (``*.jsonl.zst``). It raises
        ``RecordingTooLarge``, and ``ValueError`` or ``TypeError`` for what JSON cannot say."""
        with self._part(name, LINES) as write:

            def add(value: Mapping[str, Any]) -> None:
                line = canonical(value)
                if len(line) > MAX_LINE:
                    raise RecordingTooLarge(f"a line of more than {MAX_LINE} bytes", part=name)
                write(line + b"\n")

            yield add

    def tensors(self, name: str, arrays: Mapping[str, Array]) -> None:
        """The part ``name`` (``*.safetensors.zst``) of arrays by name. Raises ``RecordingTooLarge``."""
        import numpy as np
        from safetensors.numpy import save

        if sum(array.nbytes for array in arrays.values()) > MAX_TENSOR_PART - (16 << 20):
            raise RecordingTooLarge(f"more than {MAX_TENSOR_PART} bytes of tensors: write several parts", part=name)
        with self._part(name, TENSORS) as write:
            write(save({key: np.ascontiguousarray(array) for key, array in arrays.items()}))

    def raw(self, name: str, chunks: Iterable[bytes]) -> None:
        """The part ``name`` of bytes as they are."""
        with self._part(name, BYTES) as write:
            for chunk in chunks:
                write(chunk)

    @contextmanager
    def _part(self, name: str, media: str) -> Iterator[Callable[[bytes], None]]:
        if not usable_name(name) or not name.endswith(MEDIA[media]):
            raise RecordingMalformed(f"no usable name for {media}", part=name)
        if name in self._parts or len(self._parts) >= MAX_PARTS:
            raise RecordingMalformed("written already, or one part too many", part=name)
        self._parts[name] = Part(name, media, 0, "", 0)  # taken, also while it is open
        target = self._draft / name
        target.parent.mkdir(parents=True, exist_ok=True)
        counted = 0
        with target.open("xb") as stored:
            sink = _Hashed(stored)
            packer = None if media == BYTES else zstandard.ZstdCompressor(level=_LEVEL).compressobj()

            def write(data: bytes) -> None:
                nonlocal counted
                counted += len(data)
                sink.write(data if packer is None else packer.compress(data))

            yield write
            if packer is not None:
                sink.write(packer.flush())
            stored.flush()
            os.fsync(stored.fileno())
        self._parts[name] = Part(name, media, sink.length, sink.digest.hexdigest(), counted)

    def _finish(self) -> None:
        manifest = write_manifest(
            self._kinds, f"inference-challenger {version('inference-challenger')}", list(self._parts.values())
        )
        (self._draft / MANIFEST).write_bytes(manifest)
        if os.path.lexists(self._path):
            raise RecordingExists(f"{self._path} is there already")
        if self._path.suffix != ".tar":
            self._draft.chmod(0o755)
            self._draft.replace(self._path)  # fails where a folder with files came in between
            return
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(handle, "wb") as tar:
                for part in (MANIFEST, *self._parts):
                    _pack(tar, self._draft / part, part)
                tar.write(bytes(2 * _BLOCK))
                tar.flush()
                os.fsync(tar.fileno())
            Path(name).chmod(0o644)
            _place(Path(name), self._path)
        finally:
            Path(name).unlink(missing_ok=True)


def _place(draft: Path, path: Path) -> None:
    """A link never takes the place of a file that came in between; a file system without links gets a rename."""
    try:
        path.hardlink_to(draft)
    except FileExistsError as error:
        raise RecordingExists(f"{path} is there already") from error
    except OSError:
        draft.replace(path)


class _Hashed:
    """Bytes on their way to a file, counted and hashed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.length = file, sha256(), 0

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self.length += len(data)
        self._file.write(data)


def _pack(tar: BinaryIO, source: Path, name: str) -> None:
    """One file as ustar has it: equal contents make equal tar files, whoever packs them and when."""
    length = source.stat().st_size
    head = bytearray(_BLOCK)
    head[: len(name)] = name.encode()
    head[100:108], head[108:116], head[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    head[124:136], head[136:148] = b"%011o\0" % length, b"00000000000\0"
    head[156:157], head[257:265] = b"0", b"ustar\00000"
    head[148:156] = b"%06o\0 " % (sum(head) + 8 * 0x20)
    tar.write(head)
    with source.open("rb") as opened:
        shutil.copyfileobj(opened, tar, CHUNK)
    tar.write(bytes(-length % _BLOCK))
