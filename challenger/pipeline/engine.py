"""The pipeline's one door to the replay engine: facts of a model and input bytes in, roots or a reason out.

Files come through the artefact store (digests verified), execution happens in worker processes; nothing of either
reaches the service as an exception, and a model must first reproduce its registered known answer here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from challenger.domain import Hash32, ModelId, Part, Verdict
from challenger.errors import FetchRefused, OurDoing, OwnDisk, OwnGateways
from challenger.pipeline.judge import Observed, inconclusive, unavailable
from challenger.silence import Refusal, Silence
from challenger.substitution import Substitution
from replay.artifacts import OUR_DISK, REFUSED, SILENT, ArtifactError, ArtifactMismatch, ArtifactReason
from replay.artifacts.routes import host_of
from replay.errors import LayoutError
from replay.generate import asks
from replay.kernels.spec import SPEC_VERSION
from replay.layout import decode_bundle
from replay.sandbox import Completed, Inconclusive, ReplayRequest

#: Bytes of an output bundle that may be a text: no model reads more than 2²⁰ tokens.
MAX_TEXT = (4 << 20) + 64
#: The seed under which a known-answer pair holds.
KNOWN_SEED = bytes(32)
#: Why a fetch failed that says something of whoever should serve the data.
WITHHELD = frozenset(
    {
        ArtifactReason.NOT_FOUND,
        ArtifactReason.UNREACHABLE,
        ArtifactReason.TIMEOUT,
        ArtifactReason.DIGEST,
        ArtifactReason.MANIFEST,
    }
)
#: How it is said that our own gateways gave nothing, our own disk took nothing, or weights of our own are not where we said. It
#: costs no case: what is wanted is looked for until its window closes.
OWN_GATEWAYS, OWN_DISK, OWN_WEIGHTS = OWN = ("gateways", "disk", "our weights")
#: What can be behind an address: the bundle, or what there is in its place.
Lay = Substitution | Silence | Refusal | None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as it is registered."""

    model: ModelId
    uri: str
    file_digest: Hash32
    artefact_root: Hash32
    program_root: Hash32
    spec_version: int
    mode: str
    known_input: bytes
    known_output_root: Hash32


class Files(Protocol):
    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = ...) -> Path: ...

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = ...) -> bytes: ...


class Workers(Protocol):
    async def replay(self, request: ReplayRequest) -> Completed | Inconclusive: ...


class Replays(Protocol):
    """What judging needs: ``Engine``, or the door that another protocol's plugin brings."""

    async def observe(
        self, facts: ModelFacts, data: bytes, backend: str, *, fresh: bool, seed: bytes = b"", claim: bytes = b""
    ) -> Observed | Verdict:
        """Roots of running ``facts`` on ``data``, else INCONCLUSIVE or UNAVAILABLE; raises nothing for what comes from
        outside. ``claim``: the committed output, which may save time and decides nothing."""
        ...

    async def bundle(self, uri: str, root: Hash32, length: int) -> bytes | Lay:
        """The committed data behind ``uri``; what lies in its place where that is not what ``root`` says; that nobody
        answers there, or who does refuses it; None when nothing can be had. Raises OwnDisk, OwnGateways and FetchRefused,
        which are nobody's withholding."""
        ...

    async def weights(self, facts: ModelFacts) -> Verdict | None:
        """Has the model's files brought here; why they cannot be had, None when they are here."""
        ...

    async def text(self, data: bytes, uri: str, root: Hash32, length: int) -> bytes:
        """The committed output where having it saves time, else empty."""
        ...


class Engine:
    """``observe`` never raises for what comes from outside; what it could not do is a Verdict of its own."""

    def __init__(self, files: Files, workers: Workers, *, model_bytes: int, bundle_bytes: int) -> None:
        self._files = files
        self._workers = workers
        self._model_bytes = model_bytes
        self._bundle_bytes = bundle_bytes
        self._known: dict[tuple[ModelId, str], str] = {}

    async def observe(
        self, facts: ModelFacts, data: bytes, backend: str, *, fresh: bool, seed: bytes = b"", claim: bytes = b""
    ) -> Observed | Verdict:
        """Roots of running ``facts`` on the bundle ``data``, else INCONCLUSIVE or UNAVAILABLE(weights). ``seed``: the
        task's, for models that draw; ``claim``: the committed output, which saves time and decides nothing."""
        if facts.mode != "exact":
            return inconclusive(f"mode: {facts.mode} commitments are not judged by this engine yet", backend)
        if facts.spec_version != SPEC_VERSION:
            return inconclusive(f"spec: version {facts.spec_version}, this engine speaks {SPEC_VERSION}", backend)
        fetched = await self._manifest(facts)
        if isinstance(fetched, Verdict):
            return fetched
        failed = await self._known_answer(facts, fetched, backend, fresh=fresh)
        if failed is not None:
            return inconclusive(f"model: {failed}", backend)
        outcome = await self._workers.replay(_request(facts, fetched, data, backend, fresh, seed, claim))
        if isinstance(outcome, Inconclusive):
            return inconclusive(f"{outcome.reason}: {outcome.detail}", backend)
        receipt = outcome.receipt
        return Observed(
            backend,
            Hash32(receipt.input_root),
            Hash32(receipt.output_root),
            Hash32(receipt.state_root),
            dict(receipt.environment),
            receipt.seconds,
            receipt.output,
        )

    async def bundle(self, uri: str, root: Hash32, length: int) -> bytes | Lay:
        """The committed data behind ``uri``; what lies in its place where that is not what ``root`` says; that nobody
        answers there, or who does refuses it; None when it is said that there is nothing.

        A full disk of our own raises OwnDisk, gateways of ours that give nothing OwnGateways, an address or declared size that
        our settings forbid FetchRefused: none of these is anybody's withholding.
        """
        if length > self._bundle_bytes:
            raise FetchRefused(f"{length} bytes are more than replay.input_bytes allows")
        try:
            return await self._files.fetch_bundle(uri, root, length, self._bundle_bytes)
        except ArtifactError as error:
            if error.reason in OUR_DISK:
                raise OwnDisk(str(error)) from error
            large = error.reason is ArtifactReason.SIZE
            if large or error.reason in REFUSED:
                # too much of it is more than a portal of ours would send: the server itself was reached
                meanwhile = error.meanwhile or (host_of(error.uri) if large else "")
                return Refusal(error.detail or error.reason, error.uri, meanwhile, large=large)
            if error.reason is ArtifactReason.GATEWAYS:
                raise OwnGateways(str(error)) from error
            if error.reason not in WITHHELD:
                raise FetchRefused(str(error)) from error
            return Silence(error.uri, error.meanwhile) if error.reason in SILENT else _in_its_place(error)

    async def weights(self, facts: ModelFacts) -> Verdict | None:
        """Has the model's files brought here; why they cannot be had, None when they are here. Of a model that is not run in any
        case nothing is fetched."""
        if facts.mode != "exact" or facts.spec_version != SPEC_VERSION:
            return None  # ``observe`` says so
        found = await self._manifest(facts)
        return found if isinstance(found, Verdict) else None

    async def text(self, data: bytes, uri: str, root: Hash32, length: int) -> bytes:
        """The committed text behind ``uri``, where the bundle ``data`` asks for one and it can be had: shown to ``observe``
        it is read at once in place of being generated token by token. Empty otherwise: whether the text is withheld is
        asked, and counts, after the replay."""
        try:
            wanted = length <= MAX_TEXT and asks(decode_bundle(data))
            found = await self.bundle(uri, root, length) if wanted else b""
            return found if isinstance(found, bytes) else b""
        except (LayoutError, OurDoing):
            return b""

    async def _manifest(self, facts: ModelFacts) -> Path | Verdict:
        try:
            return await self._files.fetch_model(facts.uri, facts.file_digest, self._model_bytes)
        except ArtifactError as error:
            if error.reason in OUR_DISK:
                return inconclusive(f"{OWN_DISK}: {error}", "")
            if error.reason is ArtifactReason.GATEWAYS:
                return inconclusive(f"{OWN_GATEWAYS}: {error}", "")
            if error.reason not in WITHHELD | REFUSED:
                return inconclusive(f"fetch: {error}", "")
            lay = _in_its_place(error)
            return unavailable(f"{Part.WEIGHTS.value}: {error}" if lay is None else lay.detail(Part.WEIGHTS))

    async def _known_answer(self, facts: ModelFacts, manifest: Path, backend: str, *, fresh: bool) -> str | None:
        """Why the registered known answer fails here; None when it holds. A pass is remembered, and so is a wrong
        answer; a worker that died is tried again next time."""
        key = (facts.model, backend)
        if key not in self._known:
            known = _request(facts, manifest, facts.known_input, backend, fresh, KNOWN_SEED)
            outcome = await self._workers.replay(known)
            if isinstance(outcome, Inconclusive):
                return f"its known answer could not be computed, {outcome.reason}: {outcome.detail}"
            same = outcome.receipt.output_root == facts.known_output_root
            self._known[key] = "" if same else "its registered known answer is not what this machine computes"
        return self._known[key] or None


def _in_its_place(error: ArtifactError) -> Substitution | None:
    """What was served instead; an empty file is nothing."""
    if not isinstance(error, ArtifactMismatch) or not error.size:
        return None
    return Substitution(error.size, Hash32(error.served), error.uri)


def _request(
    facts: ModelFacts, manifest: Path, data: bytes, backend: str, fresh: bool, seed: bytes, claim: bytes = b""
) -> ReplayRequest:
    return ReplayRequest(
        manifest=manifest,
        file_digest=facts.file_digest,
        program_root=facts.program_root,
        artefact_root=facts.artefact_root,
        spec_version=facts.spec_version,
        input=data,
        backend=backend,
        fresh=fresh,
        seed=seed,
        claim=claim,
    )
