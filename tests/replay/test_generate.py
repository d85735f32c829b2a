"""Generation: one text, whatever the way to it; and a claim never changes the answer."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import one
from tiny_gpt import ROOM, VOCABULARY, tiny_gpt

from replay.errors import InputRejected
from replay.generate import Decoder, force, generate, read_job
from replay.layout import decode_bundle
from replay.model import Model
from replay.run import NONFINITE, Prepared, execute, load_backend, prepare_with
from replay.sampling import MILLION, TOKENS, Sampling, choose, draw
from replay.trace import commit, receipt

SEED = bytes(range(32))
BACKENDS = ("numpy", "torch", "native")


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_gpt()


@pytest.fixture(scope="module")
def prepared(model: Model) -> dict[str, Prepared]:
    return {name: prepare_with(load_backend(name), model) for name in BACKENDS}


def asked(prompt: list[int], sampling: Sampling) -> dict[str, np.ndarray]:
    return {"input_ids": np.array(prompt, np.int32), "sampling": sampling.tensor()}


samplings = st.builds(
    Sampling,
    max_tokens=st.integers(1, 12),
    temperature=st.sampled_from([0, 1, 300_000, MILLION, 5 * MILLION, 1000 * MILLION]),
    top_k=st.sampled_from([0, 1, 3, 40]),
    top_p=st.sampled_from([1, 500_000, 950_000, MILLION]),
    end=st.integers(-1, VOCABULARY - 1),
)
prompts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=8)


@given(prompts, samplings, st.binary(min_size=32, max_size=32), st.data())
@settings(max_examples=25)
def test_decode_prefill_and_backends_give_one_receipt(prepared, prompt, sampling, seed, data):
    inputs = asked(prompt, sampling)
    plain = commit(prepared["numpy"], inputs, seed=seed)
    tokens = decode_bundle(plain.output)[TOKENS].tolist()
    claim = list(tokens)
    if data.draw(st.booleans()):
        claim[data.draw(st.integers(0, len(claim) - 1))] = data.draw(st.integers(-2, VOCABULARY))
    claim = claim[: data.draw(st.integers(0, len(claim)))] + data.draw(st.lists(st.integers(0, 5), max_size=3))
    for backend in BACKENDS:
        for said in ([], tokens, claim):
            run = generate(prepared[backend], read_job(prepared[backend].model.program, inputs, seed), said)
            assert receipt(inputs, run).leaves == plain.leaves


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_of_any_size_give_the_weights_of_one_run(prepared, backend):
    tokens = np.random.default_rng(3).integers(0, VOCABULARY, 20).astype(np.int32)
    scale = Sampling(1).scale
    whole = Decoder(prepared[backend], scale).feed(tokens, last=20)
    for cuts in ([1] * 20, [7, 13], [19, 1], [3, 3, 3, 11]):
        decoder, rows, at = Decoder(prepared[backend], scale), [], 0
        for size in cuts:
            rows.append(decoder.feed(tokens[at : at + size], last=size))
            at += size
        assert np.array_equal(np.concatenate(rows), whole)
        once = execute(prepared[backend], {"input_ids": tokens})
        for mine, theirs in zip(decoder.boundaries(), once.boundaries, strict=True):
            assert mine.tobytes() == theirs.tobytes()


def test_greedy_takes_the_largest_logit_and_no_seed_changes_it(prepared):
    inputs = asked([3, 1, 4], Sampling(6))
    tokens = decode_bundle(commit(prepared["numpy"], inputs, seed=SEED).output)[TOKENS].tolist()
    assert tokens == decode_bundle(commit(prepared["numpy"], inputs, seed=bytes(32)).output)[TOKENS].tolist()
    read = np.array([3, 1, 4, *tokens[:-1]], np.int32)
    logits = execute(prepared["numpy"], {"input_ids": read}).outputs["logits"]
    assert tokens == logits[2:].argmax(-1).tolist()


def test_seeds_differ_and_the_end_token_ends(prepared):
    sampling = Sampling(12, temperature=2 * MILLION)
    texts = {
        tuple(decode_bundle(commit(prepared["numpy"], asked([1], sampling), seed=bytes([i]) * 32).output)[TOKENS])
        for i in range(8)
    }
    assert len(texts) == 8
    text = list(next(iter(texts)))
    for seed in range(8):
        ended = Sampling(12, temperature=2 * MILLION, end=int(text[4]))
        got = decode_bundle(commit(prepared["numpy"], asked([1], ended), seed=bytes([seed]) * 32).output)[TOKENS]
        assert text[4] not in got[:-1]
        assert len(got) == 12 or got[-1] == text[4]


def test_draws_follow_the_weights():
    weights = np.array([1 << 32, 1 << 31, 0, 1 << 31], np.int64)
    sampling = Sampling(1, temperature=MILLION)
    seen = Counter(choose(weights, sampling, SEED, step) for step in range(4000))
    assert set(seen) == {0, 1, 3}
    assert abs(seen[0] - 2000) < 150
    assert abs(seen[1] - 1000) < 120
    assert {choose(weights, Sampling(1, MILLION, top_k=2), SEED, step) for step in range(200)} == {0, 1}
    assert {choose(weights, Sampling(1, MILLION, top_p=500_000), SEED, step) for step in range(200)} == {0}
    assert {choose(weights, Sampling(1, MILLION, top_p=500_001), SEED, step) for step in range(200)} == {0, 1}
    assert choose(np.array([5, 9, 9], np.int64), Sampling(1), SEED, 0) == 1
    assert draw(SEED, 7) != draw(SEED, 8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_text_that_stops_being_finite(backend):
    """Weights so large that a layer overflows at some step: every way finds the same operator and element."""
    model = tiny_gpt(scale=1.0)
    weights = dict(model.weights)
    weights["positions"] = weights["positions"].copy()
    weights["positions"][9] = 3e38  # the norm of that row has no grid
    weights["words"] = weights["words"] * np.float32(1e37)
    prepared = prepare_with(load_backend(backend), Model(model.program, weights))
    inputs = asked([1, 2, 3], Sampling(12, temperature=MILLION))
    run = generate(prepared, read_job(model.program, inputs, SEED))
    assert run.nonfinite is not None
    assert list(run.outputs) == [NONFINITE]
    for claim in ([4], [1] * 12, list(range(7))):
        again = generate(prepared, read_job(model.program, inputs, SEED), claim)
        assert receipt(inputs, again).leaves == receipt(inputs, run).leaves
    assert run.nonfinite == generate(prepare_with(load_backend("numpy"), Model(model.program, weights)),
                                     read_job(model.program, inputs, SEED)).nonfinite  # fmt: skip


def test_force_names_the_step_that_was_chosen_wrongly(prepared):
    inputs = asked([3, 1, 4], Sampling(6, temperature=MILLION, end=2))
    job = read_job(prepared["numpy"].model.program, inputs, SEED)
    tokens = generate(prepared["numpy"], job).outputs[TOKENS].tolist()
    assert force(prepared["numpy"], job, tokens).outputs[TOKENS].tolist() == tokens
    wrong = [*tokens[:3], (tokens[3] + 1) % VOCABULARY, *tokens[4:]]
    assert force(prepared["numpy"], job, wrong).outputs[TOKENS].tolist()[:4] == tokens[:4]
    assert force(prepared["numpy"], job, tokens[:2]).outputs[TOKENS].tolist() == [*tokens[:2], -1]
    with pytest.raises(InputRejected, match="cannot be read"):
        force(prepared["numpy"], job, [VOCABULARY])


def test_what_is_no_generation_is_rejected(model, prepared):
    good = asked([1, 2], Sampling(3))
    bad = {
        "leave room": (asked([1] * 40, Sampling(30)), SEED),
        "32 bytes": (good, b""),
        "int64": ({**good, "sampling": np.zeros(5, np.int32)}, SEED),
        "max_tokens": ({**good, "sampling": np.array([0, 0, 0, 1, -1])}, SEED),
        "temperature": ({**good, "sampling": np.array([1, -1, 0, 1, -1])}, SEED),
        "top_p": ({**good, "sampling": np.array([1, 1, 0, 0, -1])}, SEED),
        "wants": ({"sampling": good["sampling"], "input_ids": good["input_ids"]}, SEED),
        "legal are": (asked([VOCABULARY], Sampling(3)), SEED),
    }
    for said, (inputs, seed) in bad.items():
        with pytest.raises(InputRejected, match=said):
            commit(prepared["numpy"], inputs, seed=seed)
    with pytest.raises(InputRejected, match="does not generate"):
        read_job(one(np.ones((2, 3), np.float32), lambda b: b.add("relu", ["x"])).program, good, SEED)
    assert model.program.symbols["T"] == ROOM
