"""Messages to people, through the real apprise to a server on loopback."""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from challenger.cli import main
from challenger.errors import ConfigError
from challenger.parts import instruments
from challenger.settings import build
from challenger.telemetry import courier
from challenger.telemetry.alerts import Alerts
from challenger.telemetry.logs import LOGGER
from challenger.telemetry.metrics import HOOK_FAILURES, NOTIFICATIONS, Prometheus
from challenger.telemetry.notice import SEVERITY, Notice, Severity
from challenger.telemetry.notify import NotTold, choice, look, services
from challenger.telemetry.words import WORDS, message

ROOT = Path(__file__).parents[2]
SECRET = "hushhush4711"
ID = "0x" + "ab" * 32


class Desk:
    """What apprise's json service posted. ``status``: the answer to each; ``hangs``: none is answered."""

    def __init__(self) -> None:
        self.got: list[dict[str, str]] = []
        self.status = 200
        self.hangs = False
        self.came = asyncio.Event()
        self.open = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"json://{SECRET}:{SECRET}@127.0.0.1:{self.port}/{SECRET}"

    async def take(self, request: web.Request) -> web.Response:
        self.got.append(await request.json())
        self.came.set()
        if self.hangs:
            await self.open.wait()
        return web.Response(status=self.status)


@asynccontextmanager
async def desk():
    one, app = Desk(), web.Application()
    app.router.add_post("/{where:.*}", one.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.port = runner.addresses[0][1]
    try:
        yield one
    finally:
        one.open.set()
        await runner.cleanup()


def told(name: str, about: str = "", severity: Severity | None = None, **fields) -> Notice:
    return Notice(name, severity or SEVERITY[name], about, fields, 0.0)


def crying(url: str, metrics: Prometheus, *, seconds: float = 60, **more) -> Alerts:
    alerts = Alerts(metrics)
    for service in services([url], "chain 1, live", seconds, metrics):
        alerts.cry_to(service, 60, choice(["info"]), **more)
    return alerts


def test_every_alert_has_words_and_the_docs_have_the_same() -> None:
    assert set(WORDS) == set(SEVERITY)
    page = (ROOT / "docs" / "operators.md").read_text()
    for name, words in WORDS.items():
        assert f"| `{name}` | {SEVERITY[name].value} | {words.what} | {words.do} |" in page


def test_a_message_says_what_and_how_long_and_what_to_do() -> None:
    text = message([told("approval", ID, action="challenge", left=2_460, closes=1_700_000_000)], "on here, chain 1")
    assert text.title == "challenger on here, chain 1: approval"
    assert text.kind == "failure"
    assert text.body == (
        f"CRITICAL: mode confirm: a filing waits for a person and its window runs. Commitment {ID}. "
        "41 min left, the window closes 2023-11-14 22:13 UTC. action challenge. "
        "What to do: `challenger approvals`, then `challenger approve ID` or `challenger refuse ID` "
        "(docs/operators.md, Alerts, approval)."
    )


def test_a_storm_is_one_bounded_message_with_the_worst_first() -> None:
    notices = [told("shed", count=n) for n in range(400)]
    notices += [told("missed", f"0x{n:064x}", why="x" * 5_000) for n in range(400)]
    notices += [told(name, "a\nb\x1b[31m") for name in SEVERITY]
    text = message(notices, "w")
    assert text.body.startswith("CRITICAL: ")
    assert len(text.body) < 2_100
    assert len(text.title) <= 200
    assert "and 396 more" in text.body or "other kinds of alert" in text.body
    assert "\x1b" not in text.body + text.title
    assert "\n" not in text.title
    only = message(notices[400:800], "w")
    assert f"Commitment 0x{0:064x}, " in only.body
    assert "and 395 more. Of the first: why xxx" in only.body


@pytest.mark.parametrize("left", [0, 119, 120, 7_199, 7_200, -5])
def test_spans_are_said_in_units_that_fit(left: int) -> None:
    wanted = {119: "119 s left", 120: "2 min left", 7_199: "119 min left", 7_200: "2 h 0 min left"}
    assert wanted.get(left, "the window is over") in message([told("missed", ID, left=left)], "w").body


def test_which_alerts_are_wanted() -> None:
    everything = choice(["info"])
    assert all(everything(told(name)) for name in SEVERITY)
    some = choice(["critical", "shed"])
    assert {name for name in SEVERITY if some(told(name))} == {
        name for name, how_bad in SEVERITY.items() if how_bad is Severity.CRITICAL
    } | {"shed"}
    assert not choice([])(told("bug"))
    with pytest.raises(ConfigError, match="did you mean shed"):
        choice(["sheds"])
    with pytest.raises(ConfigError, match="it is one of info, warning, critical, "):
        choice(["zzz"])


async def test_what_waits_goes_in_one_message_through_apprise() -> None:
    async with desk() as there:
        metrics = Prometheus()
        alerts = crying(there.url, metrics)
        for number in range(20):
            alerts.alert("shed", about=str(number))
        alerts.alert("missed", about=ID)
        await alerts.deliver()
        (one,) = there.got
    assert (one["title"], one["type"]) == ("challenger chain 1, live: 21 alerts, missed, shed", "failure")
    assert ID in one["message"]
    assert metrics.value(NOTIFICATIONS, service="1 (json)", outcome="sent") == 1


async def test_a_service_that_refuses_is_asked_again_and_counted_in_the_end() -> None:
    async with desk() as there:
        metrics, there.status = Prometheus(), 500
        alerts = crying(there.url, metrics)
        alerts.alert("shed", about="first")
        await alerts.deliver()
        alerts.alert("shed", about="second")
        for _ in range(3):
            await alerts.deliver()
        assert metrics.value(HOOK_FAILURES) == 0
        await alerts.deliver()
        assert metrics.value(HOOK_FAILURES) == 2, "both alerts reached nobody"
        there.status = 200
        alerts.alert("missed", about=ID)
        await alerts.deliver()
    assert [ID in one["message"] for one in there.got] == [False] * 5 + [True]
    assert metrics.value(NOTIFICATIONS, service="1 (json)", outcome="failed") == 5


async def test_a_service_that_hangs_is_ended() -> None:
    async with desk() as there:
        there.hangs = True
        (one,) = services([there.url], "w", 0.05, Prometheus())
        with pytest.raises(NotTold, match=r"longer than 0\.05 s") as caught:
            await one.tell([told("bug")])
    assert SECRET not in str(caught.value)


async def test_one_service_does_not_wait_for_another() -> None:
    async with desk() as hangs, desk() as well:
        hangs.hangs = True
        metrics, stop = Prometheus(), asyncio.Event()
        alerts = Alerts(metrics)

        async def at_once(_stop: asyncio.Event, _seconds: float) -> None:
            return

        for service in services([hangs.url, well.url], "w", 600, metrics):
            alerts.cry_to(service, 60, choice(["info"]), at_once)
        running = asyncio.create_task(alerts.run(stop))
        alerts.alert("bug", about="one")
        await hangs.came.wait()
        await well.came.wait()
        well.came.clear()
        alerts.alert("bug", about="two")
        await well.came.wait()
        assert len(hangs.got) == 1, "it still hangs at the first"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_between_two_messages_lies_the_gap_and_more_after_a_failure() -> None:
    async with desk() as there:
        waits: list[float] = []
        stop, metrics = asyncio.Event(), Prometheus()

        async def pause(stop: asyncio.Event, seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                there.status = 200
            if len(waits) == 3:
                stop.set()

        there.status = 500

        alerts = crying(there.url, metrics, pause=pause)
        alerts.alert("shed", about="a")
        await alerts.run(stop)
    assert waits == [3.0, 120.0, 60.0]
    assert len(there.got) == 2


async def test_what_is_left_when_told_to_stop_is_sent() -> None:
    async with desk() as there:
        alerts, stop = crying(there.url, Prometheus()), asyncio.Event()
        alerts.alert("shed")
        stop.set()
        await alerts.run(stop)
        assert len(there.got) == 1


async def test_a_url_that_apprise_does_not_know_is_refused_and_not_shown() -> None:
    for url in (f"nonsense{SECRET}", f"no{SECRET}://x", f"tgram://{SECRET}"):
        with pytest.raises(ConfigError, match="URL 2 of 2") as caught:
            await look(["json://127.0.0.1", url], ["info"])
        assert SECRET not in str(caught.value)
    await look(["json://127.0.0.1:1/x", "ntfy://topic"], ["warning", "shed"])
    await look([], [])


def test_the_courier_without_apprise_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the courier itself: the process that asks knows it by the exit code."""
    real = builtins.__import__

    def without(name: str, *rest):
        if name == "apprise":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    level = logging.root.manager.disable
    try:
        assert courier.main() == courier.MISSING
    finally:
        logging.disable(level)


async def test_without_the_extra_the_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apprise.py").write_text("raise ImportError('as where it is not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"pip install 'inference-challenger\[notify\]'"):
        await look(["json://127.0.0.1:1"], ["info"])


def test_urls_come_from_a_file_and_stand_in_no_representation(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text(
        f"mailto://{SECRET}:{SECRET}@example.org?to=a@example.org,b@example.org\njson://127.0.0.1/{SECRET}\n"
    )
    env = {"CHALLENGER_TELEMETRY_NOTIFY_FILE": str(file), "CHALLENGER_TELEMETRY_ALERT_WEBHOOK": f"https://x/{SECRET}"}
    settings = build({}, env, "-")
    assert len(settings.telemetry.notify) == 2
    assert settings.telemetry.notify[0].endswith("b@example.org")
    assert SECRET not in repr(settings)
    file.write_text("json://127.0.0.1/a, json://127.0.0.1/b")
    assert len(build({}, env, "-").telemetry.notify) == 2


async def test_settings_make_it(tmp_path: Path) -> None:
    async with desk() as there:
        raw = {"telemetry": {"notify": [there.url], "notify_on": ["critical"]}, "chain": {"chain_id": 5}}
        telemetry = instruments(build(raw, {}, "-"))
        telemetry.alerts.alert("shed")
        telemetry.alerts.alert("bug", about=ID)
        await telemetry.alerts.deliver()
        (one,) = there.got
    assert one["title"].endswith("chain 5, watch: bug")


async def test_the_command_sends_a_test_and_says_who_took_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHALLENGER_TELEMETRY_NOTIFY", raising=False)
    assert await asyncio.to_thread(main, ["notify"]) == 2
    assert "names no service" in capsys.readouterr().err
    async with desk() as well, desk() as bad:
        bad.status = 403
        monkeypatch.setenv("CHALLENGER_TELEMETRY_NOTIFY", well.url)
        assert await asyncio.to_thread(main, ["notify"]) == 0
        monkeypatch.setenv("CHALLENGER_TELEMETRY_NOTIFY", f"{well.url},{bad.url}")
        assert await asyncio.to_thread(main, ["notify", "--json"]) == 1
        assert [len(one.got) for one in (well, bad)] == [2, 1]
        assert "Nothing is wrong" in well.got[0]["message"]
    out = capsys.readouterr().out
    assert SECRET not in out
    table, answer = out[: out.index("{")], json.loads(out[out.index("{") :])
    assert "1 (json)" in table
    assert [(one["service"], one["ok"]) for one in answer["services"]] == [("1 (json)", True), ("2 (json)", False)]
    assert await asyncio.to_thread(main, ["notify", "--dry"]) == 0
    assert "42 min left" in capsys.readouterr().out


def test_an_event_is_told_each_time_and_never_stands() -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    try:
        alerts = Alerts()
        alerts.event("shed", about="a")
        alerts.event("shed", about="a")
    finally:
        LOGGER.removeHandler(handler)
    assert alerts.active() == []
    assert [record.getMessage() for record in records] == ["alert", "alert"]
