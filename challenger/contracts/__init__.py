"""The reference protocol's compiled contracts, as data: ABI, creation code, runtime code. And the doubles: contracts of
our own that behave as other protocols' deployed ones do where it matters to a watcher, for tests and demo.

The artifacts are built by ``build.mjs`` and committed; nothing here compiles or talks to a chain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from challenger.chain.hashing import keccak
from challenger.errors import ConfigError

NAMES = ("EpochAnchor", "IAdjudicator", "InferenceMarket", "SignerAdjudicator")


class UnknownArtifact(ConfigError):
    """no contract of this name was built"""


class ForeignCode(ConfigError):
    """the code on chain is not this contract's"""


@dataclass(frozen=True, slots=True)
class Immutable:
    """A value that the constructor fills into the runtime code: a 32-byte big-endian word at each of ``offsets``."""

    name: str
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract. ``runtime`` has zeros where immutables stand; an interface has no code at all.

    ``abi`` is shared between callers and is to be read only.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    runtime: bytes
    immutables: tuple[Immutable, ...]
    solc: str

    def masked(self, code: bytes) -> bytes:
        """``code`` as found on chain with its immutables zeroed. ``ForeignCode`` when the length is another."""
        if len(code) != len(self.runtime):
            raise ForeignCode(contract=self.name, expected_bytes=len(self.runtime), found_bytes=len(code))
        out = bytearray(code)
        for immutable in self.immutables:
            for offset in immutable.offsets:
                out[offset : offset + 32] = bytes(32)
        return bytes(out)

    @property
    def code_hash(self) -> bytes:
        """Keccak of the runtime code with immutables zeroed: the same for every deployment."""
        return keccak(self.runtime)

    def matches(self, code: bytes) -> bool:
        """Whether ``code`` is this contract's, whatever its immutables are."""
        return len(code) == len(self.runtime) and keccak(self.masked(code)) == self.code_hash

    def immutable_words(self, code: bytes) -> dict[str, int]:
        """What this deployment's constructor filled in, by name. ``ForeignCode`` when ``code`` is not this contract's."""
        if not self.matches(code):
            raise ForeignCode(contract=self.name)
        words = {}
        for immutable in self.immutables:
            values = {code[offset : offset + 32] for offset in immutable.offsets}
            if len(values) != 1:
                raise ForeignCode("an immutable has two values", contract=self.name, immutable=immutable.name)
            words[immutable.name] = int.from_bytes(values.pop(), "big")
        return words


@cache
def artifact(name: str) -> Artifact:
    """The artifact of the contract ``name`` (one of ``NAMES``)."""
    if name not in NAMES:
        raise UnknownArtifact(name=name, known=" ".join(NAMES))
    return _read(files(__name__).joinpath("artifacts", f"{name}.json"), name)


@cache
def double(name: str) -> Artifact:
    """The artifact of the double ``name`` (``doubles/<name>.sol``)."""
    folder = files(__name__).joinpath("artifacts", "doubles")
    known = sorted(file.name.removesuffix(".json") for file in folder.iterdir())
    if name not in known:
        raise UnknownArtifact(name=name, known=" ".join(known))
    return _read(folder.joinpath(f"{name}.json"), name)


def _read(file: Traversable, name: str) -> Artifact:
    raw = json.loads(file.read_text(encoding="utf-8"))
    references = raw["immutableReferences"]
    return Artifact(
        name=name,
        abi=raw["abi"],
        bytecode=bytes.fromhex(raw["bytecode"][2:]),
        runtime=bytes.fromhex(raw["deployedBytecode"][2:]),
        immutables=tuple(
            Immutable(key, tuple(sorted(place["start"] for place in references[key]))) for key in sorted(references)
        ),
        solc=raw["solc"],
    )
