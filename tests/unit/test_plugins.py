"""Protocols come from entry points: what is found, and what is said of one that will not do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from challenger.cli import main
from challenger.domain import Capability
from challenger.errors import ConfigError
from challenger.plugins.registry import OURS, names, plugin
from challenger.settings import build

GOOD = """
class Toy:
    name = "toy"
    capability = "open"
    summary = "a toy"
    def options(self, raw, source): return dict(raw)
    def adapter(self, place): return place
    def engine(self, means, options): return means
    def explain(self, data): return data.hex()
PLUGIN = Toy()
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch):
    """Puts a distribution on the path, as pip would."""

    def add(module: str, source: str, name: str = "toy", dist: str = "toy-protocol") -> None:
        folder = tmp_path / dist
        info = folder / f"{dist.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[challenger.protocols]\n{name} = {module}:PLUGIN\n")
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, module, raising=False)

    return add


@pytest.mark.parametrize("name", sorted(OURS))
def test_ours_are_whole(name):
    found = plugin(name)
    assert found.name == name
    assert found.capability in tuple(Capability)
    assert found.summary
    with pytest.raises(ConfigError, match=r"unknown \[protocol\] option nonsense"):
        found.options({"nonsense": 1}, "c.toml")


def test_one_that_a_distribution_brings_is_found(install):
    install("toy_good", GOOD)
    assert names()["toy"] == "toy-protocol"
    assert plugin("toy").summary == "a toy"
    assert plugin("toy").options({"a": 1}, "c.toml") == {"a": 1}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("PLUGIN = object()", ["toy-protocol", "lacks name, capability"]),
        ("raise RuntimeError('no such luck')", ["toy-protocol", "cannot be loaded", "no such luck"]),
        ("", ["toy-protocol", "cannot be loaded"]),
        (GOOD.replace('"toy"', '"other"'), ["calls itself 'other'"]),
    ],
)
def test_what_is_wrong_with_one_is_said(install, source, words):
    install("toy_bad", source)
    with pytest.raises(ConfigError) as caught:
        plugin("toy")
    for word in words:
        assert word in str(caught.value)


def test_one_that_is_not_there_and_one_that_two_bring(install):
    with pytest.raises(ConfigError, match=r"there is no protocol 'toy'; installed are .*reference"):
        plugin("toy")
    install("toy_one", GOOD, dist="one")
    install("toy_two", GOOD, dist="two")
    with pytest.raises(ConfigError, match=r"(one and two|two and one) both bring 'toy'"):
        plugin("toy")


def test_nobody_takes_the_name_of_ours(install):
    install("toy_reference", GOOD.replace('"toy"', '"reference"'), name="reference")
    assert names()["reference"] == "inference-challenger"
    assert plugin("reference").summary != "a toy"


def test_options_come_as_a_table_or_as_json():
    raw = {"protocol": {"name": "toy", "options": {"recipes": "r.toml"}}}
    assert build(raw, {}, "c.toml").protocol.options == {"recipes": "r.toml"}
    told = build({}, {"CHALLENGER_PROTOCOL_OPTIONS": '{"recipes": "r.toml"}'}, "c.toml")
    assert told.protocol.options == {"recipes": "r.toml"}
    for text, why in (("{", "a JSON object"), ("[1]", "a table")):
        with pytest.raises(ConfigError, match=why):
            build({}, {"CHALLENGER_PROTOCOL_OPTIONS": text}, "c.toml")


@pytest.mark.parametrize(
    "command", [["backtest"], ["record", "--from", "1", "--to", "2", "-o", "x.tar"], ["evidence", "export", "0xab"]]
)
def test_what_knows_the_reference_protocol_alone_says_so(command, tmp_path, capsys):
    file = tmp_path / "c.toml"
    file.write_text(
        f'[chain]\nchain_id = 1\nmarket = "0x{"11" * 20}"\n[protocol]\nname = "toy"\n'
        f'[store]\nurl = "sqlite:///{tmp_path}/x.sqlite"\n'
    )
    assert main([*command, "-c", str(file)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "of the reference protocol alone" in line
