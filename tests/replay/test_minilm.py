"""MiniLM with its real weights: close to transformers on real sentences, and one result everywhere."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from challenger.sim.models import int8_weights, minilm_files
from replay.errors import FileMismatch, InputRejected
from replay.model import load_model
from replay.run import execute, prepare
from replay.trace import commit

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "A watchtower replays what others claim to have computed.",
    "Rain fell on the harbour all night, and in the morning the ships were gone.",
    "How much does a litre of milk cost in Iceland?",
    "Energy cannot be created or destroyed.",
    "She signed the contract without reading the small print.",
    "Der Hund schläft unter dem alten Apfelbaum.",
    "La bibliothèque ferme à dix-huit heures le samedi.",
    "机器学习模型需要可验证的推理。",
    "Матрица умножается на вектор.",
    "import numpy as np; x = np.zeros((3, 4))",
    "SELECT name FROM providers WHERE slashed = 1 ORDER BY stake DESC;",
    "3.14159 is close to pi, and 2.71828 is close to e.",
    "no",
    "???",
    "WHY IS EVERYTHING IN CAPITALS TODAY",
    "The committee postponed its decision until the auditors, who had been absent, published their report on the funds.",
    "A man is playing a guitar on the street while children dance around him.",
    "Two women are walking through a crowded market.",
    "The stock fell twelve percent after the earnings call.",
    "Photosynthesis turns carbon dioxide and water into glucose and oxygen.",
    "He said, “I never promised anything,” and left.",
    "Emoji such as 🙂 and 🚀 are usually unknown to this vocabulary.",
    "x" * 120,
]


@pytest.fixture(scope="module")
def reference():
    """Transformers' own BertModel and tokenizer on the same files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer, BertModel

        folder = str(minilm_files())
        model = BertModel.from_pretrained(folder, local_files_only=True).eval()
        return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module")
def tokens():
    tokenizer = Tokenizer.from_file(str(minilm_files() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [np.array(tokenizer.encode(text).ids, np.int32) for text in SENTENCES]


def test_tokenizers_agree(reference, tokens):
    _, tokenizer = reference
    assert [ids.tolist() for ids in tokens] == [tokenizer(text)["input_ids"] for text in SENTENCES]


def test_embeddings_agree_with_transformers(reference, tokens, prepared_minilm):
    model, _ = reference
    cosines = []
    for ids in tokens:
        with torch.inference_mode():
            states = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0]
            theirs = torch.nn.functional.normalize(states.mean(0), dim=0).double().numpy()
        mine = execute(prepared_minilm["torch"], {"input_ids": ids}).outputs["embedding"].astype(float)
        cosines.append(mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs))
        assert np.abs(mine - theirs).max() < 5e-6
    assert len(cosines) >= 20
    assert min(cosines) >= 0.99999


def test_backends_and_threads_give_one_commitment(tokens, prepared_minilm, threads):
    for ids in (tokens[0], tokens[13], tokens[16]):
        inputs = {"input_ids": ids}
        roots = {commit(prepared_minilm["numpy"], inputs).leaves}
        for count in (1, 2):
            threads(count)
            roots.add(commit(prepared_minilm["torch"], inputs).leaves)
        assert len(roots) == 1
        assert len(roots.pop()) == 9


@pytest.mark.parametrize("length", [1, 3, 200])
def test_every_length_gives_one_commitment(length, prepared_minilm):
    ids = (np.arange(length) * 7919 % 28_000 + 1_000).astype(np.int32)
    receipts = [commit(prepared, {"input_ids": ids}) for prepared in prepared_minilm.values()]
    assert receipts[0].state_root == receipts[1].state_root


def test_a_sentence_has_at_most_512_tokens(prepared_minilm):
    for wrong in (np.full(513, 7, np.int32), np.full(4, 30_522, np.int32)):
        with pytest.raises(InputRejected):
            execute(prepared_minilm["torch"], {"input_ids": wrong})


def test_the_roots_are_known(minilm, prepared_minilm, tokens):
    """Frozen for spec version 1: on every machine these weights and this sentence give these roots."""
    assert minilm.program_root.hex() == PROGRAM_ROOT
    assert minilm.artefact_root.hex() == ARTEFACT_ROOT
    assert minilm.artefact_tiles == 112_990
    receipt = commit(prepared_minilm["torch"], {"input_ids": tokens[0]})
    assert receipt.state_root.hex() == STATE_ROOT


def test_a_cheaper_model_shows(minilm, minilm_manifest, prepared_minilm, tokens, tmp_path):
    inputs = {"input_ids": tokens[1]}
    honest = commit(prepared_minilm["torch"], inputs)
    cheat = load_model(int8_weights(minilm_manifest, tmp_path))
    assert cheat.program_root == minilm.program_root
    theirs = commit(prepare(cheat, "torch"), inputs)
    assert theirs.input_root == honest.input_root
    assert theirs.output_root != honest.output_root


def test_a_truncated_sentence_shows(prepared_minilm, tokens):
    honest, short = (commit(prepared_minilm["torch"], {"input_ids": ids}) for ids in (tokens[1], tokens[1][:-1]))
    assert short.output_root != honest.output_root


def test_a_flipped_bit_in_the_file_is_noticed(minilm_manifest, tmp_path):
    for name in ("manifest.json", "config.json", "tokenizer.json"):
        shutil.copyfile(minilm_manifest.parent / name, tmp_path / name)
    data = bytearray((minilm_manifest.parent / "model.safetensors").read_bytes())
    data[60_000_000] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(FileMismatch, match="safetensors"):
        load_model(tmp_path / "manifest.json")


PROGRAM_ROOT = "46ba8c58f137d871b01a66e56bb8e5856bfa5f57c306615350dcef89500a99ff"
ARTEFACT_ROOT = "97f7c7436fd778e5db0a62ecacc492046fd41ea404251b7cea2eb0948a5dec46"
STATE_ROOT = "7635998ea4f0329817b72f98b5831b501d60c5ad50e18ffd159e3e93fc586aae"
