"""What a package adds to speak another protocol, and how it is found.

A plugin is one object with the members of ``Disputed``. A distribution names it under the entry point group
``challenger.protocols``; ``[protocol] name`` in the settings chooses it by the entry point's name. Ours are found the same
way to call, by the table below, so that a checkout that was never installed has them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

from challenger.convert import refuse_unknown
from challenger.domain import Address, Block, Capability, ChainId, Wei
from challenger.errors import ConfigError
from challenger.pipeline.engine import Files, Replays, Workers
from challenger.protocols.base import Adapter, CodeReader
from challenger.settings import REPORTED

#: Under which group a distribution names its plugin.
GROUP = "challenger.protocols"
#: Those of this package: name → module and object.
OURS: Mapping[str, str] = {
    "reference": "challenger.plugins.reference:PLUGIN",
    "arbius": "challenger.plugins.arbius:PLUGIN",
}


class Reader(CodeReader, Protocol):
    """What an adapter may ask of the chain; ``Rpc`` has more."""

    async def chain_id(self) -> ChainId: ...

    async def block(self, which: int | bytes | str) -> Block: ...

    async def balance(self, address: Address, block: int | bytes | str = "latest") -> Wei: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where and for whom an adapter works. ``contract``: ``[chain] market``; ``account``: whose disputes these are, None
    for a watcher without a key; ``secret``: 32 bytes bound to that account's key, empty without one; ``anchor``: the
    ``EpochAnchor``, if there is one; ``options``: what the plugin's ``options`` made of the settings."""

    chain: Any
    chain_id: ChainId
    contract: Address
    account: Address | None = None
    secret: bytes = b""
    anchor: Address | None = None
    options: Any = None


@dataclass(frozen=True, slots=True)
class Means:
    """What replays have at hand: where files come from, where models run, and the most bytes of either."""

    files: Files
    workers: Workers
    model_bytes: int
    bundle_bytes: int


class Disputed(Protocol):
    """A protocol whose commitments can be disputed."""

    @property
    def name(self) -> str: ...

    @property
    def capability(self) -> Capability:
        """The most that an adapter of it can have; what one has depends on its account."""
        ...

    @property
    def summary(self) -> str:
        """One line for people."""
        ...

    def options(self, raw: Mapping[str, Any], source: str) -> Any:
        """``[protocol] options`` as values of the plugin's own. Raises ConfigError that names the option."""
        ...

    def adapter(self, place: Place) -> Adapter: ...

    def engine(self, means: Means, options: Any) -> Replays:
        """The door to replays of this protocol's models."""
        ...

    def explain(self, data: bytes) -> str:
        """Revert data of the protocol's contracts in words."""
        ...


def no_options(raw: Mapping[str, Any], source: str) -> None:
    """``options`` of a plugin that has none."""
    refuse_unknown(raw, {}, source, "[protocol] option")


def names() -> dict[str, str]:
    """Every protocol that can be chosen → the distribution that it comes from."""
    ours = dict.fromkeys((*OURS, *REPORTED), "inference-challenger")
    return ours | {point.name: _whose(point) for point in _points() if point.name not in ours}


def plugin(name: str) -> Disputed:
    """The plugin called ``name``. Raises ConfigError for one that is not installed, that two distributions claim, that
    cannot be loaded, or that lacks a member."""
    if name in OURS:
        module, _, thing = OURS[name].partition(":")
        return cast("Disputed", getattr(import_module(module), thing))
    if name in REPORTED:
        raise ConfigError(
            f"[protocol] name: {name} has no disputes, so this cannot be done there: `challenger run` and "
            "`challenger report` audit it"
        )
    points = [point for point in _points() if point.name == name]
    if not points:
        raise ConfigError(f"[protocol] name: there is no protocol {name!r}; installed are {', '.join(sorted(names()))}")
    if len(points) > 1:
        raise ConfigError(f"[protocol] name: {' and '.join(map(_whose, points))} both bring {name!r}: uninstall one")
    try:
        found = points[0].load()
    except Exception as error:  # the code of somebody else, at import: anything may come
        raise ConfigError(
            f"[protocol] name: {name!r} of {_whose(points[0])} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    missing = [member for member in _MEMBERS if not hasattr(found, member)]
    if missing:
        raise ConfigError(f"[protocol] name: {name!r} of {_whose(points[0])} lacks {', '.join(missing)}")
    if found.name != name:
        raise ConfigError(f"[protocol] name: {name!r} of {_whose(points[0])} calls itself {found.name!r}")
    return cast("Disputed", found)


_MEMBERS = ("name", "capability", "summary", "options", "adapter", "engine", "explain")


def _points() -> list[EntryPoint]:
    return list(dict.fromkeys(entry_points(group=GROUP)))


def _whose(point: EntryPoint) -> str:
    return "an unnamed distribution" if point.dist is None else point.dist.name
