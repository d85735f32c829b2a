"""Text to tokens and back, for people: the engine itself knows tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from replay.cli import Failure, UsageError
from replay.shallow import parse_json

FILE = "tokenizer.json"


class Tokenizer(Protocol):
    def encode(self, text: str) -> list[int]:
        """Raises ``UsageError`` for text that the model does not know."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Characters:
    """``{"type":"characters","vocabulary":…}``: a character's id is its place in the vocabulary."""

    def __init__(self, vocabulary: str) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        unknown = sorted(set(text) - set(self._vocabulary))
        if unknown:
            raise UsageError(f"the model does not know the character {unknown[0]!a}")
        return [self._vocabulary.index(character) for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._vocabulary[i] if 0 <= i < len(self._vocabulary) else "\ufffd" for i in ids)


class Library:
    """A tokenizer of the package ``tokenizers``."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))


def read_tokenizer(data: bytes) -> Tokenizer:
    """Raises ``Failure`` for what is no tokenizer, ``UsageError`` where the package is missing."""
    try:
        document = parse_json(data)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{FILE} is not JSON: {error}", "model-rejected") from error
    if isinstance(document, dict) and document.get("type") == "characters":
        vocabulary = document.get("vocabulary")
        if not isinstance(vocabulary, str):
            raise Failure(f"{FILE} has no vocabulary", "model-rejected")
        return Characters(vocabulary)
    try:
        from tokenizers import Tokenizer as Loaded
    except ImportError as error:
        raise UsageError("--text needs the package tokenizers: pip install 'inference-challenger[demo]'") from error
    try:
        return Library(Loaded.from_str(data.decode()))
    except Exception as error:  # the library raises plain Exception for a file that it cannot read
        raise Failure(f"{FILE} is not a tokenizer: {error}", "model-rejected") from error
