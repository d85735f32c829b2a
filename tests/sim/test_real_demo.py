"""`challenger demo` as a user runs it: real models, real workers, the real watcher, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

GIB = 1 << 30


async def _resident(process: psutil.Process) -> int:
    """Bytes of memory that the process and its children take together, shared pages counted once."""
    total = 0
    with suppress(psutil.NoSuchProcess):  # any of them may end while it is looked at, the first one too
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += one.memory_full_info().pss
    return total


@pytest.mark.slow
async def test_the_demonstration_holds_in_time_and_memory(tmp_path: Path) -> None:
    started = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("challenger")),
        *("demo", "--json", "--out", str(tmp_path / "demo")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ending = asyncio.create_task(started.communicate())
    process, most = psutil.Process(started.pid), 0
    async with asyncio.timeout(180):
        while not (await asyncio.wait([ending], timeout=0.5))[0]:
            most = max(most, await _resident(process))
    out, said = await ending
    assert started.returncode == 0, said.decode()
    summary = json.loads(out)
    assert summary["holds"]
    assert summary["commitments"] >= 60
    assert summary["caught"] == summary["wrong"] >= 12
    assert summary["ended_by_demand"] == summary["withheld"] >= 2
    assert (summary["missed"], summary["false"], summary["money"]["held"]) == (0, 0, "0")
    assert most < 2 * GIB
    assert {path.name for path in (tmp_path / "demo").iterdir()} >= {
        "challenger.sqlite",
        "challenger.toml",
        "labels.json",
    }
    assert not (tmp_path / "demo" / "models").exists()
    bundles = sorted((tmp_path / "demo" / "evidence").iterdir())
    assert len(bundles) == summary["wrong"]
    whole = max(bundles, key=lambda path: path.stat().st_size)  # a small model is in it
    for raw, code in ((whole.read_bytes(), 0), (whole.read_bytes().replace(b'"FRAUD"', b'"VALID"', 1), 1)):
        whole.write_bytes(raw)
        # a stranger's machine: nothing but the file
        verified = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("challenger")),
            *("evidence", "verify", str(whole), "--json"),
            cwd=tmp_path,
            env={},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await verified.communicate()
        assert verified.returncode == code, (out, said)
        assert (code == 0) == (b'"replayed": true' in out)
