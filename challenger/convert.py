"""Values of settings, from what a file or an environment variable says. Raises ConfigError, which names the place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from challenger.domain import Address, Mode
from challenger.errors import ConfigError


def refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], source: str, what: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            raise ConfigError(f"unknown {what} {name}{hint}", file=source)


def from_environment(env: Mapping[str, str], name: str) -> str | None:
    if name in env:
        return env[name]
    path = env.get(name + "_FILE")
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}_FILE cannot be read: {type(error).__name__}", file=path) from None


def convert(value: Any, hint: Any, where: str, source: str) -> Any:
    """``value`` as the field's type; numbers and lists may arrive as text from the environment."""
    kind = getattr(hint, "__supertype__", hint)
    if get_origin(kind) is Mapping:
        return _table(value, where, source)
    if get_origin(kind) is tuple:
        if isinstance(value, str):  # what stands on lines of its own may hold commas
            parts = value.splitlines() if "\n" in value else value.split(",")
            value = [part.strip() for part in parts if part.strip()]
        items = value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{where} must be a list of strings", file=source)
        return tuple(items)
    if get_args(kind):  # X | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    try:
        if kind is bool:
            return _boolean(value)
        if kind in (int, float) and isinstance(value, bool):
            raise ValueError  # noqa: TRY301  a TOML true is no number
        if kind is int:
            return _integer(value)
        if kind is str and not isinstance(value, str):
            raise ValueError  # noqa: TRY301
        made = kind(value)
    except (ValueError, TypeError):
        names = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "text"}
        wanted = "one of " + ", ".join(kind) if issubclass(kind, Mode) else names.get(kind.__name__, kind.__name__)
        raise ConfigError(f"{where} must be {wanted}", file=source) from None
    return made.lower() if hint is Address else made


def _table(value: Any, where: str, source: str) -> dict[str, Any]:
    """A table of the file; from the environment, where there are none, a JSON object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{where} must be a JSON object: {error}", file=source) from None
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a table", file=source)
    return value


def _integer(value: Any) -> int:
    if isinstance(value, float):
        raise ValueError  # noqa: TRY004  reported as a wrong value by the caller
    return int(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return words[value.lower()] if isinstance(value, str) and value.lower() in words else _refuse()


def _refuse() -> bool:
    raise ValueError
