"""The policies that a backtest compares: settings, with some of them changed.

``NAME:key=value,key=value`` changes keys of the settings at hand, ``FILE.toml`` brings settings of its own. Only what
decides about draws, order and filing may be changed: the rest says where a watcher runs, not what it does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from challenger.domain import Mode
from challenger.errors import ConfigError
from challenger.parts import limits_of, policy_of
from challenger.pipeline.gates import Limits
from challenger.sampling.policy import Policy
from challenger.settings import Settings, load, override

#: What a policy may change, by section.
KEYS = {
    "sampling": ("base", "newcomer", "trusted_after", "offender", "margin", "delay"),
    "replay": ("workers", "retry_seconds"),
    "filing": (
        *("exposure", "min_value", "certainty", "correlated_providers", "correlated_seconds", "max_fee"),
        *("safety_seconds", "per_provider", "per_day"),
    ),
}
_SECTION = {key: section for section, keys in KEYS.items() for key in keys}
#: Compared with the settings at hand where nothing else was asked for: the most that drawing can do, and the least.
USUAL = (
    "everything:base=1000000",
    "least:base=0,newcomer=0,trusted_after=0,offender=0",
)
CURRENT = "current"
_NAME = re.compile(r"[\w.+-]{1,24}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One policy. Times in seconds; ``delay`` in blocks."""

    name: str
    policy: Policy
    limits: Limits
    workers: int
    delay: int
    retry: int
    correlated_seconds: int


def choices(settings: Settings, asked: Sequence[str]) -> list[Choice]:
    """The settings themselves, then what was ``asked`` for. Raises ConfigError, which names the policy."""
    found = [_choice(CURRENT, settings)]
    for text in asked or USUAL:
        made = _read(settings, text)
        if made.name in {one.name for one in found}:
            raise ConfigError("two policies of one name", policy=made.name)
        found.append(made)
    return found


def _read(settings: Settings, text: str) -> Choice:
    if text.endswith(".toml"):
        path = Path(text)
        return _choice(path.stem, load(path, {}))
    name, colon, rest = text.partition(":")
    if not (_NAME.fullmatch(name) and colon and rest):
        raise ConfigError(
            "a policy is NAME:key=value,… (a name of up to 24 letters, digits and . + - _) or FILE.toml",
            policy=ascii(text),
        )
    changes = {}
    for item in rest.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        plain = key.rpartition(".")[2]
        section = _SECTION.get(plain)
        if not equals or section is None or key not in (plain, f"{section}.{plain}"):
            raise ConfigError(f"a policy changes one of {', '.join(_SECTION)}", policy=name, got=item)
        if f"{section}.{plain}" in changes:
            raise ConfigError("a policy names a key twice", policy=name, got=item)
        changes[f"{section}.{plain}"] = value
    try:
        return _choice(name, override(settings, changes, f"policy {name}"))
    except ConfigError as error:
        raise ConfigError(f"policy {name}: {error}") from None


def _choice(name: str, settings: Settings) -> Choice:
    return Choice(
        name,
        policy_of(settings),
        replace(limits_of(settings), mode=Mode.LIVE),
        settings.replay.workers,
        settings.sampling.delay,
        settings.replay.retry_seconds,
        settings.filing.correlated_seconds,
    )
