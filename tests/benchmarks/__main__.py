"""`python -m tests.benchmarks [--quick]`: every benchmark in a process of its own, one JSON object each.

A benchmark prints ratios against the peer it names, both measured in the same run, median of several. The exit code
says only whether all of them ran: speed never fails a test.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    folder = Path(__file__).parent
    failed = 0
    for path in sorted(folder.glob("bench_*.py")):
        print(f"# {path.stem}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"tests.benchmarks.{path.stem}", *sys.argv[1:]], check=False)
        failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
