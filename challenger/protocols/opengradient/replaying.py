"""Inferences run again: the model's bytes by the CID under which it is registered, run in the sandbox on our numerics.

Nothing here judges: what comes out is our outputs, or why there are none and whether that says something of anybody.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from weakref import WeakValueDictionary

import numpy as np

from challenger.errors import OwnDisk
from challenger.protocols.opengradient.join import Inference
from challenger.protocols.opengradient.numbers import NumberRefused, NumberTensor, decode_tensor, decode_whole
from challenger.protocols.opengradient.wire import ModelInput
from replay.artifacts import ArtifactError, ArtifactReason
from replay.errors import LayoutError
from replay.importers.manifest import write_manifest
from replay.kernels.spec import SPEC_VERSION
from replay.layout import Array, decode_bundle, encode_bundle
from replay.sandbox import Completed, Described, Inconclusive, ReplayRequest

_FILE = "model.onnx"
#: Names that our importer gives where the graph's own are not to be kept.
_OURS = re.compile(r"(input|output)\d+")
#: No gateway has the model, or those that have one have another. Any other reason may be ours.
_NONE, _OTHER = ArtifactReason.NOT_FOUND, ArtifactReason.DIGEST


class Models(Protocol):
    """Where model files come from, each checked against its CID."""

    async def fetch_cid(self, uri: str, max_bytes: int = ...) -> Path: ...


class Workers(Protocol):
    async def replay(self, request: ReplayRequest) -> Completed | Inconclusive: ...
    async def describe(self, request: ReplayRequest) -> Described | Inconclusive: ...


@dataclass(frozen=True, slots=True)
class Ran:
    """Our outputs by the graph's names, in its order; ``backend``: what computed them."""

    outputs: Mapping[str, Array]
    backend: str


class Lack(StrEnum):
    """What every gateway that was asked says of a model."""

    NOWHERE = "model-unavailable"
    OTHER_BYTES = "model-differs"


_LACKS = {
    Lack.NOWHERE: "no gateway has it",
    Lack.OTHER_BYTES: "gateways serve other bytes under its CID",
}


@dataclass(frozen=True, slots=True)
class NotRun:
    """``lack``: that the model could not be had, for a reason that is not ours; ``told``: what was said of it, in full."""

    why: str
    lack: Lack | None = None
    told: str = ""


class Replayer:
    """An async context manager. ``folder``: where models lie while it lasts, on the disk of the store that has them;
    ``model_bytes`` bounds a model file."""

    def __init__(self, models: Models, workers: Workers, folder: Path, *, model_bytes: int) -> None:
        self._models = models
        self._workers = workers
        self._parent = folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._bytes = model_bytes
        self._had: dict[str, Path | NotRun] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        self._parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="opengradient-", dir=self._parent)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    async def run(self, inference: Inference, backend: str, *, fresh: bool = False) -> Ran | NotRun:
        """``fresh``: in a process of its own. ``OwnDisk`` where this machine has no place for the model."""
        given = inference.input
        if given is None:
            return NotRun("its input is not on chain")
        manifest = await self._model(inference.model)
        if isinstance(manifest, NotRun):
            return manifest
        asked = ReplayRequest(
            manifest=manifest,
            file_digest=sha256(await asyncio.to_thread(_read, manifest)).digest(),
            program_root=None,
            artefact_root=None,
            spec_version=SPEC_VERSION,
            input=b"",
            backend=backend,
            fresh=fresh,
        )
        described = await self._workers.describe(asked)
        if isinstance(described, Inconclusive):
            return NotRun(f"{described.reason}: {described.detail}")
        try:
            data = bundle(given, described.facts["inputs"])
        except Unfit as unfit:
            return NotRun(str(unfit))
        done = await self._workers.replay(replace(asked, input=data))
        if isinstance(done, Inconclusive):
            return NotRun(f"{done.reason}: {done.detail}")
        return Ran(decode_bundle(done.receipt.output), backend)

    async def _model(self, cid: str) -> Path | NotRun:
        """Its manifest, in a folder with the file; one at a time prepares it. That it cannot be had is remembered as long as
        this lasts; trouble of our own is not, and whoever waited tries again."""
        async with self._locks.setdefault(cid, asyncio.Lock()):
            if cid not in self._had:
                self._had[cid] = await self._fetched(cid)
            return self._had[cid]

    async def _fetched(self, cid: str) -> Path | NotRun:
        assert self._folder is not None, "it is entered"
        try:
            file = await self._models.fetch_cid(f"ipfs://{cid}", self._bytes)
        except ArtifactError as error:
            lack = _lack(error)
            return NotRun(_LACKS[lack] if lack else f"model: {error}", lack, str(error))
        return await asyncio.to_thread(_placed, file, Path(self._folder.name))


def _lack(error: ArtifactError) -> Lack | None:
    if error.reason is _NONE:
        return Lack.NOWHERE
    return Lack.OTHER_BYTES if _OTHER in error.faults <= {_NONE, _OTHER} else None


def _placed(file: Path, parent: Path) -> Path:
    try:
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            os.link(file, folder / _FILE)
        except OSError:  # another disk, or one without links
            shutil.copyfile(file, folder / _FILE)
        return write_manifest(folder, "onnx", [_FILE])
    except OSError as error:
        raise OwnDisk(str(error)) from error


def _read(manifest: Path) -> bytes:
    try:
        return manifest.read_bytes()
    except OSError as error:
        raise OwnDisk(str(error)) from error


class Unfit(Exception):
    """The chain's input is not one of this model."""


def bundle(given: ModelInput, ports: Any) -> bytes:
    """The input as the engine takes it. ``ports``: the model's inputs, each with ``name`` and ``type``."""
    if given.strings:
        raise Unfit("input: it has strings, which this engine does not run")
    names = [str(port["name"]) for port in ports]
    held = paired([tensor.name for tensor in given.numbers], names)
    if held is None:
        raise Unfit(f"input: it holds {[t.name for t in given.numbers]!r}, the model wants {names!r}"[:300])
    tensors = {port["name"]: _array(given.numbers[at], str(port["type"])) for port, at in zip(ports, held, strict=True)}
    try:
        return encode_bundle(tensors)
    except LayoutError as error:
        raise Unfit(f"input: {error}") from error


def paired(given: list[str], wanted: list[str]) -> list[int] | None:
    """For each of ``wanted`` its place in ``given``: by name, or by order where the importer had to give all names itself.
    None where they do not fit."""
    if sorted(given) == sorted(wanted) and len(set(given)) == len(given):
        return [given.index(name) for name in wanted]
    if len(given) == len(wanted) and all(_OURS.fullmatch(name) for name in wanted):
        return list(range(len(given)))
    return None


def _array(tensor: NumberTensor, kind: str) -> Array:
    dtype = kind.partition("[")[0]
    try:
        if dtype == "float32":
            return decode_tensor(tensor)
        whole = decode_whole(tensor)
    except NumberRefused as error:
        raise Unfit(f"input: {tensor.name!r}: {error}") from error
    if whole is None:
        raise Unfit(f"input: {tensor.name!r} holds no whole numbers, the model wants {dtype}")
    made: Array = whole.astype(np.dtype("int32" if dtype == "bool" else dtype))
    if not (made == whole).all():
        raise Unfit(f"input: {tensor.name!r} does not fit {dtype}")
    return made
