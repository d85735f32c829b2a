"""What a worker does with a request: check everything that was promised about the model, then execute.

Runs inside the worker only. torch is loaded by the backends that need it, and to be measured against.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from replay.artifacts.manifest import MAX_MANIFEST_BYTES
from replay.errors import (
    BackendRefused,
    FileMismatch,
    InputRejected,
    LayoutError,
    ModelRefused,
    ProgramError,
    UnknownBackend,
)
from replay.kernels.spec import SPEC_VERSION
from replay.plain import open_plain
from replay.sandbox.outcome import Reason, Refusal
from replay.trace import Receipt

if TYPE_CHECKING:
    from replay.run import Prepared

_Value = TypeVar("_Value")
_REASONS: tuple[tuple[type[Exception], Reason], ...] = (
    (FileMismatch, Reason.MODEL_DIGEST),
    (ModelRefused, Reason.MODEL_REJECTED),
    (ProgramError, Reason.MODEL_REJECTED),
    (InputRejected, Reason.INPUT_REJECTED),
    (LayoutError, Reason.INPUT_REJECTED),
    (BackendRefused, Reason.BACKEND_REFUSED),
    (UnknownBackend, Reason.BACKEND_REFUSED),
)


class Engine(Protocol):
    """What the worker's loop needs. Raises ``Refusal``; anything else is a crash, ``MemoryError`` is memory."""

    def start(self, backend: str, models: int) -> None:
        """Load the libraries and prove the backend by its known answers."""

    def replay(self, header: dict[str, Any], data: bytes) -> Receipt: ...

    def describe(self, header: dict[str, Any]) -> dict[str, Any]: ...

    def encode(self, header: dict[str, Any], data: bytes) -> dict[str, Any]:
        """``{"ids":…, "by":…}`` of a text in UTF-8, by the model's own tokenizer: see ``tokens.Encoded``."""

    def decode(self, header: dict[str, Any], data: bytes) -> dict[str, Any]:
        """``{"text":…}`` of ids, each four bytes, little endian."""

    def bench(self, header: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Times beside ordinary torch: see ``replay.bench``."""


class ModelEngine:
    """Holds the models prepared last, so that a warm worker pays for importing and gridding once."""

    def __init__(self) -> None:
        self._backend = ""
        self._most = 1
        self._models: OrderedDict[bytes, Prepared] = OrderedDict()

    def start(self, backend: str, models: int) -> None:
        from replay.run import prove

        _told(lambda: prove(backend))
        self._backend, self._most = backend, models

    def replay(self, header: dict[str, Any], data: bytes) -> Receipt:
        from replay.layout import decode_bundle
        from replay.trace import commit

        prepared = self._promised(header)
        size, seed = int(header["input_bytes"]), bytes.fromhex(header["seed"])
        inputs = _told(lambda: decode_bundle(data[:size]))
        return _told(lambda: commit(prepared, inputs, seed=seed, claim=data[size:]))

    def describe(self, header: dict[str, Any]) -> dict[str, Any]:
        prepared = self._promised(header)
        model, program = prepared.model, prepared.model.program
        return {
            "file_digest": _digest(Path(str(header["manifest"]))).hex(),
            "program_root": model.program_root.hex(),
            "artefact_root": model.artefact_root.hex(),
            "artefact_tiles": model.artefact_tiles,
            "boundaries": model.boundaries,
            "spec_version": program.spec_version,
            "grid": program.grid,
            "tokenizer": program.tokenizer,
            "symbols": dict(program.symbols),
            "inputs": [{"name": port.name, "type": str(port.type)} for port in program.inputs],
            "weights": [{"name": w.name, "type": f"{w.dtype}{list(w.shape)}", "form": w.form} for w in program.weights],
            "operators": [
                {
                    "kind": op.kind,
                    "inputs": list(op.inputs),
                    "weights": list(op.weights),
                    "attributes": {key: list(v) if isinstance(v, tuple) else v for key, v in op.attributes.items()},
                    "output": op.output,
                    "type": str(program.types[op.output]),
                    "boundary": op.output in program.boundaries,
                }
                for op in program.operators
            ],
            "outputs": [{"name": result.name, "value": result.value} for result in program.outputs],
        }

    def encode(self, header: dict[str, Any], data: bytes) -> dict[str, Any]:
        from replay import tokens

        path, digest = self._named(header)
        return _told(lambda: tokens.encode(path, digest, data.decode()))._asdict()

    def decode(self, header: dict[str, Any], data: bytes) -> dict[str, Any]:
        from replay import tokens

        path, digest = self._named(header)
        ids = [id_ for (id_,) in struct.iter_unpack("<i", data)]
        return {"text": _told(lambda: tokens.decode(path, digest, ids))}

    @staticmethod
    def _named(header: dict[str, Any]) -> tuple[Path, bytes]:
        """The manifest and its digest, which is the one promised."""
        path = Path(str(header["manifest"]))
        digest = _digest(path)
        _agree(Reason.MODEL_DIGEST, "manifest's SHA-256", digest, header["file_digest"])
        return path, digest

    def bench(self, header: dict[str, Any], data: bytes) -> dict[str, Any]:
        from replay.bench import compare
        from replay.layout import decode_bundle

        path, digest = self._named(header)
        inputs = _told(lambda: decode_bundle(data))
        return _told(lambda: compare(path, digest, self._backend, inputs, int(header["rounds"])))

    def _promised(self, header: dict[str, Any]) -> Prepared:
        """The prepared model, every promise in ``header`` kept: version, digest, program, artefact, in this order."""
        if header["spec_version"] != SPEC_VERSION:
            raise Refusal(
                Reason.SPEC_VERSION, f"spec version {header['spec_version']!r}, this engine computes {SPEC_VERSION}"
            )
        path, digest = self._named(header)
        prepared = self._models.get(digest) or self._load(path, digest)
        self._models.move_to_end(digest)
        _agree(Reason.PROGRAM_MISMATCH, "program root", prepared.model.program_root, header["program_root"])
        _agree(Reason.ARTEFACT_MISMATCH, "artefact root", prepared.model.artefact_root, header["artefact_root"])
        return prepared

    def _load(self, path: Path, digest: bytes) -> Prepared:
        from replay.model import load_model
        from replay.run import prepare

        while len(self._models) >= self._most:
            self._models.popitem(last=False)
        try:
            model = _told(lambda: load_model(path, digest))
        except (Refusal, MemoryError):
            raise
        except Exception as error:  # a file that an importer did not expect is the file's fault, and says so
            raise Refusal(Reason.MODEL_REJECTED, f"the importer stumbled: {type(error).__name__}: {error}") from error
        prepared = self._models[digest] = _told(lambda: prepare(model, self._backend))
        return prepared


def _digest(path: Path) -> bytes:
    try:
        with open_plain(path) as opened:
            data = opened.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise Refusal(Reason.MODEL_REJECTED, f"the manifest {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise Refusal(Reason.MODEL_REJECTED, f"the manifest {path} is longer than {MAX_MANIFEST_BYTES} bytes")
    return sha256(data).digest()


def _agree(reason: Reason, what: str, got: bytes, promised: str | None) -> None:
    if promised is not None and promised != got.hex():
        raise Refusal(reason, f"the {what} is {got.hex()}, not {promised}")


def _told(act: Callable[[], _Value]) -> _Value:
    """The value of ``act``; the engine's own errors become refusals with their reason."""
    try:
        return act()
    except tuple(kind for kind, _ in _REASONS) as error:
        reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
        raise Refusal(reason, str(error)) from error
