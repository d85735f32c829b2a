"""Run recorded runs again and compare bit for bit; say where two runs part, in words."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np

from replay.errors import LayoutError, ReplayError
from replay.layout import decode_bundle
from replay.localise import Divergence, Refuted, first_difference, localise
from replay.model import load_model
from replay.plain import open_plain
from replay.recording.errors import RecordingMalformed
from replay.recording.reader import Recording
from replay.recording.runs import Identity, RecordedRun, recorded_runs, unpack_model
from replay.run import Prepared, prepare
from replay.trace import Receipt, claimed_tokens, commit
from replay.witness import Witness


class Replays(Protocol):
    """What loads a model and runs it: this process, or a confined worker."""

    def identity(self, manifest: Path) -> Identity: ...

    def replay(self, manifest: Path, run: RecordedRun) -> Receipt: ...


class InProcess:
    """Models are loaded and run here: for a recording and a model that are one's own."""

    def __init__(self, backend: str = "numpy") -> None:
        self._backend, self._held = backend, dict[Path, Prepared]()

    def prepared(self, manifest: Path) -> Prepared:
        if manifest not in self._held:
            self._held = {manifest: prepare(load_model(manifest), self._backend)}  # one model in memory
        return self._held[manifest]

    def identity(self, manifest: Path) -> Identity:
        model = self.prepared(manifest).model
        program = model.program
        with open_plain(manifest) as opened:
            digest = sha256(opened.read()).digest()
        return Identity(digest, program.root, model.artefact_root, program.spec_version, program.grid)

    def replay(self, manifest: Path, run: RecordedRun) -> Receipt:
        return commit(self.prepared(manifest), decode_bundle(run.input), seed=run.seed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run compared. ``differs`` is empty where every bit agrees; else what differs ("model", "input", "output",
    "state"). ``explanation``: lines for a person; ``divergence``: the place, where it was found, and ``recorded`` and
    ``here`` the two values there, as bits and as numbers."""

    run: int
    differs: tuple[str, ...] = ()
    explanation: tuple[str, ...] = ()
    divergence: Divergence | None = None
    recorded: str = ""
    here: str = ""

    def __bool__(self) -> bool:
        return not self.differs


def verify(
    recording: Recording, replays: Replays, model: Path | None = None, *, explain: bool = True
) -> Iterator[Outcome]:
    """Each recorded run, run again. ``model``: the manifest of the model to run; without it the embedded one.
    ``explain``: load both models in this process and look for the first operator, tile and element that differ.

    Raises ``RecordingError``, and ``ReplayError`` where a model cannot be loaded or run.
    """
    with TemporaryDirectory(prefix="recording-") as folder:
        unpacked: dict[bytes, Path | None] = {}
        known: dict[Path, Identity] = {}
        for run in recorded_runs(recording):
            digest = run.model.file_digest
            if digest not in unpacked:
                unpacked[digest] = unpack_model(recording, digest, Path(folder) / digest.hex())
            manifest = model or unpacked[digest]
            if manifest is None:
                raise RecordingMalformed(f"the model of run {run.number} is not embedded: name its folder")
            if manifest not in known:
                known[manifest] = replays.identity(manifest)
            outcome = compare(run, known[manifest], replays.replay(manifest, run))
            if outcome.differs and explain:
                outcome = explained(run, outcome, manifest, unpacked[digest])
            yield outcome


def compare(run: RecordedRun, model: Identity, receipt: Receipt) -> Outcome:
    """Pure: what differs, as far as roots and outputs tell."""
    differs, lines = [], []
    for key in Identity.__slots__:
        was, now = getattr(run.model, key), getattr(model, key)
        if was != now:
            differs = ["model"]
            lines.append(f"the model is another: {key} {_short(was)} recorded, {_short(now)} here")
    if run.output != receipt.output:
        differs.append("output")
        lines.append(first_element(run.output, receipt.output))
    leaf = first_difference(receipt.leaves, run.leaves) if run.leaves else None
    if leaf is not None:
        if leaf < len(run.leaves) - 1:
            differs.append("input" if leaf == 0 else "state")
        lines.append(f"the first state leaf that differs is {leaf} of 0 to {len(run.leaves) - 1}")
    return Outcome(run.number, tuple(differs), tuple(lines))


def explained(run: RecordedRun, outcome: Outcome, now: Path, then: Path | None) -> Outcome:
    """The outcome with the first operator, tile and element, where the recorded model is at hand to be asked."""
    if then is None or then == now or not run.leaves or not {"output", "state"} & set(outcome.differs):
        return outcome
    inputs = decode_bundle(run.input)
    theirs = Witness(prepare(load_model(then), "numpy"), inputs, run.seed)
    mine = Witness(prepare(load_model(now), "numpy"), inputs, run.seed, claimed_tokens(run.output))
    try:
        found = localise(mine, theirs, theirs.state.root, theirs.output)
    except Refuted as refuted:  # two programs of different shape: there is no common place
        return _with(outcome, None, f"the place cannot be found: {refuted.where}")
    except ReplayError as error:
        return _with(outcome, None, f"the place cannot be found: {error}")
    if found is None:
        return outcome
    tensor = mine.tensor(found.operator) if 0 <= found.operator < len(mine.program.operators) else None
    kind = "" if tensor is None else tensor.dtype.str.lstrip("<|")
    recorded, here = _value(found.theirs, kind), _value(found.mine, kind)
    words = f"{place_in_words(found)}: {recorded} recorded, {here} here" + (f" ({found.note})" if found.note else "")
    return replace(_with(outcome, found, f"first at {words}"), recorded=recorded, here=here)


def place_in_words(found: Divergence) -> str:
    """``operator 2 (linear, value h), tile 0, element 7``."""
    place = f"operator {found.operator} ({found.kind}" + (f", value {found.value})" if found.value else ")")
    place += f", tile {found.tile}" if found.tile >= 0 else ""
    return place + (f", element {found.element}" if found.element >= 0 else "")


def first_element(recorded: bytes, computed: bytes) -> str:
    """Where two output bundles differ, in words."""
    was, now = decode_bundle(recorded), decode_bundle(computed)
    if list(was) != list(now):
        return f"the outputs are {', '.join(now)}, recorded are {', '.join(was)}"
    for name, one in was.items():
        other = now[name]
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"output {name} is {other.dtype}{list(other.shape)}, recorded is {one.dtype}{list(one.shape)}"
        width = one.dtype.itemsize
        left, right = (np.frombuffer(x.tobytes(), np.uint8).reshape(-1, width) for x in (one, other))
        rows = np.flatnonzero((left != right).any(axis=1))
        if len(rows):
            at, kind = int(rows[0]), one.dtype.str.lstrip("<|")
            bits = [_value(x[at].tobytes()[::-1].hex(), kind) for x in (left, right)]
            return f"output {name} differs in {len(rows)} of {one.size}, first element {at}: {bits[0]} recorded, {bits[1]} here"
    raise LayoutError("the two outputs are equal")


def _with(outcome: Outcome, found: Divergence | None, line: str) -> Outcome:
    return replace(outcome, explanation=(*outcome.explanation, line), divergence=found)


def _value(bits: str, kind: str) -> str:
    """Bits (hex, big endian) with the number they are."""
    forms = {"f4": ">f", "i4": ">i", "i8": ">q"}
    if kind not in forms or len(bits) != 2 * struct.calcsize(forms[kind]):
        return bits or "nothing"
    (number,) = struct.unpack(forms[kind], bytes.fromhex(bits))
    return f"{bits} ({np.float32(number)!s})" if kind == "f4" else f"{bits} ({number})"


def _short(value: object) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)
