"""Wheels of this project and of what stands on it, in an environment that has nothing else of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(sys.executable)
SOURCES = ("challenger", "replay", "migrations", "pyproject.toml", "README.md", "LICENSE")
#: From which files the plugins and the packages behind them come.
WHERE = """
import importlib.metadata as m, challenger.pytest_plugin as c, replay.pytest_plugin as r, challenger, replay, migrations
print(*(x.__file__ for x in (c, r, challenger, replay, migrations)), sep="\\n")
print(*sorted(e.value for e in m.distribution("inference-challenger").entry_points if e.group == "pytest11"), sep="\\n")
"""


def run(python: Path, *argv: str, cwd: Path, code: int = 0) -> str:
    """Of this process's environment nothing reaches Python but where the machine keeps its things."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run([python, *argv], cwd=cwd, env=kept, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def clean(folder: Path) -> Path:
    """The Python of a clean environment with the wheel; what it depends on is that of this one, so that nothing is
    downloaded. ``folder`` is empty."""
    source, venv = folder / "source", folder / "venv"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    run(HERE, "-m", "venv", "--without-pip", str(venv), cwd=folder)
    made = venv / "bin" / "python"
    add(made, source, folder)
    site = next(venv.glob("lib/python*/site-packages"))
    # a plain path, behind the environment's own: whatever installed this checkout there is not looked at
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    said = run(made, "-c", WHERE, cwd=folder).splitlines()
    assert said[5:] == ["challenger.pytest_plugin", "replay.pytest_plugin"]
    assert all(Path(one).is_relative_to(site) for one in said[:5]), said
    return made


def add(python: Path, source: Path, folder: Path) -> None:
    """Builds the wheel of the project in ``source``, in ``folder``, and installs it for ``python``."""
    wheels, offline = folder / "wheels", ("--no-deps", "--no-index", "--no-cache-dir", "-q")
    run(HERE, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", str(wheels), str(source), cwd=folder)
    (wheel,) = wheels.glob("*.whl")
    run(HERE, "-m", "pip", "--python", str(python), "install", *offline, "--no-compile", str(wheel), cwd=folder)
