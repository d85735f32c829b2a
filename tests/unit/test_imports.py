"""The arrows of the house run one way, and the commands start without the heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: package of ours → packages of ours it may import (itself always)
ALLOWED = {
    "replay": set(),
    "migrations": {"challenger.store", "challenger.errors", "challenger.domain"},
    "challenger.domain": set(),
    "challenger.errors": set(),
    "challenger.silence": {"challenger.domain", "replay"},
    "challenger.substitution": {"challenger.domain"},
    "challenger.convert": {"challenger.domain", "challenger.errors"},
    "challenger.settings": {"challenger.domain", "challenger.errors", "challenger.convert"},
    "challenger.sampling": {"challenger.domain", "challenger.errors"},
    "challenger.contracts": {"challenger.errors", "challenger.chain"},
    "challenger.chain": {"challenger.domain", "challenger.errors"},
    "challenger.store": {"challenger.domain", "challenger.errors", "migrations"},
    "challenger.protocols": {
        "challenger.domain",
        "challenger.errors",
        "challenger.chain",
        "challenger.contracts",
        "replay",
    },
    "challenger.adjudicator": {"challenger.domain", "challenger.errors", "challenger.chain", "challenger.protocols"},
    "challenger.telemetry": {"challenger.domain", "challenger.errors"},
    "challenger.audit": {
        "challenger.domain",
        "challenger.errors",
        "challenger.store",
        "challenger.sampling",
        "challenger.chain",
        "challenger.contracts",
        "challenger.substitution",
    },
}
INNER = set(ALLOWED) - {"migrations"}
ALLOWED["challenger.pipeline"] = INNER | {"challenger.settings", "challenger.wording"}
ALLOWED["challenger.plugins"] = ALLOWED["challenger.pipeline"] | {"challenger.pipeline"}
ALLOWED["challenger.parts"] = ALLOWED["challenger.plugins"] | {"challenger.plugins", "challenger.hardening"}
ALLOWED["challenger.hardening"] = set()
ALLOWED["challenger.whole"] = set()
ALLOWED["challenger.lease"] = {"challenger.domain", "challenger.errors", "challenger.store", "challenger.telemetry"}
ALLOWED["challenger.evidence"] = ALLOWED["challenger.parts"] | {
    "challenger.parts",
    "challenger.endpoints",
    "challenger.whole",
}
ALLOWED["challenger.service"] = ALLOWED["challenger.pipeline"] | {
    "challenger.evidence",
    "challenger.lease",
    "challenger.endpoints",
    "challenger.pipeline",
    "challenger.plugins",
    "challenger.parts",
}
ALLOWED["challenger.app"] = ALLOWED["challenger.service"] | {"challenger.service"}
ALLOWED["challenger.endpoints"] = ALLOWED["challenger.pipeline"] | {"challenger.pipeline"}
ALLOWED["challenger.auditing"] = ALLOWED["challenger.endpoints"] | {"challenger.endpoints", "challenger.parts"}
ALLOWED["challenger.reporting"] = ALLOWED["challenger.auditing"] | {"challenger.reach"}
ALLOWED["challenger.reporter"] = ALLOWED["challenger.reporting"] | {"challenger.reporting"}
ALLOWED["challenger.recording"] = ALLOWED["challenger.app"] | {"challenger.app"}
ALLOWED["challenger.backtest"] = ALLOWED["challenger.recording"] | {"challenger.recording"}
ALLOWED["challenger.sim"] = ALLOWED["challenger.app"] | {"challenger.app"}
ALLOWED["challenger.sim"] |= {"challenger.reporting"}  # the demonstration of a protocol without disputes is one
ALLOWED["challenger.reach"] = {"challenger.chain", "challenger.domain", "challenger.errors", "challenger.settings"}
ALLOWED["challenger.reach"] |= {"challenger.store"}
ALLOWED["challenger.filings"] = ALLOWED["challenger.parts"] | {"challenger.parts", "challenger.reach"}
ALLOWED["challenger.wording"] = set()
ALLOWED["challenger.shapes"] = {"challenger.domain", "challenger.store"}
ALLOWED["challenger.export"] = {"challenger.errors", "challenger.shapes"}
ALLOWED["challenger.web"] = ALLOWED["challenger.service"] | {
    "challenger.shapes",
    "challenger.whole",
    "challenger.wording",
    "challenger.auditing",
    "challenger.evidence",
    "challenger.filings",
    "challenger.reach",
    "challenger.service",
}
ALLOWED["challenger.cli"] = ALLOWED["challenger.sim"] | {
    "challenger.filings",
    "challenger.reach",
    "challenger.web",
    "challenger.shapes",
    "challenger.whole",
    "challenger.wording",
    "challenger.export",
    "challenger.sim",
    "challenger.recording",
    "challenger.backtest",
    "challenger.hardening",
    "challenger.auditing",
    "challenger.reporter",
    "challenger.reporting",
}
ALLOWED["challenger.pytest_plugin"] = ALLOWED["challenger.sim"] | {"challenger.sim", "challenger.recording"}
ALLOWED["challenger"] = set()
ALLOWED["challenger.__main__"] = {"challenger.cli"}


def modules() -> dict[str, Path]:
    found = {}
    for top in ("challenger", "replay", "migrations"):
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def package(name: str) -> str:
    parts = name.split(".")
    return parts[0] if parts[0] != "challenger" else ".".join(parts[:2])


def imports(name: str) -> set[str]:
    """Modules of ours that ``name`` imports when it is itself imported or later, inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            wanted = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        found |= {module for module in wanted if module in MODULES}
    return found


@pytest.mark.parametrize("name", sorted(MODULES))
def test_arrows_run_one_way(name):
    own = package(name)
    allowed = ALLOWED[own] | {own}
    beyond = {module for module in imports(name) if package(module) not in allowed and module != "challenger"}
    assert not beyond, f"{name} may not import {sorted(beyond)}"


def top_level(name: str) -> set[str]:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            exact = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= exact or ({node.module} & set(MODULES))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & set(MODULES)
    return found - {name}


def test_no_circles():
    graph = {name: top_level(name) for name in MODULES}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for target in graph[name]:
                walk(target, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.parametrize("module", ["challenger.cli", "replay.cli", "challenger.pytest_plugin", "replay.pytest_plugin"])
def test_commands_and_plugins_start_without_heavy_libraries(module):
    heavy = ("torch", "web3", "sqlalchemy", "onnx", *(("numpy", "eth") if "plugin" in module else ()))
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
