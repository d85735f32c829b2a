"""The character model as it is shipped: its files agree, it is small, and it has learnt its text."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from challenger.sim.gpt import text
from challenger.sim.gpt.network import Config, Gpt
from challenger.sim.gpt.train import corpus, ids_of, split
from challenger.sim.models import gpt_model
from challenger.sim.prompts import PROMPTS
from replay.generate import generate, read_job
from replay.model import load_model
from replay.run import execute, prepare
from replay.sampling import Sampling

WEIGHTS = text.FOLDER / "model.safetensors"


@pytest.fixture(scope="module")
def passage() -> torch.Tensor:
    """A window of the text that the model was not trained on."""
    from pydoc_data.topics import topics

    return ids_of(split(corpus(topics.values()))[1])[:257]


@pytest.fixture(scope="module")
def ordinary() -> Gpt:
    model = Gpt(Config(vocab_size=len(text.vocabulary())))
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()


@pytest.fixture(scope="module")
def canonical(tmp_path_factory: pytest.TempPathFactory):
    return load_model(gpt_model(tmp_path_factory.mktemp("gpt")))


def test_the_files_agree_and_are_small(ordinary):
    assert WEIGHTS.stat().st_size <= 8 << 20
    assert 1_000_000 <= sum(p.numel() for p in ordinary.parameters()) <= 3_000_000
    config = json.loads((text.FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config == Config(vocab_size=len(text.vocabulary())).document()


def test_text_to_ids_and_back():
    assert text.decode(text.encode("print('x')\n")) == "print('x')\n"
    with pytest.raises(ValueError, match="'é'"):
        text.encode("café")
    with pytest.raises(ValueError, match="-1"):
        text.decode([-1])
    assert all(len(text.encode(prompt)) >= 8 for prompt in PROMPTS)


def test_it_has_learnt_its_text_and_the_engine_agrees(ordinary, canonical, passage):
    with torch.inference_mode():
        loss = F.cross_entropy(ordinary(passage[None, :-1])[0], passage[1:]).item()
    assert loss < 1.5
    logits = execute(prepare(canonical, "torch"), {"input_ids": passage[:-1].to(torch.int32).numpy()}).outputs["logits"]
    ours = F.cross_entropy(torch.from_numpy(logits), passage[1:]).item()
    assert abs(ours - loss) < 1e-4


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_it_writes_words(canonical, backend):
    sampling = Sampling(60, temperature=500_000, top_k=10)
    inputs = {"input_ids": np.array(text.encode("The import statement "), np.int32), "sampling": sampling.tensor()}
    run = generate(prepare(canonical, backend), read_job(canonical.program, inputs, bytes(32)))
    written = text.decode(run.outputs["tokens"].tolist())
    words = [word.strip(".,;:()`'\"") for word in written.split()][1:-1]
    common = {"the", "is", "a", "of", "to", "in", "and", "that", "for", "be", "are", "with", "as", "or", "this", "by"}
    assert len(written) == 60
    assert common & set(words), written
