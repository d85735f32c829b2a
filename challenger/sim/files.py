"""The demonstration's folder: where it is, the settings file in it, and what stays when it is over."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

from challenger.errors import ConfigError
from challenger.settings import Settings, load
from challenger.sim.deploy import Deployment

DEFAULT = "challenger-demo"
CONFIG, DATABASE, HEADS, KEY = "challenger.toml", "challenger.sqlite", "heads.jsonl", "watcher.key"
EVIDENCE = "evidence"
#: An epoch of sampling is short here, so that several are over before the demonstration is.
EPOCH_BLOCKS = 40


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / CONFIG

    @property
    def database(self) -> Path:
        return self.path / DATABASE

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def evidence(self) -> Path:
        return self.path / EVIDENCE

    def shown(self, path: Path) -> str:
        """``path`` as a person in the working directory would write it."""
        here = Path.cwd()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def write_config(self, where: Deployment, key: bytes, rate: float) -> Settings:
        """Writes the settings and reads them back: the watcher runs on what the file says."""
        millionths = round(rate * 1_000_000)
        key_file = self._key(key)
        text = f"""\
# Settings of the watcher of this demonstration, for a look at its record:
#   challenger commitments -c {self.config}
# The chain lived inside the demonstration and ended with it.
[chain]
embedded = true
chain_id = {where.chain}
market = "{where.market}"
anchor = "{where.anchor}"
start_block = {where.start_block}
confirmations = 2

[store]
url = "sqlite+aiosqlite:///{_escaped(self.database)}"
heads = "{_escaped(self.path / HEADS)}"
evidence = "{_escaped(self.evidence)}"

[signer]
# the key of a devnet's account: public knowledge
key_file = "{_escaped(key_file)}"

[sampling]
base = {millionths}
newcomer = {millionths}
epoch_blocks = {EPOCH_BLOCKS}

[replay]
cache = "{_escaped(self.cache)}"
roots = ["{_escaped(self.path)}"]
memory_bytes = {3 << 30}

[filing]
mode = "live"
exposure = {10 * 10**18}
"""
        self.config.write_text(text, encoding="utf-8")
        return load(self.config, {})

    def write_stake_config(self, chain: int, contract: str, start: int, key: bytes, protocol: str) -> Settings:
        """Settings for a protocol whose bonds are stakes. ``protocol``: its section of TOML."""
        key_file = self._key(key)
        text = f"""\
# Settings of the watcher of this demonstration, for a look at its record:
#   challenger commitments -c {self.config}
# The chain lived inside the demonstration and ended with it.
[chain]
embedded = true
chain_id = {chain}
market = "{contract}"
start_block = {start}
confirmations = 2

{protocol}
[store]
url = "sqlite+aiosqlite:///{_escaped(self.database)}"
heads = "{_escaped(self.path / HEADS)}"

[signer]
# the key of a devnet's account: public knowledge
key_file = "{_escaped(key_file)}"

[sampling]
base = 1000000
newcomer = 1000000
epoch_blocks = {EPOCH_BLOCKS}

[replay]
cache = "{_escaped(self.cache)}"
roots = ["{_escaped(self.path)}"]
memory_bytes = {3 << 30}

[filing]
mode = "live"
exposure = {10 * 10**18}
safety_seconds = 30
"""
        self.config.write_text(text, encoding="utf-8")
        return load(self.config, {})

    def _key(self, key: bytes) -> Path:
        key_file = self.path / KEY
        key_file.touch(mode=0o600)
        key_file.write_text(key.hex() + "\n", encoding="ascii")
        return key_file

    def write_report_config(self, changes: str) -> Settings:
        """Settings for reports on another protocol: no key, no market. ``changes``: further TOML."""
        text = f"""\
# Settings of this demonstration's report, for a look at what it found:
#   challenger findings -c {self.config}
# The chain lived inside the demonstration and ended with it.
[chain]
embedded = true
confirmations = 1

[store]
url = "sqlite+aiosqlite:///{_escaped(self.database)}"
heads = "{_escaped(self.path / HEADS)}"

{changes}"""
        self.config.write_text(text, encoding="utf-8")
        return load(self.config, {})

    def tidy(self) -> None:
        """Removes what is large and can be made again: models and cache."""
        for folder in (self.models, self.cache):
            shutil.rmtree(folder, ignore_errors=True)


def make(wanted: Path | None) -> Folder:
    """The folder asked for, or the first free of challenger-demo, challenger-demo-2, … in the working directory.

    ``ConfigError`` when it holds something already, or cannot be made: nothing of anybody's is overwritten.
    """
    if wanted is None:
        names = itertools.chain([DEFAULT], (f"{DEFAULT}-{number}" for number in itertools.count(2)))
        wanted = next(path for path in map(Path, names) if not path.exists())
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise ConfigError("the folder is not empty: name another with --out", folder=wanted)
    except OSError as error:
        raise ConfigError(f"the folder cannot be made: {error.strerror}", folder=wanted) from None
    return Folder(wanted.resolve())


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
