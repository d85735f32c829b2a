"""`challenger devnet --deploy` is enough to try the watcher against."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.acceptance.test_bad_input import challenger


@pytest.mark.parametrize(
    "wrong",
    [
        ("--port", "99999"),
        ("--port", "-5"),
        ("--interval", "nan"),
        ("--interval", "-1"),
        ("--accounts", "0"),
        ("--faults", "storm"),
        ("--faults", "reorg"),
        ("--faults", "all", "--rate", "0"),
        ("--faults", "all", "--endpoints", "0"),
    ],
)
def test_rubbish_is_refused(wrong):
    done = challenger("devnet", *wrong)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_served_deployment_passes_the_check_and_ends_cleanly(tmp_path):
    command = [sys.executable, "-m", "challenger", "devnet", "--port", "0", "--deploy", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as devnet:
        try:
            facts = _told(devnet)
            config = tmp_path / "c.toml"
            config.write_text(
                f'[chain]\nrpc = ["{facts["url"]}"]\nchain_id = 31337\nmarket = "{facts["market"]}"\n'
                f'anchor = "{facts["anchor"]}"\nstart_block = {facts["start_block"]}\n'
                f'[store]\nurl = "sqlite:///{tmp_path}/x.sqlite"\nheads = "{tmp_path}/heads"\n[replay]\ncache = "{tmp_path}/c"\n'
            )
            assert challenger("db", "upgrade", "-c", str(config)).returncode == 0
            done = challenger("check", "--no-replay", "--json", "-c", str(config))
            assert done.returncode == 0, done.stdout
            done = challenger("audit", "sampling", "-c", str(config))
            assert (done.returncode, done.stdout.strip()[:16]) == (0, "Nothing to audit")
            assert challenger("resume", "-c", str(config)).returncode == 2
        finally:
            devnet.send_signal(signal.SIGTERM)
        assert devnet.wait(timeout=30) == 0


def test_faulty_endpoints_stand_beside_the_true_one():
    command = [sys.executable, "-m", "challenger", "devnet", "--port", "0", "--faults", "limits", "--rate", "100"]
    command += ["--endpoints", "2", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as devnet:
        try:
            facts = _told(devnet)
            assert len({facts["url"], *facts["faulty"]}) == 3
            assert _status(facts["url"]) == 200
            assert {_status(url) for url in facts["faulty"]} <= {429, 503}
        finally:
            devnet.send_signal(signal.SIGTERM)
        assert devnet.wait(timeout=30) == 0


def _told(devnet: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON document on its standard output, once it is whole."""
    assert devnet.stdout is not None
    text = ""
    while True:
        text += devnet.stdout.readline()
        with contextlib.suppress(ValueError):
            return json.loads(text)


def _status(url: str) -> int:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
