"""Tokens: 256 random bits each, shown once; the file holds their hashes. One file, for its owner alone."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from challenger.errors import ConfigError, NotInRecord
from challenger.web.table import Scope

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
#: So that a token is known for one where it should not be.
_PREFIX = "chlg_"


@dataclass(frozen=True, slots=True)
class Token:
    """``digest``: sha256 of the token's text, as hex; ``created``: UTC seconds of this machine's clock."""

    name: str
    scope: Scope
    digest: str
    created: int


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Tokens:
    """The tokens of a file, which is read again whenever it has changed: a revoked one is refused at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._known: tuple[Token, ...] = ()

    def all(self) -> tuple[Token, ...]:
        """Raises ConfigError for a file that others may read or that is none of ours."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._seen, self._known = None, ()
            return ()
        except OSError as error:
            raise ConfigError(f"the tokens cannot be read: {error.strerror}", file=self.path) from error
        if stat.st_mode & 0o077:
            raise ConfigError("the tokens' file must be for its owner alone: chmod 600", file=self.path)
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._known = self._read()
            self._seen = seen
        return self._known

    def of(self, text: str) -> Token | None:
        """The token whose text this is. Every one is compared, each in constant time."""
        asked, found = digest_of(text), None
        for token in self.all():
            if hmac.compare_digest(token.digest, asked):
                found = token
        return found

    def add(self, name: str, scope: Scope, now: float | None = None) -> str:
        """Makes a token and gives its text, which is nowhere kept. Raises ConfigError for a name that is taken or none."""
        if not _NAME.fullmatch(name):
            raise ConfigError("a token's name is 1 to 40 letters, digits, dots, dashes and underscores", got=name)
        there = self.all()
        if any(token.name == name for token in there):
            raise ConfigError("there is a token of this name; revoke it first", name=name)
        text = _PREFIX + secrets.token_urlsafe(32)
        made = Token(name, scope, digest_of(text), int(time.time() if now is None else now))
        self._write((*there, made))
        return text

    def revoke(self, name: str) -> None:
        """Raises NotInRecord when there is no such token."""
        there = self.all()
        left = tuple(token for token in there if token.name != name)
        if len(left) == len(there):
            raise NotInRecord("no token of this name", asked=name)
        self._write(left)

    def _read(self) -> tuple[Token, ...]:
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))["tokens"]
            return tuple(Token(r["name"], Scope(r["scope"]), r["digest"], int(r["created"])) for r in rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError("this is no file of tokens", file=self.path) from error

    def _write(self, tokens: tuple[Token, ...]) -> None:
        told = json.dumps({"version": 1, "tokens": [asdict(token) for token in tokens]}, indent=1) + "\n"
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(told)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise ConfigError(f"the tokens cannot be written: {error.strerror}", file=self.path) from error
