"""What a store must know of a model manifest: which files it names, and under which digests."""

from __future__ import annotations

import re

from replay.artifacts.errors import ArtifactMismatch, ArtifactReason
from replay.shallow import once_each, parse_json

MAX_MANIFEST_BYTES = 64 * 1024
MAX_FILES = 64
MANIFEST_NAME = "manifest.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def manifest_files(data: bytes) -> dict[str, bytes]:
    """The files that a manifest names, with the SHA-256 of each (32 bytes).

    A name is plain: letters, digits, ``._-``, no separator, no leading dot, and not the manifest's own.
    Raises ``ArtifactMismatch`` (reason ``manifest``) when ``data`` is not such a manifest.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise _bad(f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes")
    try:
        document = parse_json(data, once_each)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the manifest is not JSON ({type(error).__name__})") from error
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, dict) or not 1 <= len(files) <= MAX_FILES:
        raise _bad(f'"files" must name 1 to {MAX_FILES} files')
    wanted = {}
    for name, digest in files.items():
        if not _NAME.fullmatch(name) or name == MANIFEST_NAME:
            raise _bad(f"file name {name[:80]!r} is not a plain name")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise _bad(f"the digest of {name!r} is not 64 lower-case hex digits")
        wanted[name] = bytes.fromhex(digest)
    return wanted


def _bad(detail: str) -> ArtifactMismatch:
    return ArtifactMismatch(ArtifactReason.MANIFEST, detail)
