"""`challenger notify`: a test message to every service in [telemetry] notify."""

from __future__ import annotations

import argparse
import asyncio
from typing import NamedTuple

from challenger.cli.common import print_json, print_table, settings_of
from challenger.errors import ConfigError
from challenger.settings import Settings


class Told(NamedTuple):
    service: str
    ok: bool
    detail: str


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--dry", action="store_true", help="send nothing; show the message of a made-up alert")


def run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if options.dry:
        return _shown(settings, as_json=options.json)
    if not settings.telemetry.notify:
        raise ConfigError("[telemetry] notify names no service: add an apprise URL, such as mailto://… or ntfy://…")
    told = asyncio.run(_send(settings))
    fine = all(one.ok for one in told)
    if options.json:
        print_json({"ok": fine, "services": [one._asdict() for one in told]})
    else:
        rows = [(one.service, "ok" if one.ok else "FAILED", one.detail) for one in told]
        print_table("Notifications", ["service", "", "detail"], rows)
        if fine:
            print("Look whether the message is there: a service that takes it may still show it to nobody.")
    return 0 if fine else 1


async def _send(settings: Settings) -> list[Told]:
    from challenger.parts import whom
    from challenger.telemetry.notify import NotTold, Service, look, services
    from challenger.telemetry.words import Message

    wanted = settings.telemetry
    await look(wanted.notify, wanted.notify_on)
    body = "This is a test: alerts of this watcher reach you here. Nothing is wrong and nothing is to be done."
    text = Message(f"challenger {whom(settings)}: test", body, "info")

    async def one(service: Service) -> Told:
        try:
            await service.say(text)
        except NotTold as error:
            return Told(service.name, ok=False, detail=error.detail)
        return Told(service.name, ok=True, detail="took the message")

    return list(await asyncio.gather(*map(one, services(wanted.notify, "", wanted.alert_seconds))))


def _shown(settings: Settings, *, as_json: bool) -> int:
    import time

    from challenger.parts import whom
    from challenger.telemetry.notice import SEVERITY, Notice
    from challenger.telemetry.words import message

    now = time.time()
    fields = {"action": "challenge", "left": 2_520, "closes": int(now) + 2_520}
    text = message([Notice("approval", SEVERITY["approval"], "0x" + "ab" * 32, fields, now)], whom(settings))
    if as_json:
        print_json(text._asdict())
    else:
        print(f"{text.title}\n\n{text.body}")
    return 0
