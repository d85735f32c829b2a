"""Read a recording: everything is hashed before the first line is handed on, and again while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import zstandard

from replay.recording.errors import RecordingDamaged, RecordingMalformed, RecordingTooLarge
from replay.recording.manifest import (
    BYTES,
    LINES,
    MANIFEST,
    MAX_MANIFEST,
    TENSORS,
    Manifest,
    read_manifest,
    strict_json,
)
from replay.recording.places import CHUNK, Place, place

if TYPE_CHECKING:
    from replay.layout import Array

MAX_LINE = 16 << 20  # bytes
#: A tensor part is held in memory as a whole while it is read.
MAX_TENSOR_PART = 1 << 30
#: Memory that a frame may ask of the decompressor: what zstd's levels up to 19 use.
_WINDOW = 1 << 23


def open_recording(path: Path) -> Recording:
    """The recording at ``path`` (a folder or a ``.tar`` file), verified: each part is there with its length and SHA-256, and
    nothing else is. Takes one pass over the stored bytes and constant memory. A context manager.

    Raises ``RecordingError``: ``RecordingUnreadable``, ``RecordingMalformed``, ``RecordingDamaged``,
    ``RecordingTooLarge``, ``RecordingVersion``.
    """
    held = place(Path(path))
    try:
        return Recording(held, _verified(held))
    except BaseException:
        held.close()
        raise


def _verified(held: Place) -> Manifest:
    names = dict(held.names())
    length = names.pop(MANIFEST, None)
    if length is None:
        raise RecordingMalformed(f"it holds no {MANIFEST}")
    if length > MAX_MANIFEST:
        raise RecordingTooLarge(f"the manifest is longer than {MAX_MANIFEST} bytes", part=MANIFEST)
    manifest = read_manifest(b"".join(held.chunks(MANIFEST)))
    for name in names:
        if name not in manifest.parts:
            raise RecordingMalformed("the manifest does not name it", part=name)
    for name, part in manifest.parts.items():
        if name not in names:
            raise RecordingDamaged("it is missing", part=name)
        if names[name] != part.length:
            raise RecordingDamaged(f"it has {names[name]} bytes, the manifest says {part.length}", part=name)
    recording = Recording(held, manifest)
    for name in manifest.parts:
        for _ in recording.raw(name):
            pass
    return manifest


class Recording:
    """A verified recording. Parts are read as often as wanted, one or several at a time, each in constant memory."""

    def __init__(self, held: Place, manifest: Manifest) -> None:
        self._place = held
        self.manifest = manifest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._place.close()

    def raw(self, name: str) -> Iterator[bytes]:
        """The stored bytes of a part, a mebibyte at a time. Raises ``KeyError`` where there is no such part, and
        ``RecordingDamaged`` at the end where the bytes are not the ones the manifest names."""
        part, digest, count = self.manifest.parts[name], sha256(), 0
        for chunk in self._place.chunks(name):
            digest.update(chunk)
            count += len(chunk)
            if count > part.length:
                break
            yield chunk
        if count != part.length or digest.hexdigest() != part.sha256:
            raise RecordingDamaged("its bytes do not have the sha256 that the manifest names", part=name)

    def unpacked(self, name: str) -> Iterator[bytes]:
        """A part's bytes without compression. Raises what ``raw`` raises, ``RecordingMalformed`` for what is no zstd, and
        ``RecordingDamaged`` where there are more or fewer bytes than the manifest says."""
        part = self.manifest.parts[name]
        if part.media == BYTES:
            yield from self.raw(name)
            return
        count = 0
        for data in _decompressed(self.raw(name), name):
            count += len(data)
            if count > part.plain:
                raise RecordingDamaged(f"it unpacks to more than the {part.plain} bytes that it declares", part=name)
            yield data
        if count != part.plain:
            raise RecordingDamaged(f"it unpacks to {count} bytes and declares {part.plain}", part=name)

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The objects of a ``*.jsonl.zst`` part, in order; the last line ends in a newline too. Raises what ``unpacked``
        raises, ``RecordingMalformed`` (with the line's number) for what is no JSON object, ``RecordingTooLarge``."""
        self._wanted(name, LINES)
        number, rest = 0, bytearray()
        for data in self.unpacked(name):
            rest += data
            *whole, tail = bytes(rest).split(b"\n") if b"\n" in data else (bytes(rest),)
            for line in whole:
                number += 1
                yield _object(line, name, number)
            rest = bytearray(tail)
            if len(rest) > MAX_LINE:
                raise RecordingTooLarge(f"a line of more than {MAX_LINE} bytes", part=name, line=number + 1)
        if rest:
            raise RecordingMalformed("the last line has no end", part=name, line=number + 1)

    def tensors(self, name: str) -> dict[str, Array]:
        """The arrays of a ``*.safetensors.zst`` part by name. One part at a time is held in memory (at most 1 GiB).
        Raises what ``unpacked`` raises, ``RecordingMalformed``, ``RecordingTooLarge``."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        part = self._wanted(name, TENSORS)
        if part.plain > MAX_TENSOR_PART:
            raise RecordingTooLarge(f"{part.plain} bytes of tensors, at most {MAX_TENSOR_PART}", part=name)
        data = b"".join(self.unpacked(name))
        try:
            loaded: dict[str, Array] = load(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise RecordingMalformed(f"it is no safetensors file ({type(error).__name__})", part=name) from error
        return loaded

    def _wanted(self, name: str, media: str) -> Any:
        part = self.manifest.parts.get(name)
        if part is None:
            raise RecordingMalformed("the manifest does not name it", part=name)
        if part.media != media:
            raise RecordingMalformed(f"it is {part.media}, not {media}", part=name)
        return part


def _object(line: bytes, name: str, number: int) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise RecordingTooLarge(f"a line of more than {MAX_LINE} bytes", part=name, line=number)
    try:
        value = strict_json(line)
    except (ValueError, RecursionError) as error:
        why = f"it is not JSON, or a key stands twice ({type(error).__name__})"
        raise RecordingMalformed(why, part=name, line=number) from error
    if not isinstance(value, dict):
        raise RecordingMalformed("it is not a JSON object", part=name, line=number)
    return value


def _decompressed(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """What zstd frames hold; at most a mebibyte of output is in memory at a time, whatever a frame says of itself."""
    source = cast("BinaryIO", _Source(chunks))
    opened = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(
        source, read_size=CHUNK, read_across_frames=True
    )
    try:
        while data := opened.read(CHUNK):
            yield data
    except zstandard.ZstdError as error:
        raise RecordingMalformed(f"it is no zstd stream ({str(error)[:80]})", part=name) from error


class _Source:
    """``read`` over chunks: what the decompressor asks of a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._held = chunks, b""

    def read(self, size: int) -> bytes:
        if not self._held:
            self._held = next(self._chunks, b"")
        data, self._held = self._held[:size], self._held[size:]
        return data
