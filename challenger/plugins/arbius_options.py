"""``[protocol] options`` of Arbius, from what a settings file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from challenger.convert import convert, refuse_unknown
from challenger.domain import BlockNumber, Hash32, ModelId, TaskId, Wei
from challenger.errors import ConfigError
from challenger.pipeline.recipes import Recipe
from challenger.protocols.arbius.cid import output_root
from replay.artifacts.ipfs.cid import Cid
from replay.artifacts.ipfs.errors import CidRefused
from replay.errors import InputRejected
from replay.sampling import Sampling

_WHERE = "[protocol] options"
#: How a recipe's answer is drawn: option → what ``Sampling`` says without it, None where it must be said.
_DRAWN: Mapping[str, int | None] = {"max_tokens": None, "temperature": 0, "top_k": 0, "top_p": 1_000_000, "end": -1}
_TEXTS: Mapping[str, str | None] = {
    "uri": None,
    "file_digest": None,
    "program_root": None,
    "artefact_root": None,
    "known_input": None,
    "known_cid": None,
    "known_task": "00" * 32,
    "prompt": "prompt",
    "file": "out-1.txt",
    "port": "input_ids",
}
#: What an input may have beside the prompt.
_BESIDE = ("fixed", "ignored")


@dataclass(frozen=True, slots=True)
class Options:
    """``token_price``: what a whole token is worth, in wei of ether; ``start``: the first indexed block, as ``[chain] start_block``
    has it, where the index begins later than the engine, else 0; ``votes_from``: from which block on to learn how people
    vote, −1 for not at all; ``recipes``: how models are run."""

    token_price: Wei
    start: BlockNumber = BlockNumber(0)
    votes_from: int = -1
    recipes: tuple[Recipe, ...] = ()


def read_options(raw: Mapping[str, Any], source: str) -> Options:
    """Raises ConfigError."""
    known = {"token_price": int, "start": int, "votes_from": int, "recipes": dict}
    refuse_unknown(raw, known, source, "[protocol] option")
    if "token_price" not in raw:
        raise ConfigError(f"{_WHERE} token_price is missing: what a token is worth, in wei of ether", file=source)
    given = {
        name: convert(raw[name], int, f"{_WHERE} {name}", source) for name in known if name in raw and name != "recipes"
    }
    for name, least in (("token_price", 0), ("start", 0), ("votes_from", -1)):
        if given.get(name, least) < least:
            raise ConfigError(f"{_WHERE} {name} is at least {least}", file=source)
    recipes = convert(raw.get("recipes", {}), Mapping[str, Any], f"{_WHERE} recipes", source)
    made = tuple(_recipe(model, table, source) for model, table in recipes.items())
    return Options(Wei(given["token_price"]), BlockNumber(given.get("start", 0)), given.get("votes_from", -1), made)


def _recipe(model: str, table: Any, source: str) -> Recipe:
    where = f"{_WHERE} recipes {model}"
    given = convert(table, Mapping[str, Any], where, source)
    refuse_unknown(given, {**_TEXTS, **_DRAWN, **dict.fromkeys(_BESIDE)}, source, f"member of {where}")
    missing = [name for name, default in {**_TEXTS, **_DRAWN}.items() if default is None and name not in given]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}", file=source)
    text = {name: convert(given.get(name, default), str, f"{where} {name}", source) for name, default in _TEXTS.items()}
    drawn = {
        name: convert(given.get(name, default), int, f"{where} {name}", source) for name, default in _DRAWN.items()
    }
    try:
        sampling = Sampling(**drawn)
    except InputRejected as error:
        raise ConfigError(f"{where}: {error}", file=source) from None
    try:
        known = Cid.parse(text["known_cid"])
    except CidRefused as error:
        raise ConfigError(f"{where} known_cid: {error}", file=source) from None
    return Recipe(
        model=ModelId(_word(model, where, source)),
        uri=text["uri"],
        file_digest=_word(text["file_digest"], f"{where} file_digest", source),
        program_root=_word(text["program_root"], f"{where} program_root", source),
        artefact_root=_word(text["artefact_root"], f"{where} artefact_root", source),
        prompt=text["prompt"],
        file=text["file"],
        port=text["port"],
        sampling=sampling,
        known_input=text["known_input"].encode(),
        known_digest=output_root(known.binary),
        known_task=TaskId(_word(text["known_task"], f"{where} known_task", source)),
        fixed=_fixed(given.get("fixed", {}), f"{where} fixed", source),
        ignored=frozenset(convert(given.get("ignored", ()), tuple[str, ...], f"{where} ignored", source)),
    )


def _fixed(table: Any, where: str, source: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = convert(table, Mapping[str, Any], where, source)
    for name, value in found.items():
        if not isinstance(value, str | bool | int | float):
            raise ConfigError(f"{where} {name} must be a text, a number, true or false", file=source)
    return found


def _word(text: str, where: str, source: str) -> Hash32:
    try:
        word = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        word = b""
    if len(word) != 32:
        raise ConfigError(f"{where} must be 32 bytes in hex", file=source)
    return Hash32(word)
