from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml

from challenger.errors import ConfigError
from challenger.telemetry.health import Health
from challenger.telemetry.metrics import CATALOGUE, PREFIX, REPLAY_SECONDS, SHED, Metrics, Prometheus, Silent
from challenger.telemetry.serve import loopback, serve

PAGE = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()


def test_every_metric_is_in_the_docs_and_no_other():
    rows = re.findall(rf"^\| `{PREFIX}(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", PAGE, re.MULTILINE)
    documented = {name: (kind, labels.strip()) for name, kind, labels, _ in rows}
    assert documented == {m.name: (m.kind, ", ".join(f"`{label}`" for label in m.labels)) for m in CATALOGUE}
    assert len({m.name for m in CATALOGUE}) == len(CATALOGUE)


def test_both_twins_take_every_metric():
    for metrics in (Silent(), Prometheus()):
        for metric in CATALOGUE:
            labels = dict.fromkeys(metric.labels, "x")
            act = {"counter": metrics.count, "gauge": metrics.set, "histogram": metrics.observe}[metric.kind]
            assert act(metric, 3, **labels) is None
    for name in ("count", "set", "observe"):
        shapes = {inspect.signature(getattr(twin, name)) for twin in (Metrics, Silent, Prometheus)}
        assert len(shapes) == 1


def test_two_watchers_in_one_process_share_nothing():
    one, other = Prometheus(), Prometheus()
    one.count(SHED, 2)
    one.observe(REPLAY_SECONDS, 0.5, model="m", backend="torch")
    assert one.value(SHED) == 2
    assert one.value(REPLAY_SECONDS, "_count", model="m", backend="torch") == 1
    assert other.value(SHED) == 0


async def test_the_page_is_served_on_loopback():
    metrics = Prometheus()
    metrics.count(SHED)
    async with serve(metrics, "127.0.0.1:0", Health()) as port, aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/plain")
            assert "challenger_shed_total 1.0" in await answer.text()
        with pytest.raises(ConfigError, match="cannot be served"):
            async with serve(metrics, f"127.0.0.1:{port}", Health()):
                pass


async def test_alive_is_one_thing_and_ready_another():
    now = 0.0
    health = Health(60.0, lambda: now)
    async with serve(Prometheus(), "127.0.0.1:0", health) as port, aiohttp.ClientSession() as session:

        async def asked(name):
            async with session.get(f"http://127.0.0.1:{port}/{name}") as answer:
                return answer.status, (await answer.text()).strip()

        assert await asked("readyz") == (503, "the chain was not read yet")
        health.looked()
        assert await asked("readyz") == (200, "ready")
        now = 60.0
        assert await asked("readyz") == (200, "ready")
        now = 61.0
        assert await asked("readyz") == (503, "the chain was last read 61 s ago")
        health.looked()
        health.head(old=True)
        assert await asked("readyz") == (503, "the newest block is older than [telemetry] stale_seconds")
        health.head(old=False)
        assert await asked("readyz") == (200, "ready")
        assert await asked("healthz") == (200, "alive")


def test_only_loopback_is_taken():
    assert loopback("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert loopback("[::1]:9464") == ("::1", 9464)
    for wrong in ("0.0.0.0:9464", "example.org:1", "9464", "127.0.0.1:x", "127.0.0.1:70000", "10.0.0.1:80"):
        with pytest.raises(ConfigError, match="telemetry"):
            loopback(wrong)


def test_metrics_off_load_no_library():
    code = (
        "import sys, challenger.telemetry.instruments as i; i.Instruments(); print('prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_shipped_rules_speak_of_metrics_that_there_are():
    text = (Path(__file__).parents[2] / "docs" / "alerts.rules.yml").read_text(encoding="utf-8")
    (group,) = yaml.safe_load(text)["groups"]
    kinds = {PREFIX + metric.name: metric for metric in CATALOGUE}
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    for rule in group["rules"]:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "action"}
        for name in re.findall(r"challenger_\w+", rule["expr"]):
            # what a histogram, and the time at which a series was created, are served as
            metric = name.removesuffix("_bucket").replace("_created", "" if "_seconds_" in name else "_total")
            assert metric in kinds, rule["alert"]
            # what only grows is asked for its growth, what goes up and down for its value
            grows = bool(re.search(rf"increase\({metric}(_bucket)?\b", rule["expr"]))
            assert grows == (kinds[metric].kind != "gauge"), rule["alert"]
        for label in re.findall(r"\{(\w+)=", rule["expr"]):
            assert label == "le" or any(label in metric.labels for metric in CATALOGUE), rule["alert"]
        for label in re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])):
            assert label in kinds[re.findall(r"challenger_\w+?(?=_bucket|\b)", rule["expr"])[0]].labels, rule["alert"]
