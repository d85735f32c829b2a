from __future__ import annotations

import ast
import asyncio
import json
import logging
import re
import sys
from pathlib import Path

import pytest
from aiohttp import web

from challenger.errors import ConfigError
from challenger.pipeline.pursue import _TOLD
from challenger.telemetry.alerts import SEVERITY, Alerts, Severity
from challenger.telemetry.hooks import Command, Webhook
from challenger.telemetry.logs import LOGGER
from challenger.telemetry.metrics import ALERTS, ALERTS_ACTIVE, HOOK_FAILURES, Prometheus

ROOT = Path(__file__).parents[2]


class Kept:
    def __init__(self, expected: int = 0) -> None:
        self.notices = []
        self.expected = expected
        self.all_there = asyncio.Event()

    async def take(self, notice) -> None:
        self.notices.append(notice)
        if len(self.notices) == self.expected:
            self.all_there.set()


def raised_in_code() -> set[str]:
    """Every literal name given to those that tell, somewhere in the service."""
    found = set(_TOLD.values())
    for path in (ROOT / "challenger").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                if node.func.attr in ("alert", "standing", "event", "case") and isinstance(first, ast.Constant):
                    found.add(first.value)
    return found


def test_every_alert_is_in_the_docs_and_in_the_code():
    page = (ROOT / "docs" / "operators.md").read_text()
    section = page.split("### Alerts", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| (info|warning|critical) \| .+ \| .+ \|$", section, re.MULTILINE)
    assert dict(rows) == {name: severity.value for name, severity in SEVERITY.items()}
    assert raised_in_code() == set(SEVERITY)


class Lines(logging.Handler):
    """The service's log records."""

    def __init__(self) -> None:
        super().__init__()
        self.records = []

    def emit(self, record) -> None:
        self.records.append(record)


@pytest.fixture
def lines():
    handler, level = Lines(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler.records
    LOGGER.setLevel(level)
    LOGGER.removeHandler(handler)


async def test_an_alert_is_said_once_while_its_condition_lasts(lines):
    now = [0.0]
    metrics, kept = Prometheus(), Kept()
    alerts = Alerts(metrics, repeat=60, clock=lambda: now[0])
    alerts.send_to(kept)
    assert alerts.alert("shed", about="0xaa", commitment=b"\xaa", action="x", level=3)
    assert not alerts.alert("shed", about="0xaa")
    assert alerts.alert("shed", about="0xbb")
    alerts.clear("shed", "0xaa")
    alerts.clear("shed", "0xaa")
    assert alerts.alert("shed", about="0xaa")
    now[0] = 61
    assert alerts.alert("shed", about="0xaa"), "it lasts: said again after a while"
    await alerts.deliver()
    assert [n.about for n in kept.notices] == ["0xaa", "0xbb", "0xaa", "0xaa"]
    assert kept.notices[0].fields == {"commitment": "0xaa", "action": "x", "level": 3}
    said = [r for r in lines if r.getMessage() == "alert"]
    assert {r.levelno for r in said} == {logging.ERROR}
    assert len(said) == 4
    assert metrics.value(ALERTS, name="shed", severity="warning") == 4
    assert metrics.value(ALERTS_ACTIVE, name="shed") == 2


async def test_standing_raises_what_is_new_and_clears_what_is_gone():
    alerts, kept = Alerts(), Kept()
    alerts.send_to(kept)
    alerts.standing("predicted-miss", {"a": {"slack": -1}, "b": {"slack": -2}})
    alerts.standing("predicted-miss", {"b": {"slack": -3}, "c": {"slack": -4}})
    assert alerts.active() == [("predicted-miss", "b"), ("predicted-miss", "c")]
    await alerts.deliver()
    assert [(n.about, n.severity) for n in kept.notices] == [(x, Severity.CRITICAL) for x in "abc"]


async def test_a_sink_that_hangs_delays_no_other_and_one_that_fails_is_counted():
    class Hangs:
        async def take(self, notice) -> None:
            await asyncio.Event().wait()

    class Fails:
        async def take(self, notice) -> None:
            raise OSError("no disk")

    metrics, kept, stop = Prometheus(), Kept(3), asyncio.Event()
    alerts = Alerts(metrics)
    for sink in (Hangs(), Fails(), kept):
        alerts.send_to(sink)
    running = asyncio.create_task(alerts.run(stop))
    for number in range(3):
        alerts.alert("shed", about=str(number))
    await kept.all_there.wait()
    running.cancel()
    assert metrics.value(HOOK_FAILURES) == 3
    assert [n.about for n in kept.notices] == ["0", "1", "2"]


async def test_what_is_left_when_told_to_stop_is_delivered():
    alerts, kept, stop = Alerts(), Kept(), asyncio.Event()
    alerts.send_to(kept)
    stop.set()
    alerts.alert("shed")
    await alerts.run(stop)
    assert len(kept.notices) == 1


async def test_a_command_gets_the_alert_and_none_of_our_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("CHALLENGER_KEY", "hush")
    out = tmp_path / "out"
    program = f"import os, sys; open({str(out)!r}, 'w').write(sys.stdin.read() + '\\n' + repr(dict(os.environ)))"
    alerts = Alerts()
    alerts.send_to(Command(f'{sys.executable} -c "{program}"', 60))
    alerts.alert("stale-head", about="http://a", age=99)
    await alerts.deliver()
    text, environment = out.read_text().split("\n", 1)
    told = json.loads(text)
    assert (told["alert"], told["severity"], told["about"]) == ("stale-head", "critical", "http://a")
    assert told["fields"] == {"age": 99}
    assert "hush" not in environment


@pytest.mark.parametrize(
    ("line", "seconds"), [(f"{sys.executable} -c 'raise SystemExit(3)'", 60), ("sleep 600", 0.1), ("/no/such", 60)]
)
async def test_a_command_that_fails_or_hangs_is_counted_and_ended(line, seconds):
    metrics = Prometheus()
    alerts = Alerts(metrics)
    alerts.send_to(Command(line, seconds))
    alerts.alert("shed")
    await alerts.deliver()
    assert metrics.value(HOOK_FAILURES) == 1


async def test_a_webhook_gets_json_and_its_refusal_is_counted():
    got = []

    async def take(request):
        got.append(await request.json())
        return web.Response(status=200 if len(got) == 1 else 500)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    metrics = Prometheus()
    alerts = Alerts(metrics)
    alerts.send_to(Webhook(f"http://127.0.0.1:{runner.addresses[0][1]}/hook", 60))
    alerts.alert("shed", about="one")
    alerts.alert("shed", about="two")
    await alerts.deliver()
    await runner.cleanup()
    assert [told["about"] for told in got] == ["one", "two"]
    assert metrics.value(HOOK_FAILURES) == 1
    alerts.alert("shed", about="three")
    await alerts.deliver()
    assert metrics.value(HOOK_FAILURES) == 2, "nobody listens any more"


def test_hooks_that_cannot_be_used_are_refused():
    for make in (lambda: Command("", 1), lambda: Command("a 'b", 1), lambda: Webhook("ftp://x", 1)):
        with pytest.raises(ConfigError, match="telemetry"):
            make()
