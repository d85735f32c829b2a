"""Text to tokens and back, for people: the engine itself knows tokens only.

A tokenizer's file is as hostile as a model's (a few lines of it can ask for any amount of time and memory), so all of this
runs in a confined worker only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeVar

from replay.artifacts.errors import ArtifactMismatch
from replay.artifacts.manifest import MAX_MANIFEST_BYTES, manifest_files
from replay.errors import FileMismatch, InputRejected, MalformedFile, ManifestRefused, ReplayError, UnsupportedModel
from replay.importers.manifest import read_plain
from replay.shallow import parse_json

FILE = "tokenizer.json"
MAX_BYTES = 64 << 20
_Value = TypeVar("_Value")


class Tokenizer(Protocol):
    def encode(self, text: str) -> list[int]:
        """Raises ``InputRejected`` for text that the model does not know."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Characters:
    """``{"type":"characters","vocabulary":…}``: a character's id is its place in the vocabulary."""

    def __init__(self, vocabulary: str) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        unknown = sorted(set(text) - set(self._vocabulary))
        if unknown:
            raise InputRejected(f"the model does not know the character {unknown[0]!a}")
        return [self._vocabulary.index(character) for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._vocabulary[i] if 0 <= i < len(self._vocabulary) else "\ufffd" for i in ids)


class Library:
    """A tokenizer of the package ``tokenizers``."""

    def __init__(self, tokenizer: Any) -> None:
        # a token or a prompt that the file fills up or cuts off would not be the text that was asked about
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))


def tokenizer(manifest: Path, file_digest: bytes) -> Tokenizer:
    """The tokenizer that a manifest names, by digest. Raises ``ModelRefused``, ``InputRejected`` where it names none."""
    data = bytes(read_plain(manifest, MAX_MANIFEST_BYTES))
    if sha256(data).digest() != file_digest:
        raise FileMismatch("the manifest's digest differs", file=manifest.name, wanted=file_digest.hex())
    try:
        digest = manifest_files(data).get(FILE)
    except ArtifactMismatch as error:
        raise ManifestRefused(error.detail) from error
    if digest is None:
        raise InputRejected(f"--text needs a model with a {FILE}")
    held = bytes(read_plain(manifest.with_name(FILE), MAX_BYTES))
    if sha256(held).digest() != digest:
        raise FileMismatch("the file's digest differs", file=FILE, wanted=digest.hex())
    return read_tokenizer(held)


def read_tokenizer(data: bytes) -> Tokenizer:
    """Raises ``MalformedFile`` for what is no tokenizer, ``UnsupportedModel`` where the package is missing."""
    try:
        document = parse_json(data)
    except (ValueError, RecursionError) as error:
        raise MalformedFile(f"{FILE} is not JSON: {error}") from error
    if isinstance(document, dict) and document.get("type") == "characters":
        vocabulary = document.get("vocabulary")
        if not isinstance(vocabulary, str):
            raise MalformedFile(f"{FILE} has no vocabulary")
        return Characters(vocabulary)
    try:
        from tokenizers import Tokenizer as Loaded
    except ImportError as error:
        raise UnsupportedModel(
            "--text needs the package tokenizers: pip install 'inference-challenger[demo]'"
        ) from error
    return Library(Loaded.from_str(data.decode()))


def encode(manifest: Path, file_digest: bytes, text: str) -> list[int]:
    """The ids of ``text``. Raises ``ReplayError``, ``MemoryError``."""
    return _guarded(lambda: tokenizer(manifest, file_digest).encode(text))


def decode(manifest: Path, file_digest: bytes, ids: Sequence[int]) -> str:
    """The text of ``ids``. Raises ``ReplayError``, ``MemoryError``."""
    return _guarded(lambda: tokenizer(manifest, file_digest).decode(ids))


def _guarded(act: Callable[[], _Value]) -> _Value:
    try:
        return act()
    except (ReplayError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises plain Exception, and its panics are no Exception at all
        raise MalformedFile(f"{FILE} cannot be used: {type(error).__name__}: {error}") from error
