"""Builds one model with its false twins and its inputs: ``python -m challenger.sim.build digits FOLDER``.

A process of its own, so that training libraries take no memory from what follows, and two models are built at a time.
FOLDER then holds a folder per variant and ``inputs.npy`` or ``inputs.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from challenger.errors import ChallengerError
from challenger.sim import models
from challenger.sim.gpt import text
from challenger.sim.prompts import PROMPTS
from challenger.sim.scenario import DIGITS, TEXTS
from challenger.sim.scenario import SENTENCES as ENCODER
from challenger.sim.sentences import SENTENCES
from challenger.sim.workshop import Variant

PIXELS, TOKENS = "inputs.npy", "inputs.json"


def build(name: str, folder: Path) -> None:
    registered = folder / Variant.REGISTERED
    if name == DIGITS:
        manifest = models.digits_model(registered)
        _save_pixels(folder / PIXELS)
    elif name == TEXTS:
        manifest = models.gpt_model(registered)
        prompts = [text.encode(one) for one in PROMPTS]
        (folder / TOKENS).write_text(json.dumps(prompts), encoding="utf-8")
    else:
        manifest = models.minilm_model(registered)
        _save_tokens(registered / "tokenizer.json", folder / TOKENS)
    models.int8_weights(manifest, folder / Variant.INT8)
    models.older(manifest, folder / Variant.OLDER)


def _save_pixels(path: Path) -> None:
    """Each image once, as the classifier wants it: float32 [1797, 64] in 0 to 1."""
    from sklearn.datasets import load_digits

    pixels = (load_digits().data / 16.0).astype(np.float32)
    np.save(path, np.unique(pixels, axis=0)[np.random.default_rng(0).permutation(len(np.unique(pixels, axis=0)))])


def _save_tokens(tokenizer: Path, path: Path) -> None:
    """The sentences as token ids with their special tokens, unpadded."""
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer))
    words.no_padding()
    path.write_text(json.dumps([words.encode(one).ids for one in SENTENCES]), encoding="utf-8")


def main() -> int:
    name, folder = sys.argv[1:]
    if name not in (DIGITS, ENCODER, TEXTS):
        raise SystemExit(f"no such model: {name}")
    try:
        build(name, Path(folder))
    except (ChallengerError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201  whoever started this process reads it there
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
