"""`challenger devnet --deploy` is enough to try the watcher against."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys

import pytest

from tests.acceptance.test_bad_input import challenger


@pytest.mark.parametrize(
    "wrong", [("--port", "99999"), ("--port", "-5"), ("--interval", "nan"), ("--interval", "-1"), ("--accounts", "0")]
)
def test_rubbish_is_refused(wrong):
    done = challenger("devnet", *wrong)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_served_deployment_passes_the_check_and_ends_cleanly(tmp_path):
    command = [sys.executable, "-m", "challenger", "devnet", "--port", "0", "--deploy", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as devnet:
        try:
            assert devnet.stdout is not None
            text, facts = "", None
            while facts is None:
                text += devnet.stdout.readline()
                with contextlib.suppress(ValueError):
                    facts = json.loads(text)
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
