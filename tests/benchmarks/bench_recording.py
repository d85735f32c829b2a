"""`python -m tests.benchmarks.bench_recording [--quick]`: a recording of 10,000 commitments replayed end to end.

Each replay is `challenger replay` in a process of its own: verified, imported, indexed, drawn, judged, journalled. One in
fifty answers is wrong; the policy is the default one, and one that draws everything. The first run computes the
results of replays, the second finds them known. Reported: seconds and peak memory of each, whether the two journals
are equal, and the peak for a tenth of the commitments.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.recording import written

GOAL = 60.0


def main() -> None:
    count = 1_000 if "--quick" in sys.argv else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (count // 10, count):
            written.write(folder / f"{size}.tar", folder / f"model-{size}", size, cheat=50, providers=20, tail=320)
        report: dict[str, Any] = {"commitments": count, "goal_seconds": GOAL}
        for policy, environment in (
            ("default", {}),
            ("all", {"CHALLENGER_SAMPLING_BASE": "1000000", "CHALLENGER_SAMPLING_NEWCOMER": "1000000"}),
        ):
            first = _replay(folder, count, environment)
            second = _replay(folder, count, environment)
            small = _replay(folder, count // 10, environment)
            report[policy] = {
                "first_seconds": first["seconds"],
                "known_seconds": second["seconds"],
                "replays": first["replays_run"],
                "equal_journals": first["journal"] == second["journal"],
                "peak_mib": second["peak_mib"],
                "peak_mib_of_a_tenth": small["peak_mib"],
                "recording_mib": round((folder / f"{count}.tar").stat().st_size / 2**20, 1),
            }
        print(json.dumps(report, indent=2))


def _replay(folder: Path, size: int, environment: dict[str, str]) -> dict[str, Any]:
    """In a process of its own, whose peak memory the kernel tells."""
    read, write = os.pipe()
    began = time.perf_counter()
    argv = [sys.executable, "-m", "challenger", "replay", str(folder / f"{size}.tar"), "--json"]
    process = os.posix_spawn(
        argv[0],
        argv,
        {**os.environ, **environment, "CHALLENGER_REPLAY_CACHE": str(folder / "cache")},
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_CLOSE, read)],
    )
    os.close(write)
    with os.fdopen(read) as told:
        said = told.read()
    _, status, usage = os.wait4(process, 0)
    assert status == 0, said
    found: dict[str, Any] = json.loads(said)
    return found | {"seconds": round(time.perf_counter() - began, 1), "peak_mib": round(usage.ru_maxrss / 1024)}


if __name__ == "__main__":
    main()
