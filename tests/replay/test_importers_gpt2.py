"""GPT-2 checkpoints: what transformers computes, one result everywhere, and typed refusals in one line."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import agreed, checkpoint, narrowed

from challenger.sim.models import gpt_model
from replay.errors import InputRejected, LimitExceeded, MalformedFile, ModelRefused, ProgramError, UnsupportedModel
from replay.importers.gpt2 import import_gpt2
from replay.importers.manifest import write_manifest
from replay.kernels import spec
from replay.model import load_model
from replay.run import execute, load_backend, prepare_with

FILES = ["config.json", "model.safetensors", "tokenizer.json"]
SHAPE = {"vocab_size": 61, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 40}
IDS = (np.arange(40) * 17 % 61).astype(np.int32)


def network(**changes):
    """A random GPT-2 of transformers, in fp32; its biases and norms are not the trivial ones it starts with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import GPT2Config, GPT2LMHeadModel, logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.manual_seed(7)
        tokens = {"bos_token_id": 0, "eos_token_id": 0}
        config = GPT2Config(**SHAPE | tokens | {"initializer_range": 0.1} | changes, attn_implementation="eager")
        model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def saved(model, folder, grid=None):
    """The manifest of the checkpoint that transformers writes."""
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return write_manifest(folder, "gpt2", FILES, grid)


def logits_of(model, ids):
    with torch.inference_mode():
        return model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()


def config_of(model):
    return json.loads(model.config.to_json_string())


def tensors_of(model):
    """What a file of the model holds: a tied head is no tensor of its own."""
    tied = model.config.tie_word_embeddings
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return {name: array for name, array in state.items() if not (tied and name == "lm_head.weight")}


@pytest.fixture(scope="module")
def plain():
    model = network()
    return config_of(model), tensors_of(model)


def load(plain, config=None, change=None, grid="hi"):
    """The model ``plain`` with changes to its config; ``change`` maps its tensors."""
    document, tensors = plain
    return import_gpt2(checkpoint("gpt2", document | (config or {}), (change or dict)(tensors), grid))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"activation_function": "gelu", "n_inner": 70, "n_head": 1},
        {"activation_function": "relu", "layer_norm_epsilon": 1e-3},
    ],
)
def test_logits_are_those_of_transformers(changes, tmp_path):
    theirs = network(**changes)
    model = load_model(saved(theirs, tmp_path))
    want = logits_of(theirs, IDS)
    assert np.abs(agreed(model, {"input_ids": IDS})["logits"] - want).max() < 2e-5 * np.abs(want).max()


def test_a_trained_model_loses_as_much_as_with_transformers(tmp_path):
    """The character model that comes with the simulation, on a text that it was not trained on."""
    theirs = network()  # silences transformers' messages
    text = "A watchtower runs the model again: if (a != b) then somebody lied, and a bond is lost. " * 2
    manifest = gpt_model(tmp_path)
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_bytes())["vocabulary"]
    ids = np.array([vocabulary.index(character) for character in text], np.int32)
    theirs = type(theirs).from_pretrained(tmp_path, attn_implementation="eager").eval()

    def loss(logits):
        return torch.nn.functional.cross_entropy(torch.from_numpy(logits[:-1]), torch.from_numpy(ids[1:]).long()).item()

    want = loss(logits_of(theirs, ids))
    assert 1 < want < 4
    assert abs(loss(agreed(load_model(manifest), {"input_ids": ids})["logits"]) - want) < 1e-4


def test_the_cheap_grid_is_near(tmp_path):
    theirs = network()
    model = load_model(saved(theirs, tmp_path, "lo"))
    want = logits_of(theirs, IDS)
    away = np.abs(agreed(model, {"input_ids": IDS})["logits"] - want).max() / np.abs(want).max()
    assert model.program.grid == "lo"
    assert 1e-5 < away < 1e-2


def test_tokens_see_only_those_before(plain):
    model = load(plain)
    whole = agreed(model, {"input_ids": IDS})["logits"]
    for tokens in (1, 2, 23):
        part = agreed(model, {"input_ids": IDS[:tokens]})["logits"]
        assert part.tobytes() == whole[:tokens].tobytes()


def test_the_program_says_what_it_is(plain):
    program = load(plain).program
    assert program.boundaries == ("embeddings", "layer.0", "layer.1", "layer.2", "norm")
    assert program.symbols == {"T": 40}
    assert [program.types[result.value].shape for result in program.outputs] == [("T", 61)]
    assert program.tokenizer == "0" * 64


def test_longer_inputs_and_unknown_ids_are_rejected(plain):
    prepared = prepare_with(load_backend("numpy"), load(plain))
    for wrong in (np.zeros(41, np.int32), np.array([61], np.int32), np.array([-1], np.int32)):
        with pytest.raises(InputRejected):
            execute(prepared, {"input_ids": wrong})


def test_more_positions_than_attention_takes_are_cut(plain):
    rows = spec.TOKENS_MAX + 1

    def longer(tensors):
        return tensors | {"transformer.wpe.weight": np.zeros((rows, 48), np.float32)}

    assert load(plain, {"n_positions": rows}, longer).program.symbols == {"T": spec.TOKENS_MAX}


def test_names_with_and_without_prefix_and_old_buffers_mean_one_model(plain):
    def bare(tensors):
        return {name.removeprefix("transformer."): array for name, array in tensors.items()}

    def buffers(tensors):
        old = {"attn.bias": np.ones((1, 1, 40, 40), np.float32), "attn.masked_bias": np.full(1, -1e4, np.float32)}
        return tensors | {f"transformer.h.{i}.{name}": array for i in range(3) for name, array in old.items()}

    def head(tensors):
        return tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}

    models = [load(plain, change=change) for change in (None, bare, buffers, head)]
    assert len({(model.program_root, model.artefact_root) for model in models}) == 1


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_narrow_weights_are_the_float32_of_the_same_value(plain, dtype):
    def narrow(tensors):
        return {name: narrowed(array, dtype)[0] for name, array in tensors.items()}

    def wide(tensors):
        return {name: narrowed(array, dtype)[1] for name, array in tensors.items()}

    roots = [load(plain, change=change).artefact_root for change in (narrow, wide, None)]
    assert roots[0] == roots[1] != roots[2]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model_type": "gpt_neo"}, UnsupportedModel),
        ({"model_type": None}, UnsupportedModel),
        ({"scale_attn_by_inverse_layer_idx": True}, UnsupportedModel),
        ({"reorder_and_upcast_attn": True}, UnsupportedModel),
        ({"scale_attn_weights": False}, UnsupportedModel),
        ({"add_cross_attention": True}, UnsupportedModel),
        ({"is_encoder_decoder": 1}, UnsupportedModel),
        ({"pruned_heads": {"1": [0]}}, UnsupportedModel),
        ({"quantization_config": {"bits": 4}}, UnsupportedModel),
        ({"activation_function": "swish"}, UnsupportedModel),
        ({"activation_function": None}, UnsupportedModel),
        ({"n_head": 5}, MalformedFile),
        ({"n_embd": 48.0}, MalformedFile),
        ({"n_embd": 10**20}, LimitExceeded),
        ({"n_inner": 0}, MalformedFile),
        ({"n_positions": None}, MalformedFile),
        ({"vocab_size": "61"}, MalformedFile),
        ({"layer_norm_epsilon": 0.0}, MalformedFile),
        ({"layer_norm_epsilon": "1e-5"}, MalformedFile),
        ({"tie_word_embeddings": None}, MalformedFile),
    ],
)
def test_configs_are_refused_by_key(plain, change, error):
    with pytest.raises(error, match=next(iter(change))) as caught:
        load(plain, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"n_embd": 44}, r"wte\.weight"),
        ({"n_layer": 4}, r"h\.3\.ln_1\.weight"),
        ({"n_layer": 2}, r"h\.2\."),
        ({"n_inner": 100}, r"h\.0\.mlp\.c_fc\.weight"),
        ({"n_positions": 39}, r"wpe\.weight"),
        ({"tie_word_embeddings": False}, r"lm_head\.weight"),
    ],
)
def test_configs_that_do_not_fit_the_tensors_name_one(plain, change, name):
    with pytest.raises((MalformedFile, UnsupportedModel), match=name):
        load(plain, change)


def test_a_tensor_too_few_or_too_many_is_named(plain):
    for name in plain[1]:
        with pytest.raises(MalformedFile, match=name.removeprefix("transformer.").replace(".", r"\.")):
            load(plain, change=lambda tensors, name=name: {n: a for n, a in tensors.items() if n != name})
    extra = {"score.weight": np.ones((2, 48), np.float32), "transformer.h.0.attn.c_attn.lora": np.ones(3, np.float32)}
    for name, array in extra.items():
        with pytest.raises(UnsupportedModel, match=name.removeprefix("transformer.")):
            load(plain, change=lambda tensors, name=name, array=array: tensors | {name: array})


def test_two_values_for_one_tensor_are_refused(plain):
    def twice(tensors):
        return tensors | {"wte.weight": tensors["transformer.wte.weight"]}

    def another(tensors):
        return tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + np.float32(1)}

    with pytest.raises(MalformedFile, match=r"wte\.weight"):
        load(plain, change=twice)
    with pytest.raises(MalformedFile, match=r"lm_head\.weight"):
        load(plain, change=another)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = [*SHAPE, "model_type", "n_inner", "activation_function", "layer_norm_epsilon", "scale_attn_weights"]
KEYS += ["tie_word_embeddings", "add_cross_attention", "pruned_heads", "quantization_config"]


@given(st.sampled_from(KEYS), values)
@settings(max_examples=100)
def test_no_value_of_a_config_surprises(plain, key, value):
    try:
        model = load(plain, {key: value})
    except (ModelRefused, ProgramError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert model.program.types
