from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[3] / "docs" / "sample-protocol"
sys.path[:0] = [str(SAMPLE), str(SAMPLE / "tests")]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch) -> None:
    """The sample's distribution as pip would leave it: what its pyproject.toml says of entry points is on the path."""
    import tomllib

    project = tomllib.loads((SAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head, encoding="utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(info.parent))
    importlib.invalidate_caches()
