"""Text to ids and back, one id a character, by the vocabulary in ``tokenizer.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
TOKENIZER = "tokenizer.json"


@cache
def vocabulary() -> str:
    """All characters, each at the place of its id."""
    document = json.loads((FOLDER / TOKENIZER).read_text(encoding="ascii"))
    if document["type"] != "characters":
        raise ValueError(f"{TOKENIZER} is of type {document['type']!r}, not 'characters'")
    return str(document["vocabulary"])


@cache
def _ids() -> dict[str, int]:
    return {character: i for i, character in enumerate(vocabulary())}


def encode(text: str) -> list[int]:
    """The ids of ``text``, as many as it has characters.

    Raises ValueError naming the first character that is not in the vocabulary.
    """
    ids = _ids()
    try:
        return [ids[character] for character in text]
    except KeyError as error:
        raise ValueError(f"the character {error.args[0]!r} is not in the vocabulary") from None


def decode(ids: Iterable[int]) -> str:
    """The text of ``ids``. Raises ValueError naming the first id that is not in the vocabulary."""
    characters = vocabulary()
    found = []
    for i in ids:
        if not 0 <= i < len(characters):  # a negative id would count from the end
            raise ValueError(f"the id {i} is not in the vocabulary of {len(characters)}")
        found.append(characters[i])
    return "".join(found)
