"""What ``manifest.json`` says. Pure: bytes to values and back; one reader for each version that ever was.

Canonical JSON: sorted keys, no spaces, UTF-8 without escapes. ``digest`` is the SHA-256 of the canonical manifest
without the key ``digest``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from replay.recording.errors import RecordingDamaged, RecordingMalformed, RecordingTooLarge, RecordingVersion
from replay.shallow import parse_json

FORMAT = "inference-recording"
VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST = 16 << 20  # bytes
MAX_PARTS = 1 << 16
MAX_KINDS = 16
#: Bytes of one part, as stored and as it is when unpacked.
MAX_STORED = 1 << 33
MAX_PLAIN = 1 << 38
LINES = "application/jsonl+zstd"
TENSORS = "application/safetensors+zstd"
BYTES = "application/octet-stream"
#: Media type → how the name of such a part ends.
MEDIA: Mapping[str, str] = {LINES: ".jsonl.zst", TENSORS: ".safetensors.zst", BYTES: ""}
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,63}/){0,2}[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
MAX_NAME = 100  # what a ustar header holds
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a recording. ``length`` and ``sha256`` (hex) are those of the stored bytes, ``plain`` is the length unpacked."""

    name: str
    media: str
    length: int
    sha256: str
    plain: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """``kinds``: what is recorded ("runs", "chain"); ``creator``: the program that wrote it and its version; ``digest``:
    the recording's identity (hex), which every stored byte hangs on."""

    version: int
    kinds: tuple[str, ...]
    creator: str
    parts: Mapping[str, Part]
    digest: str


def canonical(document: Any) -> bytes:
    """The one way to write a JSON value. Raises ``ValueError`` for NaN and infinities."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def strict_json(raw: bytes) -> Any:
    """JSON with neither equal keys nor NaN nor more than 64 levels. Raises ``ValueError``, ``RecursionError``."""
    return parse_json(raw, _once)


def write_manifest(kinds: Sequence[str], creator: str, parts: Sequence[Part]) -> bytes:
    """The bytes of a manifest of the newest version."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kinds": list(kinds),
        "creator": creator,
        "parts": [
            {"name": p.name, "media": p.media, "length": p.length, "sha256": p.sha256, "plain": p.plain} for p in parts
        ],
    }
    made = canonical({**document, "digest": sha256(canonical(document)).hexdigest()})
    read_manifest(made)  # what this writer writes, this reader reads
    return made


def read_manifest(raw: bytes) -> Manifest:
    """Raises ``RecordingMalformed``, ``RecordingDamaged``, ``RecordingTooLarge``, ``RecordingVersion``."""
    if len(raw) > MAX_MANIFEST:
        raise RecordingTooLarge(f"the manifest is longer than {MAX_MANIFEST} bytes", part=MANIFEST)
    try:
        document = strict_json(raw)
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is not JSON, or a key stands twice ({type(error).__name__})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _bad(f'"format" is not "{FORMAT}"')
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise _bad('"version" is not a positive integer')
    if version not in _READERS:
        raise RecordingVersion(f"{version}; known are {', '.join(map(str, _READERS))}", part=MANIFEST)
    return _READERS[version](document)


def _version_1(document: dict[str, Any]) -> Manifest:
    if set(document) != {"format", "version", "kinds", "creator", "parts", "digest"}:
        raise _bad("its keys are not creator, digest, format, kinds, parts, version")
    digest = document.pop("digest")
    try:
        computed = sha256(canonical(document)).hexdigest()
    except ValueError as error:  # lone surrogates, NaN
        raise _bad("it has no canonical form") from error
    if digest != computed:
        raise RecordingDamaged("the manifest's digest differs from its contents", part=MANIFEST)
    kinds, creator, listed = document["kinds"], document["creator"], document["parts"]
    good = isinstance(kinds, list) and 1 <= len(kinds) <= MAX_KINDS
    if not good or not all(isinstance(kind, str) and _KIND.fullmatch(kind) for kind in kinds):
        raise _bad('"kinds" is not a list of short names')
    if not isinstance(creator, str) or not creator.isprintable() or len(creator) > 200:
        raise _bad('"creator" is not a short printable text')
    if not isinstance(listed, list):
        raise _bad('"parts" is not a list')
    if len(listed) > MAX_PARTS:
        raise RecordingTooLarge(f"{len(listed)} parts, at most {MAX_PARTS} are accepted", part=MANIFEST)
    parts = {}
    for entry in listed:
        part = _part(entry)
        if part.name in parts:
            raise _bad(f"the part {part.name} is named twice")
        parts[part.name] = part
    return Manifest(1, tuple(kinds), creator, parts, digest)


def _part(entry: Any) -> Part:
    if not isinstance(entry, dict) or set(entry) != {"name", "media", "length", "sha256", "plain"}:
        raise _bad("a part's keys are not length, media, name, plain, sha256")
    name, media, digest = entry["name"], entry["media"], entry["sha256"]
    if not isinstance(name, str) or not usable_name(name):
        raise _bad(f"{ascii(name)[:120]} is no usable name of a part")
    if not isinstance(media, str) or media not in MEDIA or not name.endswith(MEDIA[media]):
        raise _bad(f"the part {name} has no known media type, or a name of another one")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _bad(f"the sha256 of {name} is not 64 lower-case hex digits")
    for key, limit in (("length", MAX_STORED), ("plain", MAX_PLAIN)):
        if type(entry[key]) is not int or entry[key] < 0:
            raise _bad(f"the {key} of {name} is not a number of bytes")
        if entry[key] >= limit:
            raise RecordingTooLarge(f"a {key} of {entry[key]} bytes, fewer than {limit} are accepted", part=name)
    if media == BYTES and entry["plain"] != entry["length"]:
        raise _bad(f"{name} is stored as it is, yet its two lengths differ")
    return Part(name, media, entry["length"], digest, entry["plain"])


def usable_name(name: str) -> bool:
    """A plain relative name: up to two folders, no dots in front, at most 100 characters, and not the manifest's."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None and name != MANIFEST


#: Version → its reader. A new version adds a row and keeps the rows above it; a committed fixture of each proves it.
_READERS: Mapping[int, Callable[[dict[str, Any]], Manifest]] = {1: _version_1}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _bad(detail: str) -> RecordingMalformed:
    return RecordingMalformed(detail, part=MANIFEST)
