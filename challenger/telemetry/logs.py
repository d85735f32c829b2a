"""Structured logs: every line carries ``action=`` and its ids as fields, never glued into a sentence."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

LOGGER = logging.getLogger("challenger")
LOGGER.addHandler(logging.NullHandler())  # silent until a command configures it


#: Which of several watchers in this process speaks; empty where there is one.
_WATCHER: ContextVar[str] = ContextVar("watcher", default="")


@contextmanager
def speaking_as(watcher: str) -> Iterator[None]:
    """Within, and in all tasks that start there, every line says ``watcher=``."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def say(action: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """One line about ``action``; bytes are shown as 0x hex. Nothing secret belongs in a field."""
    say_fields(action, level, fields)


def say_fields(action: str, level: int, fields: Mapping[str, Any]) -> None:
    """As ``say``, for fields of any name."""
    if LOGGER.isEnabledFor(level):
        told = {k: shown(v) for k, v in fields.items()}
        if watcher := _WATCHER.get():
            told = {"watcher": watcher, **told}
        LOGGER.log(level, action, extra={"action": action, "fields": told})


def shown(value: Any) -> Any:
    """``value`` as a field of a log line: bytes as 0x hex."""
    return "0x" + value.hex() if isinstance(value, bytes) else value


class KeyValue(logging.Formatter):
    """``time level action=… key=value``; values with spaces are quoted, control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"action": getattr(record, "action", record.name), **getattr(record, "fields", {})}
        if "action" not in record.__dict__:
            fields["message"] = record.getMessage()
        body = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        return f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')} {record.levelname.lower()} {body}"


class Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"), "level": record.levelname.lower()}
        fields |= {"action": getattr(record, "action", record.name), **getattr(record, "fields", {})}
        if "action" not in record.__dict__:
            fields["message"] = record.getMessage()
        return json.dumps(fields, default=str)


def _quoted(value: Any) -> str:
    text = str(value)
    plain = text.isprintable() and " " not in text and '"' not in text and text
    return text if plain else json.dumps(text)


def configure(*, as_json: bool, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Logs of ours go to ``stream`` (stderr), once."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Json() if as_json else KeyValue())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False
