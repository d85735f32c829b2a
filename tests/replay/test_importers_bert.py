"""BERT folders and manifests: every lie is refused as a typed error, in one line, before it costs anything."""

from __future__ import annotations

import json
import struct
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import CONFIG, bert_tensors, narrowed, safetensors_bytes, write_bert

from replay.errors import (
    FileMismatch,
    LimitExceeded,
    MalformedFile,
    ManifestRefused,
    ModelRefused,
    ProgramError,
    UnsupportedModel,
)
from replay.importers.bert import import_bert, read_config
from replay.importers.manifest import FILES, ModelFiles, read_manifest, write_manifest
from replay.model import load_model

GOOD = safetensors_bytes(bert_tensors(0))


def load(weights=GOOD, config=None, grid="hi"):
    files = {
        "config.json": bytearray(json.dumps(CONFIG | (config or {})).encode()),
        "model.safetensors": bytearray(weights),
        "tokenizer.json": bytearray(b"{}"),
    }
    return import_bert(ModelFiles("bert", files, {"tokenizer.json": "0" * 64}, grid))


def test_a_folder_loads_and_names_its_tokenizer(tmp_path):
    manifest = write_bert(tmp_path)
    model = load_model(manifest, sha256(manifest.read_bytes()).digest())
    assert model.program.tokenizer == sha256(b"{}").hexdigest()
    assert [model.program.types[name].shape for name in model.program.boundaries] == [("T", 16)] * 3


def test_a_prefix_means_the_same_model():
    prefixed = {f"bert.{name}": array for name, array in bert_tensors(0).items()}
    assert load(safetensors_bytes(prefixed)).artefact_root == load().artefact_root


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_narrow_weights_are_the_float32_of_the_same_value(dtype):
    tensors = {name: array for name, array in bert_tensors(0).items() if array.dtype == np.float32}
    narrow, wide = (
        load(safetensors_bytes({name: narrowed(array, dtype)[side] for name, array in tensors.items()}))
        for side in (0, 1)
    )
    assert narrow.artefact_root == wide.artefact_root != load().artefact_root
    assert narrow.program_root == load().program_root


def test_a_tensor_that_stands_there_twice_is_refused():
    tensors = bert_tensors(0)
    name = "embeddings.LayerNorm.bias"
    with pytest.raises(MalformedFile, match=name):
        load(safetensors_bytes(tensors | {f"bert.{name}": tensors[name]}))


def test_a_manifest_may_choose_the_grid(tmp_path):
    manifest = write_bert(tmp_path)
    silent, digests = manifest.read_bytes(), {}
    assert b"grid" not in silent
    for grid in ("hi", "lo"):
        assert write_manifest(tmp_path, "bert", FILES["bert"], grid) == manifest
        assert json.loads(manifest.read_bytes()) == json.loads(silent) | {"grid": grid}
        model = load_model(manifest)
        assert model.program.grid == grid
        digests[grid] = model.program_root
    manifest.write_bytes(silent)
    assert load_model(manifest).program_root == digests["hi"] != digests["lo"]
    with pytest.raises(ManifestRefused, match="mid"):
        write_manifest(tmp_path, "bert", FILES["bert"], "mid")
    assert manifest.read_bytes() == silent


def test_a_grid_that_is_none_is_refused(tmp_path):
    document = json.loads(write_bert(tmp_path).read_bytes())
    for grid in ("mid", "", None, 1, ["hi"], {"hi": 1}, "h\ni"):
        data = json.dumps(document | {"grid": grid}, sort_keys=True, separators=(",", ":")).encode()
        (tmp_path / "manifest.json").write_bytes(data)
        with pytest.raises(ManifestRefused, match="grid") as caught:
            read_manifest(tmp_path / "manifest.json")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "manifest.json"])
def test_each_changed_file_is_noticed(tmp_path, name):
    manifest = write_bert(tmp_path)
    digest = sha256(manifest.read_bytes()).digest()
    path = tmp_path / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises((FileMismatch, ManifestRefused)):
        load_model(manifest, digest)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{",
        b'{"files":{},"format":"bert"}',
        b'{"files":{"model.onnx":"00"},"format":"onnx"}',
        b'{"files":{"model.onnx":"' + b"0" * 64 + b'"},"format":"pickle"}',
        b'{"files":{"model.onnx":"' + b"0" * 64 + b'"},"format":["onnx"]}',
        b'{"files":{"../model.onnx":"' + b"0" * 64 + b'"},"format":"onnx"}',
        b'{"files":{"model.onnx":"' + b"0" * 64 + b'"},"format":"bert"}',
        b'{"files":{"model.onnx":"' + b"0" * 64 + b'"},"format":"onnx","more":1}',
        b'{"format":"onnx","files":{"model.onnx":"' + b"0" * 64 + b'"}}',
        b'{"files": {"model.onnx":"' + b"0" * 64 + b'"},"format":"onnx"}',
        b"[" * 100_000,
        b" " * 100_000,
    ],
)
def test_manifests_that_are_none(tmp_path, document):
    (tmp_path / "manifest.json").write_bytes(document)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises((ManifestRefused, LimitExceeded)) as caught:
        read_manifest(tmp_path / "manifest.json")
    assert "\n" not in str(caught.value)


def test_missing_and_odd_files(tmp_path):
    with pytest.raises(MalformedFile):
        read_manifest(tmp_path / "manifest.json")
    with pytest.raises(MalformedFile):
        read_manifest(tmp_path)
    manifest = write_bert(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(MalformedFile, match=r"config\.json"):
        load_model(manifest)
    with pytest.raises(ManifestRefused):
        write_manifest(tmp_path, "bert", ["tokenizer.json"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model_type": "gpt2"}, UnsupportedModel),
        ({"model_type": ["bert"]}, UnsupportedModel),
        ({"hidden_act": "swish"}, UnsupportedModel),
        ({"hidden_act": "relu2"}, UnsupportedModel),
        ({"position_embedding_type": "relative_key"}, UnsupportedModel),
        ({"is_decoder": True}, UnsupportedModel),
        ({"hidden_size": 17}, MalformedFile),
        ({"hidden_size": "16"}, MalformedFile),
        ({"hidden_size": True}, MalformedFile),
        ({"hidden_size": 10**9}, LimitExceeded),
        ({"num_hidden_layers": 3}, MalformedFile),
        ({"num_hidden_layers": 10**6}, LimitExceeded),
        ({"vocab_size": 41}, MalformedFile),
        ({"layer_norm_eps": 0.0}, MalformedFile),
        ({"layer_norm_eps": float("nan")}, MalformedFile),
        ({"intermediate_size": 0}, MalformedFile),
    ],
)
def test_configs_that_lie(change, error):
    with pytest.raises(error) as caught:
        load(config=change)
    assert "\n" not in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from([*CONFIG, "is_decoder", "position_embedding_type"]), values)
@settings(max_examples=150)
def test_no_value_of_a_config_surprises(key, value):
    try:
        load(config={key: value})
    except (ModelRefused, ProgramError) as error:
        assert "\n" not in str(error)  # noqa: PT017


NO_CONFIGS = [b"", b"[]", b"nul", b"{" * 50_000, b"\xff", b'{"model_type": "bert"}']
NO_CONFIGS += ['{"model_type": "bert"}'.encode("utf-16"), b'{"model_type": "bert", "model_type": "bert"}']


@pytest.mark.parametrize("data", NO_CONFIGS)
def test_configs_that_are_none(data):
    with pytest.raises(ModelRefused):
        read_config(data)


def entry(**changes):
    first = {"dtype": "F32", "shape": [40, 16], "data_offsets": [0, 2560]}
    return safetensors_bytes(bert_tensors(0), {"embeddings.word_embeddings.weight": first | changes})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 3) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"{{{{",
        GOOD[:-1],
        GOOD + b"\0",
        entry(dtype="F16"),
        entry(dtype="X"),
        entry(dtype=3),
        entry(shape=[40, 17]),
        entry(shape=[-40, -16]),
        entry(shape=[2**40, 0]),
        entry(shape=640),
        entry(shape=[40.0, 16]),
        entry(data_offsets=[4, 2564]),
        entry(data_offsets=[0, 2**62]),
        entry(data_offsets=[2560, 0]),
        entry(data_offsets=[0]),
        entry(data_offsets="0"),
        entry(more=1),
    ],
)
def test_safetensors_that_lie(data):
    with pytest.raises(ModelRefused) as caught:
        load(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_are_finite(value):
    tensors = bert_tensors(0)
    tensors["encoder.layer.1.output.dense.weight"][3, 4] = value
    with pytest.raises(MalformedFile, match="NaN"):
        load(safetensors_bytes(tensors))


def test_a_missing_tensor_is_named():
    tensors = bert_tensors(0)
    del tensors["encoder.layer.1.output.dense.bias"]
    with pytest.raises(MalformedFile, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        load(safetensors_bytes(tensors))


@given(st.integers(0, 4000), st.integers(1, 255), st.booleans())
@settings(max_examples=200)
def test_a_damaged_checkpoint_is_another_model_or_refused(at, flip, cut):
    """Anywhere in the header or the first tensors: a typed refusal, or a model that still fits its program."""
    data = bytearray(GOOD)
    if cut:
        del data[at:]
    else:
        data[at] ^= flip
    try:
        model = load(bytes(data))
    except (ModelRefused, ProgramError):
        return
    assert not cut
    assert len(model.artefact_root) == 32
