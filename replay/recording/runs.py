"""Recorded runs: what the parts of the kind ``runs`` mean (docs/recordings.md, "Runs")."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from replay.artifacts.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, manifest_files
from replay.errors import LayoutError
from replay.layout import Array, bundle_root, decode_bundle, encode_bundle, merkle_root
from replay.plain import open_plain
from replay.recording.errors import RecordingDamaged, RecordingMalformed
from replay.recording.manifest import BYTES, canonical
from replay.recording.places import CHUNK
from replay.recording.reader import Recording
from replay.recording.writer import RecordingWriter
from replay.trace import Receipt

RUNS = "runs"
PART = "runs.jsonl.zst"
#: Tensors of several runs share a part until it holds this many bytes.
_BATCH = 16 << 20
_ROOT = re.compile(r"[0-9a-f]{64}")
_KEYS = {"run", "model", "seed", "tensors", "input", "output", "output_root"}
_OPTIONAL = {"input_root", "state_root", "leaves"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model it was: digest of its manifest, roots of its program and its weights, and what computes them."""

    file_digest: bytes
    program_root: bytes
    artefact_root: bytes
    spec_version: int
    grid: str


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """``input`` and ``output`` are canonical bundles; ``seed`` is empty or 32 bytes. ``leaves`` (first input, last output)
    are empty where somebody wrote the run by hand without them."""

    number: int
    model: Identity
    input: bytes
    seed: bytes
    output: bytes
    leaves: tuple[bytes, ...]
    environment: Mapping[str, str]


class RunRecorder:
    """Adds runs to a recording, as a context manager inside that of its ``writer``. Memory is bounded by 16 MiB of tensors
    and one run."""

    def __init__(self, writer: RecordingWriter) -> None:
        self._writer, self._stack = writer, ExitStack()
        self._count = self._batch = self._held_bytes = 0
        self._held: dict[str, Array] = {}
        self._embedded: set[bytes] = set()

    def __enter__(self) -> Self:
        self._add = self._stack.enter_context(self._writer.lines(PART))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._stack.__exit__(kind, error, at)

    def add(self, model: Identity, data: bytes, seed: bytes, receipt: Receipt) -> None:
        """One run on the bundle ``data``. Its environment stands beside what is hashed: equal runs have equal entries."""
        number, part = self._count, f"tensors/{self._batch:06d}.safetensors.zst"
        sides = {"input": decode_bundle(data), "output": decode_bundle(receipt.output)}
        entry: dict[str, Any] = {
            "run": number,
            "model": {
                "file_digest": model.file_digest.hex(),
                "program_root": model.program_root.hex(),
                "artefact_root": model.artefact_root.hex(),
                "spec": model.spec_version,
                "grid": model.grid,
            },
            "seed": seed.hex(),
            "tensors": part,
            **{side: list(arrays) for side, arrays in sides.items()},
            "input_root": receipt.input_root.hex(),
            "output_root": receipt.output_root.hex(),
            "state_root": receipt.state_root.hex(),
            "leaves": [leaf.hex() for leaf in receipt.leaves],
        }
        told = {"entry": entry, "sha256": sha256(canonical(entry)).hexdigest()}
        self._add({**told, "environment": dict(receipt.environment)})
        for side, arrays in sides.items():
            for name, array in arrays.items():
                self._held[f"{number}.{side}.{name}"] = array
                self._held_bytes += array.nbytes
        self._count += 1
        if self._held_bytes >= _BATCH:
            self._flush()

    def embed(self, manifest: Path) -> None:
        """The model's own files go into the recording, so that it can be verified by itself."""
        digest = sha256(_manifest(manifest)).digest()
        if digest not in self._embedded:
            self._embedded.add(digest)
            embed_model(self._writer, manifest)

    def _flush(self) -> None:
        if self._held:
            self._writer.tensors(f"tensors/{self._batch:06d}.safetensors.zst", self._held)
            self._batch, self._held, self._held_bytes = self._batch + 1, {}, 0


def recorded_runs(recording: Recording) -> Iterator[RecordedRun]:
    """The runs in order, each checked against its own roots; the tensors of one part are in memory at a time.

    Raises ``RecordingMalformed``, ``RecordingDamaged``, and what ``Recording.lines`` and ``Recording.tensors`` raise.
    """
    if PART not in recording.manifest.parts:
        raise RecordingMalformed("it is no recording of runs")
    held, arrays = "", {}
    for number, line in enumerate(recording.lines(PART), 1):
        try:
            entry = _entry(line)
            if entry["tensors"] != held:
                held = entry["tensors"]
                arrays = recording.tensors(held)
            yield _run(entry, arrays, line.get("environment", {}))
        except _Bad as error:
            raise RecordingMalformed(str(error), part=PART, line=number) from error
        except _Differs as error:
            raise RecordingDamaged(str(error), part=PART, line=number) from error


def embed_model(writer: RecordingWriter, manifest: Path) -> bytes:
    """Writes a model's own files into the recording; gives the SHA-256 of its manifest. Raises ``OSError``."""
    data = _manifest(manifest)
    digest = sha256(data).digest()
    writer.raw(_inside(digest, MANIFEST_NAME), [data])
    for name in manifest_files(data):
        with open_plain(manifest.parent / name) as opened:
            writer.raw(_inside(digest, name), iter(partial(opened.read, CHUNK), b""))
    return digest


def unpack_model(recording: Recording, digest: bytes, folder: Path) -> Path | None:
    """The embedded model written into ``folder`` (which is made); its manifest's path, None where it is not embedded."""
    prefix = _inside(digest, "")
    names = [name for name, part in recording.manifest.parts.items() if name.startswith(prefix) and part.media == BYTES]
    if prefix + MANIFEST_NAME not in names:
        return None
    folder.mkdir(parents=True)
    for name in names:
        with (folder / name.removeprefix(prefix)).open("xb") as target:
            for chunk in recording.raw(name):
                target.write(chunk)
    return folder / MANIFEST_NAME


class _Bad(Exception):
    pass


class _Differs(Exception):
    pass


def _manifest(path: Path) -> bytes:
    with open_plain(path) as opened:
        return opened.read(MAX_MANIFEST_BYTES + 1)


def _inside(digest: bytes, name: str) -> str:
    return f"model/{digest.hex()}/{name}"


def _entry(line: dict[str, Any]) -> dict[str, Any]:
    entry = line.get("entry")
    if not isinstance(entry, dict) or not set(line) <= {"entry", "sha256", "environment"}:
        raise _Bad("a run is an entry, and beside it at most sha256 and environment")
    if not set(entry) >= _KEYS or not set(entry) <= _KEYS | _OPTIONAL:
        raise _Bad(f"an entry's keys are {', '.join(sorted(_KEYS))} and at most {', '.join(sorted(_OPTIONAL))}")
    if "sha256" in line and line["sha256"] != sha256(canonical(entry)).hexdigest():
        raise _Differs("the entry does not have the sha256 beside it")
    environment = line.get("environment", {})
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise _Bad("the environment is no object of texts")
    if type(entry["run"]) is not int or entry["run"] < 0 or not isinstance(entry["tensors"], str):
        raise _Bad('"run" is a number from 0, "tensors" a part\'s name')
    return entry


def _run(entry: dict[str, Any], arrays: Mapping[str, Array], environment: Mapping[str, str]) -> RecordedRun:
    number, model, seed = entry["run"], entry["model"], entry["seed"]
    if not isinstance(model, dict) or set(model) != {"file_digest", "program_root", "artefact_root", "spec", "grid"}:
        raise _Bad("a model's keys are artefact_root, file_digest, grid, program_root, spec")
    if type(model["spec"]) is not int or not isinstance(model["grid"], str):
        raise _Bad('"spec" is a number, "grid" a text')
    data, output = (_bundle(entry, arrays, side) for side in ("input", "output"))
    leaves = entry.get("leaves", [])
    if not isinstance(leaves, list):
        raise _Bad('"leaves" is no list')
    leaves = tuple(_root(leaf, "leaves") for leaf in leaves)
    roots = {"input_root": bundle_root(data), "output_root": bundle_root(output)}
    if leaves:
        if len(leaves) < 2 or (leaves[0], leaves[-1]) != tuple(roots.values()):
            raise _Differs("the leaves do not begin with the input's root and end with the output's")
        roots["state_root"] = merkle_root(leaves)
    for key, computed in roots.items():
        if key in entry and _root(entry[key], key) != computed:
            raise _Differs(f"the {key} is not that of the recorded tensors")
    if seed != "":
        _root(seed, "seed")
    roots_of = {key: _root(model[key], key) for key in ("file_digest", "program_root", "artefact_root")}
    identity = Identity(**roots_of, spec_version=model["spec"], grid=model["grid"])
    return RecordedRun(number, identity, data, bytes.fromhex(seed), output, leaves, environment)


def _bundle(entry: dict[str, Any], arrays: Mapping[str, Array], side: str) -> bytes:
    names = entry[side]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _Bad(f'"{side}" is no list of names')
    keys = {name: f"{entry['run']}.{side}.{name}" for name in names}
    missing = [key for key in keys.values() if key not in arrays]
    if missing:
        raise _Bad(f"{ascii(entry['tensors'])[:80]} holds no tensor {ascii(missing[0])[:80]}")
    try:
        return encode_bundle({name: arrays[key] for name, key in keys.items()})
    except LayoutError as error:
        raise _Bad(f"the {side} is no bundle: {error.detail}") from error


def _root(text: Any, key: str) -> bytes:
    if not isinstance(text, str) or not _ROOT.fullmatch(text):
        raise _Bad(f'"{key}" is not 64 lower-case hex digits')
    return bytes.fromhex(text)
