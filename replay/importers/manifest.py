"""Model folders: a manifest names the files and their digests; nothing is handed on before its digest is verified.

``{"files":{"model.onnx":"<sha256 hex>"},"format":"onnx"}``: canonical JSON (sorted keys, no spaces, UTF-8), and
``"grid":"lo"`` (or ``"hi"``, as without it) behind it: the bit budgets of linear operators. The file digest of a model is
the SHA-256 of these bytes. Files lie beside the manifest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from replay.artifacts.errors import ArtifactMismatch
from replay.artifacts.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, manifest_files
from replay.errors import FileMismatch, LimitExceeded, MalformedFile, ManifestRefused
from replay.kernels import spec
from replay.plain import NotPlain, open_plain
from replay.shallow import parse_json

Format = Literal["onnx", "bert", "gpt2", "llama"]

_CHECKPOINT: Mapping[str, int] = {"config.json": 1 << 20, "model.safetensors": 4 << 30, "tokenizer.json": 64 << 20}

#: File name → largest size accepted, in bytes. A format's files are exactly these.
FILES: Mapping[str, Mapping[str, int]] = {
    "onnx": {"model.onnx": 512 << 20},
    **dict.fromkeys(("bert", "gpt2", "llama"), _CHECKPOINT),
}


@dataclass(frozen=True)
class ModelFiles:
    """Verified contents of a model folder. ``digests``: the SHA-256 (hex) of each file; ``grid``: as a program has it."""

    format: Format
    files: Mapping[str, bytearray]
    digests: Mapping[str, str]
    grid: str = spec.GRIDS[0]


def read_manifest(path: Path, file_digest: bytes | None = None) -> ModelFiles:
    """The verified files of the model at ``path``.

    Raises ``ManifestRefused``, ``FileMismatch`` (a digest differs), ``LimitExceeded``, ``MalformedFile`` (a file is
    missing or no plain file).
    """
    data = bytes(read_plain(path, MAX_MANIFEST_BYTES))
    if file_digest is not None and sha256(data).digest() != file_digest:
        raise FileMismatch("the manifest's digest differs", file=path.name, wanted=file_digest.hex())
    try:
        wanted = manifest_files(data)
    except ArtifactMismatch as error:
        raise ManifestRefused(error.detail) from error
    document = parse_json(data)
    kind = document.get("format")
    if not isinstance(kind, str) or kind not in FILES:
        raise ManifestRefused(f"the format {str(kind)[:32]!r} is none of {', '.join(FILES)}")
    if not {"files", "format"} <= set(document) <= {"files", "format", "grid"} or set(wanted) != set(FILES[kind]):
        raise ManifestRefused(f"a manifest of format {kind} names {', '.join(FILES[kind])} and nothing else")
    grid = document.get("grid", spec.GRIDS[0])
    if grid not in spec.GRIDS:
        raise ManifestRefused(f"the grid {str(grid)[:32]!r} is none of {', '.join(spec.GRIDS)}")
    if data != _canonical(document):
        raise ManifestRefused("the manifest is not canonical JSON (sorted keys, no spaces)")
    files = {}
    for name, digest in wanted.items():
        files[name] = read_plain(path.parent / name, FILES[kind][name])
        if sha256(files[name]).digest() != digest:
            raise FileMismatch("the file's digest differs", file=name, wanted=digest.hex())
    known: Format = next(name for name in get_args(Format) if name == kind)
    return ModelFiles(known, files, {name: digest.hex() for name, digest in wanted.items()}, grid)


def write_manifest(
    folder: Path,
    format: Format,  # noqa: A002 - the manifest's own word
    files: Iterable[str],
    grid: str | None = None,
) -> Path:
    """Write ``manifest.json`` over files that already lie in ``folder``; atomic. Returns its path.

    ``grid``: ``hi`` or ``lo``; None leaves the key out, which means ``hi``. Raises ``ManifestRefused``.
    """
    digests = {}
    for name in files:
        with (folder / name).open("rb") as stream:
            digest = sha256()
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        digests[name] = digest.hexdigest()
    if set(digests) != set(FILES[format]):
        raise ManifestRefused(f"a manifest of format {format} names {', '.join(FILES[format])} and nothing else")
    if grid is not None and grid not in spec.GRIDS:
        raise ManifestRefused(f"the grid {grid[:32]!r} is none of {', '.join(spec.GRIDS)}")
    path = folder / MANIFEST_NAME
    draft = folder / f".{MANIFEST_NAME}.{os.getpid()}"
    draft.write_bytes(_canonical({"files": digests, "format": format} | ({} if grid is None else {"grid": grid})))
    draft.replace(path)
    return path


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_plain(path: Path, limit: int) -> bytearray:
    """A plain file's bytes, its size checked before anything is allocated. Raises ``MalformedFile``, ``LimitExceeded``."""
    try:
        with open_plain(path) as stream:
            status = os.fstat(stream.fileno())
            if status.st_size > limit:
                raise LimitExceeded(f"{status.st_size} bytes, at most {limit} are accepted", file=path.name)
            data = bytearray(status.st_size)
            filled = stream.readinto(data)
            if filled != status.st_size or stream.read(1):
                raise MalformedFile("the file changed while it was read", file=path.name)
    except NotPlain as error:
        raise MalformedFile("not a plain file", file=path.name) from error
    except OSError as error:
        raise MalformedFile(f"cannot be read ({error.strerror})", file=path.name) from error
    return data
