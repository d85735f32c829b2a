"""A committed text that is served by address is shown to the replay, which then reads it at once; nothing else is fetched for it."""

from __future__ import annotations

import numpy as np
import pytest

from challenger.domain import Hash32
from challenger.pipeline.engine import MAX_TEXT, Engine
from challenger.sim.toy import ToyFiles, ToyWorkers
from replay.artifacts import ArtifactError, ArtifactMissing, ArtifactReason, ArtifactRefused, ArtifactStoreFailed
from replay.layout import bundle_root, encode_bundle
from replay.sampling import Sampling

PROMPT = np.array([3, 1, 4], np.int32)
ASKS = encode_bundle({"input_ids": PROMPT, "sampling": Sampling(4).tensor()})
TEXT = encode_bundle({"tokens": np.array([1, 5, 9, 2], np.int32)})
ROOT = Hash32(bundle_root(TEXT))


class Failing(ToyFiles):
    def __init__(self, error: ArtifactError) -> None:
        self.error = error

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 0) -> bytes:
        raise self.error


def engine(files: ToyFiles) -> Engine:
    return Engine(files, ToyWorkers(), model_bytes=1 << 20, bundle_bytes=1 << 30)


async def test_a_text_is_shown_and_nothing_else_is(tmp_path):
    served = tmp_path / "output"
    served.write_bytes(TEXT)
    asked = engine(ToyFiles())
    assert await asked.text(ASKS, served.as_uri(), ROOT, len(TEXT)) == TEXT
    assert await asked.text(encode_bundle({"input_ids": PROMPT}), served.as_uri(), ROOT, len(TEXT)) == b""
    assert await asked.text(b"no bundle", served.as_uri(), ROOT, len(TEXT)) == b""
    assert await asked.text(ASKS, served.as_uri(), ROOT, MAX_TEXT + 1) == b""
    assert await asked.text(ASKS, (tmp_path / "absent").as_uri(), ROOT, len(TEXT)) == b""


@pytest.mark.parametrize(
    "error",
    [
        ArtifactMissing(ArtifactReason.TIMEOUT, uri="http://x/"),
        ArtifactRefused(ArtifactReason.ADDRESS, uri="http://x/"),
        ArtifactStoreFailed(ArtifactReason.STORE, uri="http://x/"),
    ],
)
async def test_what_cannot_be_had_leaves_the_replay_as_it_was(error):
    assert await engine(Failing(error)).text(ASKS, "http://x/", ROOT, len(TEXT)) == b""
