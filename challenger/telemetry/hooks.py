"""Where alerts leave the process: the operator's command, or a URL. Bounded in time, told nothing but the alert."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from contextlib import suppress

from challenger.errors import ConfigError, Expected
from challenger.telemetry.alerts import Notice

#: What a hook's command sees of our environment: settings may lie there, and a key.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


class HookFailed(Expected):
    """an alert could not be handed to the operator's hook"""


def body(notice: Notice) -> bytes:
    """The alert as JSON: ``alert``, ``severity``, ``about``, ``time`` (UTC seconds) and ``fields``."""
    told = {
        "alert": notice.name,
        "severity": notice.severity.value,
        "about": notice.about,
        "time": int(notice.raised),
        "fields": dict(notice.fields),
    }
    return json.dumps(told, default=str).encode()


class Command:
    """Runs the command (no shell) with the alert as JSON on its standard input; killed after ``seconds``."""

    def __init__(self, line: str, seconds: float) -> None:
        """Raises ConfigError for a line that does not split into words."""
        try:
            self._argv = shlex.split(line)
        except ValueError as error:
            raise ConfigError(f"[telemetry] alert_command: {error}") from error
        if not self._argv:
            raise ConfigError("[telemetry] alert_command is empty")
        self._seconds = seconds

    async def take(self, notice: Notice) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=asyncio.subprocess.PIPE, stdout=quiet, stderr=quiet, env=environment
        )
        try:
            async with asyncio.timeout(self._seconds):
                await process.communicate(body(notice))
        except TimeoutError:
            raise HookFailed(f"the command took longer than {self._seconds:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            raise HookFailed(f"the command ended with code {process.returncode}")


class Webhook:
    """Posts the alert as JSON. The URL may hold a secret: it stands in no message."""

    def __init__(self, url: str, seconds: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError("[telemetry] alert_webhook must be an http or https URL")
        self._url = url
        self._seconds = seconds

    async def take(self, notice: Notice) -> None:
        import aiohttp

        limit = aiohttp.ClientTimeout(total=self._seconds)
        headers = {"content-type": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.post(self._url, data=body(notice), headers=headers, allow_redirects=False) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise HookFailed(f"the webhook could not be reached: {type(error).__name__}") from None
        if status >= 300:
            raise HookFailed(f"the webhook answered {status}")
