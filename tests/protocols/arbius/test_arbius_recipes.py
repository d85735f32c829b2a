"""A model by its recipe: a JSON input to a folder's CID, in the sandbox; and everything that leads to no verdict at all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from challenger.chain.hashing import keccak
from challenger.domain import Hash32, ModelId, TaskId, Verdict, VerdictKind
from challenger.errors import ConfigError
from challenger.pipeline.engine import OWN, ModelFacts
from challenger.pipeline.judge import Observed, judge
from challenger.pipeline.recipes import KNOWN_TASK, Recipe, RecipeEngine
from challenger.plugins.arbius_options import read_options
from challenger.plugins.registry import plugin
from challenger.protocols.arbius.cid import output_root, solution_digest
from challenger.protocols.arbius.seed import seed_word
from challenger.sim.gpt.text import decode, encode
from challenger.sim.models import gpt_model
from replay.artifacts import ArtifactError, ArtifactMissing, ArtifactReason, ArtifactTooLarge
from replay.artifacts.ipfs.build import KUBO, KUBO_2025, KUBO_RAW, KUBO_V1, Profile, directory_cid
from replay.artifacts.ipfs.cid import DAG_PB, Cid
from replay.generate import generate, read_job
from replay.layout import decode_bundle, encode_bundle
from replay.model import load_model
from replay.run import prepare
from replay.sampling import TOKENS, Sampling
from replay.sandbox import Limits, ReplayPool

MODEL = ModelId(b"\x0a" * 32)
PROMPT = b'{"prompt":"A module can be "}'
TASK = TaskId(b"\x05" * 32)
DRAWN = Sampling(12, temperature=800_000, top_k=20)
ZERO = Hash32(bytes(32))


class Folder:
    """The one model, whatever is asked for."""

    def __init__(self, manifest: Path) -> None:
        self._manifest = manifest

    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = 0) -> Path:
        return self._manifest

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 0) -> bytes:
        raise AssertionError("an Arbius solution is never fetched")


def answer(manifest: Path, data: bytes) -> Hash32:
    return solution_digest({"out-1.txt": answer_text(manifest, data)})


def answer_text(manifest: Path, data: bytes) -> bytes:
    """What a solver comes to, by another way: the model in this process, its text by the simulation's own table."""
    model = load_model(manifest, sha256(manifest.read_bytes()).digest())
    ids = encode(json.loads(data[32:])["prompt"])
    asked = encode_bundle({"input_ids": np.array(ids, np.int32), "sampling": DRAWN.tensor()})
    prepared = prepare(model, "numpy")
    run = generate(prepared, read_job(model.program, decode_bundle(asked), seed_word(TaskId(data[:32]))))
    return decode(int(token) for token in run.outputs[TOKENS]).encode()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt_model(tmp_path_factory.mktemp("gpt"))


@pytest.fixture(scope="module")
def recipe(manifest: Path) -> Recipe:
    digest = sha256(manifest.read_bytes()).digest()
    model = load_model(manifest, digest)
    return Recipe(
        model=MODEL,
        uri=manifest.as_uri(),
        file_digest=Hash32(digest),
        program_root=Hash32(model.program_root),
        artefact_root=Hash32(model.artefact_root),
        prompt="prompt",
        file="out-1.txt",
        port="input_ids",
        sampling=DRAWN,
        known_input=PROMPT,
        known_digest=answer(manifest, KNOWN_TASK + PROMPT),
    )


@pytest.fixture
async def pool() -> AsyncIterator[ReplayPool]:
    async with ReplayPool(limits=Limits(memory_bytes=1 << 30, wall_seconds=60, cpu_seconds=60)) as made:
        yield made


def facts(model: ModelId = MODEL) -> ModelFacts:
    """As Arbius registers a model: with nothing but its name."""
    return ModelFacts(model, "", ZERO, ZERO, ZERO, 0, "exact", b"", ZERO)


def engine(manifest: Path, pool: ReplayPool, *recipes: Recipe) -> RecipeEngine:
    return RecipeEngine(Folder(manifest), pool, recipes, model_bytes=1 << 30, bundle_bytes=1 << 20)


def said(seen: Observed | Verdict) -> str:
    assert isinstance(seen, Verdict)
    assert seen.kind is VerdictKind.INCONCLUSIVE
    return seen.detail


async def test_a_right_solution_and_a_wrong_one(manifest: Path, recipe: Recipe, pool: ReplayPool) -> None:
    door = engine(manifest, pool, recipe)
    data = TASK + PROMPT
    right = answer(manifest, data)
    seen = await door.observe(facts(), data, "numpy", fresh=False)
    assert isinstance(seen, Observed)
    assert seen.environment["recipe"] == recipe.digest
    assert seen.environment["tokenizer"] == "characters"
    assert judge(Hash32(keccak(data)), right, ZERO, seen).kind is VerdictKind.VALID
    wrong = judge(Hash32(keccak(data)), recipe.known_digest, ZERO, seen)
    assert (wrong.kind, wrong.detail) == (VerdictKind.FRAUD, "output")
    # the seed is the task's: another task with the same prompt has another answer
    other = await door.observe(facts(), KNOWN_TASK + PROMPT, "numpy", fresh=False)
    assert isinstance(other, Observed)
    assert other.output_root == recipe.known_digest != right


@pytest.mark.parametrize(
    "why",
    [
        ArtifactMissing(ArtifactReason.GATEWAYS, "unreachable"),
        ArtifactMissing(ArtifactReason.TIMEOUT, "not within 60 s"),
        ArtifactTooLarge(ArtifactReason.ROOM, "all of it is in use"),
    ],
    ids=["gateways", "time-out", "room"],
)
async def test_files_of_our_own_that_are_away_for_a_while_end_no_case(
    manifest: Path, recipe: Recipe, pool: ReplayPool, why: ArtifactError
) -> None:
    class Fickle(Folder):
        away = True

        async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = 0) -> Path:
            if self.away:
                raise why
            return await super().fetch_model(uri, file_digest, max_bytes)

    files = Fickle(manifest)
    door = RecipeEngine(files, pool, [recipe], model_bytes=1 << 30, bundle_bytes=1 << 20)

    async def seen() -> Observed | Verdict:
        return await door.observe(facts(), TASK + PROMPT, "numpy", fresh=False)

    assert said(await seen()).startswith(OWN)
    looked = await door.weights(facts())
    assert looked is not None, "no replay has to wait for them"
    assert said(looked).startswith(OWN)
    files.away = False
    assert await door.weights(facts()) is None
    assert isinstance(await seen(), Observed)
    files.away = True
    assert said(await seen()).startswith(OWN), "the known answer holds by now"


async def test_what_leads_to_no_verdict(manifest: Path, recipe: Recipe, pool: ReplayPool) -> None:
    door = engine(manifest, pool, recipe)

    async def of(data: bytes, model: ModelId = MODEL, claim: bytes = b"") -> str:
        return said(await door.observe(facts(model), data, "numpy", fresh=False, claim=claim))

    assert "there is none for model 0x0b0b" in await of(TASK + PROMPT, ModelId(b"\x0b" * 32))
    assert "it stands in no call data" in await of(b"")
    assert "a raw block" in await of(TASK + PROMPT, claim=b"\x01\x55\x12\x20" + bytes(32))
    assert "it is no JSON" in await of(TASK + b"{")
    assert "it is no JSON" in await of(TASK + b"[" * 10_000)
    for odd in (b"[]", b"{}", b'{"prompt":7}', b'"prompt"'):
        assert "it has no text under 'prompt'" in await of(TASK + odd)
    assert "is no text" in await of(TASK + rb'{"prompt":"\ud800"}')
    assert "does not know the character" in await of(TASK + '{"prompt":"ä"}'.encode())
    assert "not a canonical bundle" in await of(TASK + b'{"prompt":""}')
    assert "input-rejected" in await of(TASK + json.dumps({"prompt": "a" * 5_000}).encode())


async def test_what_the_recipe_has_no_word_of_leads_to_no_verdict(
    manifest: Path, recipe: Recipe, pool: ReplayPool
) -> None:
    """An honest solver heeds what a requester asks for; one whose recipe does not must not be the judge of it."""
    door = engine(manifest, pool, replace(recipe, fixed={"max_length": 12, "best": True}, ignored=frozenset({"note"})))

    async def of(**members: object) -> Observed | Verdict:
        asked = json.dumps(json.loads(PROMPT) | members).encode()
        return await door.observe(facts(), TASK + asked, "numpy", fresh=False)

    for strange in ({"top_p": 1}, {"Note": ""}, {"max_length": None}):
        assert "input: it " in said(await of(**strange))
    for other in ({"max_length": 5}, {"max_length": True}, {"best": 1}, {"max_length": "12"}):
        assert "which the recipe holds for" in said(await of(**other))
    twice = PROMPT[:-1] + b"," + PROMPT[1:]
    assert "the same member twice" in said(await door.observe(facts(), TASK + twice, "numpy", fresh=False))
    same = await of(max_length=12.0, best=True, note=["whatever"])
    plain = await of()
    assert isinstance(same, Observed)
    assert isinstance(plain, Observed)
    assert same.output_root == plain.output_root


async def test_the_right_files_in_another_form_of_folder_are_right(
    manifest: Path, recipe: Recipe, pool: ReplayPool
) -> None:
    door = engine(manifest, pool, recipe)
    text = answer_text(manifest, TASK + PROMPT)
    for form in (KUBO, KUBO_RAW, KUBO_V1, KUBO_2025, Profile(1)):
        cid = directory_cid({"out-1.txt": text}, form)
        for claim in (cid.multihash, cid.binary):
            seen = await door.observe(facts(), TASK + PROMPT, "numpy", fresh=False, claim=claim)
            assert isinstance(seen, Observed)
            assert judge(Hash32(keccak(TASK + PROMPT)), output_root(claim), ZERO, seen).kind is VerdictKind.VALID
    other = directory_cid({"out-1.txt": text + b"."}, KUBO_V1).binary
    seen = await door.observe(facts(), TASK + PROMPT, "numpy", fresh=False, claim=other)
    assert isinstance(seen, Observed)
    assert judge(Hash32(keccak(TASK + PROMPT)), output_root(other), ZERO, seen).kind is VerdictKind.FRAUD


async def test_a_recipe_whose_known_answer_fails_accuses_nobody(
    manifest: Path, recipe: Recipe, pool: ReplayPool
) -> None:
    door = engine(manifest, pool, replace(recipe, known_digest=Hash32(b"\x01" * 32)))
    for _ in range(2):
        seen = await door.observe(facts(), TASK + PROMPT, "numpy", fresh=False)
        assert said(seen) == "model: the recipe's known answer is not what this machine computes"


async def test_a_known_answer_may_be_a_task_of_the_chain(manifest: Path, recipe: Recipe, pool: ReplayPool) -> None:
    """The seed of that task is another one than that of task 0, and so is the answer."""
    solved = TaskId(b"\x77" * 32)
    real = replace(recipe, known_task=solved, known_digest=answer(manifest, solved + PROMPT))
    assert real.known_digest != recipe.known_digest
    assert real.digest != recipe.digest
    seen = await engine(manifest, pool, real).observe(facts(), TASK + PROMPT, "numpy", fresh=False)
    assert isinstance(seen, Observed)
    raw = {"token_price": 1, "recipes": {MODEL.hex(): table(real, known_task=solved.hex())}}
    assert read_options(raw, "c.toml").recipes == (real,)


async def test_other_weights_than_the_recipes_accuse_nobody(manifest: Path, recipe: Recipe, pool: ReplayPool) -> None:
    door = engine(manifest, pool, replace(recipe, artefact_root=Hash32(b"\x01" * 32)))
    detail = said(await door.observe(facts(), TASK + PROMPT, "numpy", fresh=False))
    assert detail.startswith("model: its known answer could not be computed, artefact-mismatch")


# what an operator writes


def table(recipe: Recipe, **changes: object) -> dict[str, object]:
    return {
        "uri": recipe.uri,
        "file_digest": recipe.file_digest.hex(),
        "program_root": "0x" + recipe.program_root.hex(),
        "artefact_root": recipe.artefact_root.hex(),
        "known_input": recipe.known_input.decode(),
        "known_cid": str(Cid(0, DAG_PB, recipe.known_digest)),
        "max_tokens": 12,
        "temperature": 800_000,
        "top_k": 20,
    } | changes


def test_settings_make_a_recipe(recipe: Recipe) -> None:
    raw = {"token_price": "5", "start": 7, "recipes": {"0x" + MODEL.hex(): table(recipe)}}
    options = plugin("arbius").options(raw, "settings.toml")
    assert (options.token_price, options.start, options.votes_from) == (5, 7, -1)
    assert options.recipes == (recipe,)
    assert options.recipes[0].digest != replace(recipe, file="out-1.md").digest
    beside = table(recipe, fixed={"n": 1, "best": True}, ignored=["note"])
    (more,) = read_options(raw | {"recipes": {MODEL.hex(): beside}}, "settings.toml").recipes
    assert more == replace(recipe, fixed={"n": 1, "best": True}, ignored=frozenset({"note"}))
    assert more.digest != recipe.digest
    as_text = read_options(raw | {"recipes": json.dumps(raw["recipes"])}, "settings.toml")  # from the environment
    assert as_text == options


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"token_price": -1}, "token_price is at least 0"),
        ({"start": "soon"}, "start must be an integer"),
        ({"prices": 1}, "unknown [protocol] option prices"),
        ({"recipes": {"0x12": {}}}, "recipes 0x12 lacks uri, file_digest"),
        ({"recipes": 3}, "recipes must be a table"),
        ({"token_price": None}, "token_price must be an integer"),
    ],
)
def test_what_settings_may_not_say(change: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options({"token_price": 1} | change, "settings.toml")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"known_cid": "Qm"}, "known_cid: "),
        ({"program_root": "0x12"}, "program_root must be 32 bytes in hex"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"top_q": 1}, "unknown member of"),
        ({"uri": 7}, "uri must be text"),
        ({"fixed": {"n": [1]}}, "fixed n must be a text, a number, true or false"),
        ({"fixed": 1}, "fixed must be a table"),
        ({"ignored": [1]}, "ignored must be a list of strings"),
    ],
)
def test_what_a_recipe_may_not_say(recipe: Recipe, change: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options({"token_price": 1, "recipes": {MODEL.hex(): table(recipe, **change)}}, "settings.toml")
    assert why in str(caught.value)


def test_what_a_token_is_worth_must_be_said() -> None:
    with pytest.raises(ConfigError, match="token_price is missing"):
        read_options({}, "settings.toml")
