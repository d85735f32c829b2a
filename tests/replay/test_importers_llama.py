"""Llama, Mistral and Qwen 2 checkpoints: what transformers computes, one result everywhere, refusals in one line."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import agreed, checkpoint, narrowed

from replay.errors import LimitExceeded, MalformedFile, ModelRefused, ProgramError, UnsupportedModel
from replay.importers.checkpoint import Config
from replay.importers.llama import import_llama
from replay.importers.llama_config import FAMILIES, read_config
from replay.importers.manifest import write_manifest
from replay.kernels import spec
from replay.model import load_model

FILES = ["config.json", "model.safetensors", "tokenizer.json"]
SHAPE = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
IDS = (np.arange(50) * 17 % 61).astype(np.int32)
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


def network(family="llama", **changes):
    """A random network of transformers, in fp32; its biases and norms are not the trivial ones it starts with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoConfig, AutoModelForCausalLM, logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.manual_seed(11)
        config = AutoConfig.for_model(family, **SHAPE | {"initializer_range": 0.1} | changes)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def saved(model, folder, grid=None):
    """The manifest of the checkpoint that transformers writes."""
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return write_manifest(folder, "llama", FILES, grid)


def logits_of(model, ids):
    with torch.inference_mode():
        return model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()


def parts(model):
    """(config.json, the tensors of a file of the model: a tied head is none of its own)"""
    tied = model.config.tie_word_embeddings
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors = {name: array for name, array in state.items() if not (tied and name == "lm_head.weight")}
    return json.loads(model.config.to_json_string()), tensors


@pytest.fixture(scope="module")
def plain():
    return parts(network())


def load(plain, config=None, change=None, grid="hi"):
    """The model ``plain`` with changes to its config; ``change`` maps its tensors."""
    document, tensors = plain
    return import_llama(checkpoint("llama", document | (config or {}), (change or dict)(tensors), grid))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 6, "tie_word_embeddings": True}),
        ("llama", {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True, "head_dim": 10}),
        ("llama", {"hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-3}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}}),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 50.0, **LLAMA3}}),
        ("mistral", {"sliding_window": 7}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
        ("qwen2", {"tie_word_embeddings": True}),
    ],
)
def test_logits_are_those_of_transformers(family, changes, tmp_path):
    theirs = network(family, **changes)
    model = load_model(saved(theirs, tmp_path))
    want = logits_of(theirs, IDS)
    assert np.abs(agreed(model, {"input_ids": IDS})["logits"] - want).max() < 5e-5 * np.abs(want).max()


def test_the_cheap_grid_is_near(tmp_path):
    theirs = network()
    model = load_model(saved(theirs, tmp_path, "lo"))
    want = logits_of(theirs, IDS)
    away = np.abs(agreed(model, {"input_ids": IDS})["logits"] - want).max() / np.abs(want).max()
    assert model.program.grid == "lo"
    assert 1e-4 < away < 1e-2


@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("mistral", {"sliding_window": 7})])
def test_tokens_see_only_those_before(family, changes):
    model = load(parts(network(family, **changes)))
    whole = agreed(model, {"input_ids": IDS})["logits"]
    for tokens in (1, 2, 23):
        part = agreed(model, {"input_ids": IDS[:tokens]})["logits"]
        assert part.tobytes() == whole[:tokens].tobytes()


def test_a_window_forgets():
    """Three layers of window 7 reach 18 tokens back: what changes before that changes nothing."""
    model = load(parts(network("mistral", sliding_window=7)))
    other = IDS.copy()
    other[0] += 1
    one, two = (agreed(model, {"input_ids": ids})["logits"] for ids in (IDS, other))
    assert one[19:].tobytes() == two[19:].tobytes()
    assert all(one[t].tobytes() != two[t].tobytes() for t in range(19))


def test_the_program_says_what_it_is(plain):
    program = load(plain).program
    assert program.boundaries == ("embeddings", "layer.0", "layer.1", "layer.2", "norm")
    assert program.symbols == {"T": 64}
    assert [program.types[result.value].shape for result in program.outputs] == [("T", 61)]
    assert {weight.shape for weight in program.weights if weight.name.startswith("rope.")} == {(64, 4)}


def rotation(said):
    document = {**SHAPE, "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-6, **said}
    return read_config(Config(json.dumps(document).encode(), FAMILIES)).rotation


def test_both_ways_to_write_the_rotary_settings_mean_the_same():
    for kind, more in (("linear", {"factor": 8}), ("llama3", LLAMA3)):
        ways = [
            {"rope_theta": 500_000.0, "rope_scaling": {"rope_type": kind, **more}},
            {"rope_theta": 500_000.0, "rope_scaling": {"type": kind, "rope_type": kind, **more}},
            {"rope_theta": 500_000.0, "rope_scaling": {"type": kind, **more}, "rope_parameters": None},
            {"rope_parameters": {"rope_type": kind, "rope_theta": 500_000, **more}},
        ]
        assert len({rotation(way) for way in ways}) == 1
    assert rotation({}) == rotation({"rope_scaling": None}) == rotation({"rope_parameters": {"rope_theta": 10_000.0}})
    short = {key: value for key, value in LLAMA3.items() if key != "original_max_position_embeddings"}
    assert rotation({"rope_scaling": {"type": "llama3", **short}}).bands[2] == 64


def test_names_with_and_without_prefix_and_old_buffers_mean_one_model(plain):
    def bare(tensors):
        return {name.removeprefix("model."): array for name, array in tensors.items()}

    def buffers(tensors):
        old = np.ones(4, np.float32)
        return tensors | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": old for i in range(3)}

    models = [load(plain, change=change) for change in (None, bare, buffers)]
    models.append(load(plain, {"head_dim": None, "tie_word_embeddings": False}))
    assert len({(model.program_root, model.artefact_root) for model in models}) == 1


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_narrow_weights_are_the_float32_of_the_same_value(plain, dtype):
    roots = [
        load(plain, change=lambda tensors, side=side: {n: narrowed(a, dtype)[side] for n, a in tensors.items()})
        for side in (0, 1)
    ]
    assert roots[0].artefact_root == roots[1].artefact_root != load(plain).artefact_root


def test_windows_and_positions_have_bounds():
    document = {**SHAPE, "hidden_act": "silu", "rms_norm_eps": 1e-6, "max_position_embeddings": 131_072}

    def read(family, **more):
        return read_config(Config(json.dumps({**document, "model_type": family, **more}).encode(), FAMILIES))

    assert read("llama").positions == spec.TOKENS_MAX
    assert read("mistral").window == 4_096
    assert read("mistral", sliding_window=8_192).window == 0
    assert read("mistral", sliding_window=8_191).window == 8_191
    assert read("mistral", sliding_window=None).window == 0
    assert read("qwen2", sliding_window=1_024, use_sliding_window=False, max_window_layers=1).window == 0
    assert read("qwen2", layer_types=["full_attention"] * 3).window == 0


@pytest.mark.parametrize(
    ("family", "change", "error", "says"),
    [
        ("gemma", {}, UnsupportedModel, "model_type"),
        ("llama", {"quantization_config": {}}, UnsupportedModel, "quantization_config"),
        ("llama", {"is_encoder_decoder": True}, UnsupportedModel, "is_encoder_decoder"),
        ("llama", {"hidden_act": "swiglu"}, UnsupportedModel, "hidden_act"),
        ("llama", {"sliding_window": 8}, UnsupportedModel, "sliding_window"),
        ("llama", {"layer_types": ["sliding_attention"] * 3}, UnsupportedModel, "layer_types"),
        ("llama", {"partial_rotary_factor": 0.5}, UnsupportedModel, "partial_rotary_factor"),
        ("mistral", {"attention_bias": True}, UnsupportedModel, "attention_bias"),
        ("mistral", {"mlp_bias": True}, UnsupportedModel, "mlp_bias"),
        ("mistral", {"layer_types": ["full_attention"] * 3}, UnsupportedModel, "layer_types"),
        ("mistral", {"sliding_window": 0}, MalformedFile, "sliding_window"),
        ("mistral", {"num_key_value_heads": None}, MalformedFile, "num_key_value_heads"),
        ("qwen2", {"use_sliding_window": True}, UnsupportedModel, "use_sliding_window"),
        ("qwen2", {"attention_bias": False}, UnsupportedModel, "attention_bias"),
        ("llama", {"attention_bias": "yes"}, MalformedFile, "attention_bias"),
        ("llama", {"num_attention_heads": 5}, MalformedFile, "num_attention_heads"),
        ("llama", {"num_key_value_heads": 4}, MalformedFile, "num_key_value_heads"),
        ("llama", {"head_dim": 7}, MalformedFile, "head"),
        ("llama", {"head_dim": 514}, LimitExceeded, "head_dim"),
        ("llama", {"hidden_size": 1_200, "num_attention_heads": 2}, MalformedFile, "head"),
        ("llama", {"rms_norm_eps": 1}, MalformedFile, "rms_norm_eps"),
        ("llama", {"max_position_embeddings": 2**30}, LimitExceeded, "max_position_embeddings"),
        ("llama", {"rope_theta": 0}, MalformedFile, "rope_theta"),
        ("llama", {"rope_theta": True}, MalformedFile, "rope_theta"),
        ("llama", {"rope_theta": float("nan")}, MalformedFile, "rope_theta"),
        ("llama", {"rope_theta": 10**30}, MalformedFile, "rope_theta"),
        ("llama", {"rope_scaling": [1]}, MalformedFile, "rope_scaling"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0}}, UnsupportedModel, "rope_type 'yarn'"),
        ("llama", {"rope_scaling": {"rope_type": ["linear"]}}, UnsupportedModel, "rope_type"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "type": "llama3"}}, UnsupportedModel, "rope_type"),
        ("llama", {"rope_scaling": {"type": "linear"}}, MalformedFile, "factor"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 0.5}}, MalformedFile, "factor"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2, "mscale": 1}}, UnsupportedModel, "mscale"),
        ("llama", {"rope_scaling": {"type": "default", "a\nb": 1}}, UnsupportedModel, r"a\\nb"),
        ("llama", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, UnsupportedModel, "full_att"),
        ("llama", {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e5}}, UnsupportedModel, "rope_theta"),
        (
            "llama",
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 1e5}},
            UnsupportedModel,
            "rope_scaling",
        ),
        ("llama", {"rope_scaling": LLAMA3 | {"type": "llama3", "low_freq_factor": 4.0}}, MalformedFile, "low_freq"),
        ("llama", {"rope_scaling": LLAMA3 | {"type": "llama3", "high_freq_factor": None}}, MalformedFile, "high_freq"),
        (
            "llama",
            {"rope_scaling": LLAMA3 | {"type": "llama3", "original_max_position_embeddings": 1.5}},
            MalformedFile,
            "original_max_position_embeddings",
        ),
        (
            "llama",
            {"rope_scaling": LLAMA3 | {"type": "llama3"}, "original_max_position_embeddings": 16},
            UnsupportedModel,
            "original_max_position_embeddings",
        ),
    ],
)
def test_configs_are_refused_by_key(family, change, error, says):
    document = {**SHAPE, "model_type": family, "hidden_act": "silu", "rms_norm_eps": 1e-6, **change}
    with pytest.raises(error, match=says) as caught:
        read_config(Config(json.dumps(document).encode(), FAMILIES))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"hidden_size": 60}, r"embed_tokens\.weight"),
        ({"num_hidden_layers": 4}, r"layers\.3\.input_layernorm\.weight"),
        ({"num_hidden_layers": 2}, r"layers\.2\."),
        ({"intermediate_size": 99}, r"layers\.0\.mlp\.gate_proj\.weight"),
        ({"num_key_value_heads": 3}, r"layers\.0\.self_attn\.k_proj\.weight"),
        ({"head_dim": 10}, r"layers\.0\.self_attn\.q_proj\.weight"),
        ({"attention_bias": True}, r"layers\.0\.self_attn\.q_proj\.bias"),
        ({"mlp_bias": True}, r"layers\.0\.mlp\.gate_proj\.bias"),
        ({"tie_word_embeddings": True}, r"lm_head\.weight"),
    ],
)
def test_configs_that_do_not_fit_the_tensors_name_one(plain, change, name):
    with pytest.raises(MalformedFile if "layers\\.2" not in name else UnsupportedModel, match=name):
        load(plain, change)


def test_a_tensor_too_few_or_too_many_is_named(plain):
    for name in plain[1]:
        with pytest.raises(MalformedFile, match=name.removeprefix("model.").replace(".", r"\.")):
            load(plain, change=lambda tensors, name=name: {n: a for n, a in tensors.items() if n != name})
    for name in ("score.weight", "model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.q_norm.weight"):
        with pytest.raises(UnsupportedModel, match=name.removeprefix("model.")):
            load(plain, change=lambda tensors, name=name: tensors | {name: np.ones(4, np.float32)})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = [*SHAPE, "model_type", "head_dim", "hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "sliding_window"]
KEYS += ["tie_word_embeddings", "rope_theta", "rope_scaling", "layer_types", "partial_rotary_factor"]


@given(st.sampled_from(KEYS), values)
@settings(max_examples=100)
def test_no_value_of_a_config_surprises(plain, key, value):
    try:
        model = load(plain, {key: value})
    except (ModelRefused, ProgramError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert model.program.types


@given(st.sampled_from(["type", "rope_type", "rope_theta", *LLAMA3]), values)
@settings(max_examples=100)
def test_no_value_of_the_rotary_settings_surprises(key, value):
    try:
        made = rotation({"rope_scaling": {"rope_type": "llama3", **LLAMA3, key: value}})
    except ModelRefused as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert made.bands is None or made.bands[0] < made.bands[1]
