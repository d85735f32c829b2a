"""Commitments: the roots are what the layout says, and one bit or one token more or less changes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import BACKENDS, one, write_bert

from replay.layout import (
    PAD_LEAF,
    bundle_root,
    decode_bundle,
    hash_tile,
    merkle_root,
    tensor_root,
    tile_count,
    verify_path,
)
from replay.model import Model, load_model
from replay.run import execute, prepare
from replay.trace import commit


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_model(write_bert(tmp_path_factory.mktemp("bert")))


INPUTS = {"input_ids": np.array([1, 7, 7, 30, 2], np.int32)}


def test_a_receipt_is_what_the_layout_says(bert):
    receipt, run = commit(bert, INPUTS), execute(bert, INPUTS)
    assert receipt.input_root == receipt.leaves[0] == bundle_root(INPUTS)
    assert receipt.output_root == receipt.leaves[-1] == bundle_root(receipt.output)
    assert receipt.leaves[1:-1] == tuple(tensor_root(tensor) for tensor in run.boundaries)
    assert receipt.state_root == merkle_root(receipt.leaves)
    assert len(receipt.leaves) == bert.boundaries == 5
    assert verify_path(receipt.leaves[0], 0, 5, receipt.first_path, receipt.state_root)
    assert verify_path(receipt.leaves[-1], 4, 5, receipt.last_path, receipt.state_root)
    assert decode_bundle(receipt.output)["embedding"].tobytes() == run.outputs["embedding"].tobytes()


def test_backends_and_repetition_give_one_commitment(bert):
    receipts = [commit(prepare(bert, backend), INPUTS) for backend in (*BACKENDS, *BACKENDS)]
    assert len({(r.input_root, r.output_root, r.state_root, r.leaves, r.output) for r in receipts}) == 1


@given(
    st.sampled_from(["layer.0.qkv.weight", "layer.1.outer.weight", "embeddings.words", "layer.0.inner.bias"]), st.data()
)
@settings(max_examples=15)
def test_a_changed_weight_shows_in_the_artefact_root(bert, name, data):
    """A weight far below its row's largest may fall off the grid: then it is the same model."""
    weights = dict(bert.weights)
    array = weights[name].copy()
    at = data.draw(st.integers(0, array.size - 1))
    array.reshape(-1).view(np.uint32)[at] ^= np.uint32(1 << 23)
    weights[name] = array
    other = Model(bert.program, weights)
    assert other.program_root == bert.program_root
    if np.abs(array.reshape(-1)[at]) > np.abs(array).max() * 2.0**-20:
        assert other.artefact_root != bert.artefact_root


def test_one_weight_bit_changes_the_state_root(bert):
    weights = dict(bert.weights)
    array = weights["layer.0.qkv.weight"].copy()
    array.reshape(-1).view(np.uint32)[int(np.abs(array).argmax())] ^= np.uint32(1 << 21)
    weights["layer.0.qkv.weight"] = array
    mine, theirs = commit(bert, INPUTS), commit(Model(bert.program, weights), INPUTS)
    assert mine.input_root == theirs.input_root
    assert mine.leaves[1] == theirs.leaves[1]
    assert mine.leaves[2] != theirs.leaves[2]
    assert mine.state_root != theirs.state_root
    assert mine.output_root != theirs.output_root


def test_a_truncated_token_changes_both_roots(bert):
    short = {"input_ids": INPUTS["input_ids"][:-1]}
    mine, theirs = commit(bert, INPUTS), commit(bert, short)
    assert mine.output_root != theirs.output_root
    assert not set(mine.leaves) & set(theirs.leaves)


def test_the_artefact_opens_tile_by_tile(bert):
    tiles = bert.artefact_tiles
    expected = 0
    for weight in bert.program.weights:
        expected += tile_count(weight.shape) + (tile_count(weight.shape[:1]) if weight.form == "grid" else 0)
    assert tiles == expected
    for index in {0, 1, tiles // 2, tiles - 1}:
        tile, path = bert.artefact_tile(index)
        assert verify_path(hash_tile(tile), index, tiles, path, bert.artefact_root)


def test_a_nonfinite_run_commits_to_the_place():
    x = np.full((2, 3), 3e38, np.float32)

    def build(b):
        return b.add("relu", [b.add("add", ["x", "x"], name="sum")])

    model = one(x, build)
    model = Model(replace(model.program, boundaries=("sum",)), model.weights)
    for backend in BACKENDS:
        receipt = commit(model, {"x": x}, backend)
        assert receipt.leaves[1] == PAD_LEAF
        assert decode_bundle(receipt.output)["nonfinite"].tolist() == [0, 0]
        assert receipt.output_root == bundle_root({"nonfinite": np.array([0, 0], np.int32)})
