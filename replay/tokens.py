"""Text to tokens and back, for people and for recipes: the engine itself knows tokens only.

A tokenizer's file is as hostile as a model's (a few lines of it can ask for any amount of time and memory), so all of this
runs in a confined worker only. What it computes is the package's word alone: no second implementation stands beside it as
one stands beside each kernel, so that files which draw lots are refused and whoever judges by a text is told the version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from replay.artifacts.errors import ArtifactMismatch
from replay.artifacts.manifest import MAX_MANIFEST_BYTES, manifest_files
from replay.errors import FileMismatch, InputRejected, MalformedFile, ManifestRefused, ReplayError, UnsupportedModel
from replay.importers.manifest import read_plain
from replay.shallow import once_each, parse_json

FILE = "tokenizer.json"
MAX_BYTES = 64 << 20
_Value = TypeVar("_Value")
#: What is known to make the same of the same text each time. A file of old names no kind of model.
_MODELS = {None, "BPE", "Unigram", "WordLevel", "WordPiece"}
_STEPS = {
    "normalizer": {
        "BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Replace",
        "Sequence", "Strip", "StripAccents",
    },
    "pre_tokenizer": {
        "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "FixedLength", "Metaspace", "Punctuation", "Sequence",
        "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit",
    },
    "post_processor": {"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"},
    "decoder": {
        "BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Sequence", "Strip", "WordPiece",
    },
}  # fmt: skip


class Encoded(NamedTuple):
    """``by``: the package that made ``ids`` of a text, and its version."""

    ids: list[int]
    by: str


class Tokenizer(Protocol):
    @property
    def by(self) -> str:
        """As in ``Encoded``."""

    def encode(self, text: str) -> list[int]:
        """Raises ``InputRejected`` for text that the model does not know."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Characters:
    """``{"type":"characters","vocabulary":…}``: a character's id is its place in the vocabulary."""

    by = "characters"

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

    def __init__(self, tokenizer: Any, version: str) -> None:
        self.by = f"tokenizers {version}"
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
    """Raises ``MalformedFile`` for what is no tokenizer, ``UnsupportedModel`` where the package is missing and for a tokenizer
    that is not known to say the same of the same text each time."""
    try:
        document = parse_json(data, once_each)
    except (ValueError, RecursionError) as error:
        raise MalformedFile(f"{FILE} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedFile(f"{FILE} is no JSON object")
    if document.get("type") == "characters":
        vocabulary = document.get("vocabulary")
        if not isinstance(vocabulary, str):
            raise MalformedFile(f"{FILE} has no vocabulary")
        return Characters(vocabulary)
    if not isinstance(document.get("model"), dict):
        raise MalformedFile(f"{FILE} has no model")
    if why := _uncertain(document):
        raise UnsupportedModel(f"{FILE} is not known to say the same each time: {why}")
    try:
        import tokenizers
    except ImportError as error:
        raise UnsupportedModel(
            "--text needs the package tokenizers: pip install 'inference-challenger[demo]'"
        ) from error
    return Library(tokenizers.Tokenizer.from_str(data.decode()), tokenizers.__version__)


def _uncertain(document: dict[str, Any]) -> str:
    """What of a tokenizer may be drawn anew by each process or at each call; else empty."""
    model = document["model"]
    if _kind(model) not in _MODELS:
        return f"its model is {_kind(model)!r}"
    steps = [(part, step) for part in _STEPS for step in _inside(document.get(part))]
    for part, step in steps:
        if _kind(step) not in _STEPS[part]:
            return f"a {part} is {_kind(step)!r}"
    if any(step.get("dropout") for _, step in [("model", model), *steps]):
        return "it has dropout"
    vocabulary = model.get("vocab")
    # the library finds the name of an id by going through a table in an order that is drawn at its start
    if isinstance(vocabulary, dict) and len(set(map(str, vocabulary.values()))) < len(vocabulary):
        return "two tokens have one id"
    return ""


def _inside(step: object) -> Iterator[dict[str, Any]]:
    """A step and, of a sequence, those in it."""
    if step is None:
        return
    one = step if isinstance(step, dict) else {"type": step}
    yield one
    for held in one.values() if _kind(one) == "Sequence" else ():
        for inner in held if isinstance(held, list) else ():
            yield from _inside(inner)


def _kind(part: object) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else part
    return kind if kind is None else str(kind)[:48]


def encode(manifest: Path, file_digest: bytes, text: str) -> Encoded:
    """The ids of ``text``. Raises ``ReplayError``, ``MemoryError``."""

    def act() -> Encoded:
        made = tokenizer(manifest, file_digest)
        return Encoded(made.encode(text), made.by)

    return _guarded(act)


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
