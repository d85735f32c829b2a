"""The door to replays where a protocol registers no weights: an operator's recipes say how a model is run.

Arbius names a model by a template, a piece of JSON about inputs and outputs. Which weights answer it, how the JSON input
becomes tensors, and how what comes out becomes files with names, is an agreement among those who solve; an operator who
wants to judge solutions writes it down as a recipe, with one task whose solution is known. Without a recipe, or with one
whose known task fails here, nothing is said of anybody.

A run's input is the task's id, from which the seed comes, and the requester's bytes; its output root is the digest in the
CID of the folder with the files. There is no state root.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from challenger.chain.hashing import keccak
from challenger.domain import Hash32, ModelId, TaskId, Verdict, VerdictKind
from challenger.pipeline.engine import OWN, OWN_WEIGHTS, Engine, Files, ModelFacts, Workers
from challenger.pipeline.judge import Observed, inconclusive
from challenger.protocols.arbius.cid import foreign, output_root, solution_digest
from challenger.protocols.arbius.seed import seed_word
from replay.artifacts.ipfs.errors import IpfsError
from replay.errors import LayoutError
from replay.kernels.spec import SPEC_VERSION
from replay.layout import decode_bundle, encode_bundle
from replay.sampling import NAME as SAMPLING
from replay.sampling import TOKENS, Sampling
from replay.sandbox import Completed, Described, Inconclusive, ReplayRequest
from replay.shallow import once_each, parse_json

#: The id of a known task that nobody ever submitted.
KNOWN_TASK = TaskId(bytes(32))
_STATE = Hash32(bytes(32))
#: Tokens of one output, in int32.
_MOST_TOKENS = 1 << 20


class Refused(Exception):
    """a recipe has no way from this input, or from this output, on"""


class TextWorkers(Workers, Protocol):
    """Workers that also know a model's own tokenizer."""

    async def encode(self, request: ReplayRequest, text: bytes) -> Described | Inconclusive: ...

    async def decode(self, request: ReplayRequest, ids: Sequence[int]) -> Described | Inconclusive: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """``model`` is answered by the language model at ``uri``, with the digests and roots it has here. ``prompt`` names the
    field of the JSON input that holds the text, ``sampling`` says how the answer is drawn, ``port`` names the tensor of
    token ids, ``file`` what the text is called in the folder. ``known_input``: the JSON of the task ``known_task``,
    of which the solution's digest is ``known_digest``. What an input may have beside the prompt: members ``fixed``, each with
    the one value that the recipe holds for, and members ``ignored``, which say nothing to the model. Whatever else a requester
    asks for, an honest solver may have answered to: there the recipe has no word."""

    model: ModelId
    uri: str
    file_digest: Hash32
    program_root: Hash32
    artefact_root: Hash32
    prompt: str
    file: str
    port: str
    sampling: Sampling
    known_input: bytes
    known_digest: Hash32
    known_task: TaskId = KNOWN_TASK
    fixed: Mapping[str, str | bool | int | float] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    @property
    def facts(self) -> ModelFacts:
        """The weights, as a model of the reference protocol would name them."""
        return ModelFacts(
            self.model,
            self.uri,
            self.file_digest,
            self.artefact_root,
            self.program_root,
            SPEC_VERSION,
            "exact",
            self.known_input,
            self.known_digest,
        )

    @property
    def digest(self) -> str:
        """What a verdict's environment says of it: another recipe, another verdict."""
        drawn = self.sampling.tensor().tolist()
        told = [self.model, self.file_digest, self.program_root, self.artefact_root, self.known_task, self.known_input]
        beside = [sorted(self.fixed.items()), sorted(self.ignored)]
        text = json.dumps([[one.hex() for one in told], self.prompt, self.file, self.port, drawn, beside])
        return sha256(b"recipe/2" + text.encode()).hexdigest()

    def text_of(self, data: bytes) -> bytes:
        """The prompt in a task's input. Raises ``Refused``."""
        try:
            given = parse_json(data, pairs=once_each)
        except ValueError as error:
            raise Refused(f"input: it is no JSON: {error}") from None
        if not isinstance(given, dict) or not isinstance(given.get(self.prompt), str):
            raise Refused(f"input: it has no text under {self.prompt!r}")
        for name in given.keys() - self.ignored - {self.prompt}:
            if name not in self.fixed:
                raise Refused(f"input: it has a member that the recipe has no word of: {name[:80]!r}")
            if not _same(given[name], self.fixed[name]):
                raise Refused(
                    f"input: it asks for another {name} than {self.fixed[name]!r}, which the recipe holds for"
                )
        try:
            return str(given[self.prompt]).encode()
        except UnicodeEncodeError:
            raise Refused(f"input: {self.prompt!r} is no text") from None

    def bundle_of(self, ids: Sequence[int]) -> bytes:
        """The input bundle of a prompt's token ids. Raises ``Refused``."""
        try:
            return encode_bundle({self.port: np.array(ids, np.int32), SAMPLING: self.sampling.tensor()})
        except (LayoutError, OverflowError) as error:
            raise Refused(f"input: {error}") from None

    def tokens_of(self, output: bytes) -> list[int]:
        """Raises ``Refused``: the run came to no text (a logit that is not finite)."""
        try:
            tokens = decode_bundle(output).get(TOKENS)
        except LayoutError as error:
            raise Refused(f"output: {error}") from None
        if tokens is None or tokens.ndim != 1 or len(tokens) > _MOST_TOKENS:
            raise Refused("output: the run came to no text")
        return [int(token) for token in tokens]

    def digest_of(self, text: str, like: Hash32) -> Hash32:
        """Of the folder in which ``text`` lies: ``like`` if that is one of its forms. Raises ``Refused``."""
        try:
            return solution_digest({self.file: text.encode()}, like)
        except (IpfsError, UnicodeEncodeError) as error:
            raise Refused(f"output: {error}") from None


class RecipeEngine(Engine):
    """As ``Engine``, by recipes."""

    def __init__(
        self,
        files: Files,
        workers: TextWorkers,
        recipes: Sequence[Recipe],
        *,
        model_bytes: int,
        bundle_bytes: int,
    ) -> None:
        super().__init__(files, workers, model_bytes=model_bytes, bundle_bytes=bundle_bytes)
        self._texts = workers
        self._recipes = {recipe.model: recipe for recipe in recipes}
        self._held: dict[tuple[ModelId, str], str] = {}

    async def observe(
        self,
        facts: ModelFacts,
        data: bytes,
        backend: str,
        *,
        fresh: bool,
        seed: bytes = b"",  # noqa: ARG002  it stands in ``data``
        claim: bytes = b"",
    ) -> Observed | Verdict:
        """``data``: a task's id and its input; ``claim``: the CID that was committed."""
        recipe = self._recipes.get(facts.model)
        if recipe is None:
            return inconclusive(f"recipe: there is none for model 0x{facts.model.hex()}", backend)
        if len(data) < 32:
            return inconclusive(
                "input: it stands in no call data of the transaction that submitted the task, or the task is older than "
                "the index",
                backend,
            )
        if unsaid := foreign(claim):
            return inconclusive(f"cid: the solution is named in a form that is not computed here: {unsaid}", backend)
        key = (facts.model, backend)
        if key not in self._held:
            asked = recipe.known_task + recipe.known_input
            known = await self._ran(recipe, asked, recipe.known_digest, backend, fresh=fresh)
            if isinstance(known, Verdict):
                if known.detail.startswith(OWN):
                    return known
                return inconclusive(f"model: its known answer could not be computed, {known.detail}", backend)
            same = known.output_root == recipe.known_digest
            self._held[key] = "" if same else "the recipe's known answer is not what this machine computes"
        if why := self._held[key]:
            return inconclusive(f"model: {why}", backend)
        return await self._ran(recipe, data, output_root(claim), backend, fresh=fresh)

    async def weights(self, facts: ModelFacts) -> Verdict | None:
        """As ``Engine.weights``; of a model without a recipe nothing is fetched, and ``observe`` says so."""
        recipe = self._recipes.get(facts.model)
        found = None if recipe is None else await self._brought(recipe)
        return found if isinstance(found, Verdict) else None

    async def text(self, data: bytes, uri: str, root: Hash32, length: int) -> bytes:  # noqa: ARG002
        """No output is ever fetched: the files' CID is computed from our own."""
        return b""

    async def _brought(self, recipe: Recipe) -> Path | Verdict:
        """The model's manifest. The weights are the operator's own: nobody else withholds them."""
        found = await self._manifest(recipe.facts)
        if isinstance(found, Verdict) and found.kind is VerdictKind.UNAVAILABLE:
            return inconclusive(f"{OWN_WEIGHTS}: {found.detail}", "")
        return found

    async def _ran(
        self, recipe: Recipe, data: bytes, claimed: Hash32, backend: str, *, fresh: bool
    ) -> Observed | Verdict:
        manifest = await self._brought(recipe)
        if isinstance(manifest, Verdict):
            return manifest

        def asked(bundle: bytes) -> ReplayRequest:
            return ReplayRequest(
                manifest=manifest,
                file_digest=recipe.file_digest,
                program_root=recipe.program_root,
                artefact_root=recipe.artefact_root,
                spec_version=SPEC_VERSION,
                input=bundle,
                backend=backend,
                fresh=fresh,
                seed=seed_word(TaskId(data[:32])),
            )

        try:
            read = _told(await self._texts.encode(asked(b""), recipe.text_of(data[32:])))
            outcome = await self._workers.replay(asked(recipe.bundle_of(read["ids"])))
            if isinstance(outcome, Inconclusive):
                return inconclusive(f"{outcome.reason}: {outcome.detail}", backend)
            written = _told(await self._texts.decode(asked(b""), recipe.tokens_of(outcome.receipt.output)))
            digest = recipe.digest_of(written["text"], claimed)
        except Refused as error:
            return inconclusive(str(error), backend)
        return _observed(recipe, data, backend, outcome, digest, read["by"])


def _observed(
    recipe: Recipe, data: bytes, backend: str, outcome: Completed, digest: Hash32, tokenizer: str
) -> Observed:
    receipt = outcome.receipt
    environment = dict(receipt.environment) | {"recipe": recipe.digest, "tokenizer": tokenizer}
    return Observed(backend, Hash32(keccak(data)), digest, _STATE, environment, receipt.seconds, receipt.output)


def _same(given: Any, wanted: str | bool | float) -> bool:
    """As JSON has it: 1 is 1.0, and true is neither."""
    return isinstance(given, bool) == isinstance(wanted, bool) and bool(given == wanted)


def _told(answer: Described | Inconclusive) -> Mapping[str, Any]:
    if isinstance(answer, Inconclusive):
        raise Refused(f"{answer.reason}: {answer.detail}")
    return answer.facts
