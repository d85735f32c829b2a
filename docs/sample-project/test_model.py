"""The model still computes, bit for bit, what was recorded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from replay.layout import decode_bundle
from replay.pytest_plugin import AssertReplays
from replay.recording import Recording
from replay.recording.runs import recorded_runs

INPUTS = [
    {"x": np.array([[0.5, -1.0, 2.0, 0.25]], np.float32)},
    {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)},
]


def test_the_model_computes_what_was_recorded(assert_replays: AssertReplays) -> None:
    assert_replays("runs.tar", "model", inputs=INPUTS)


def test_this_machine_computes_what_was_recorded(assert_replays: AssertReplays) -> None:
    assert_replays("runs.tar")  # the model is in the recording


def test_the_recorded_scores_rank_the_classes(recording: Callable[[str | Path], Recording]) -> None:
    runs = list(recorded_runs(recording("runs.tar")))
    ranked = [decode_bundle(run.output)["score"].argmax(axis=1).tolist() for run in runs]
    assert ranked == [[2], [0, 2, 2]]
