"""Notifications through apprise: one message at a time to each service, handed over by a process of its own.

The extra ``notify`` brings apprise. The URLs hold secrets: they stand in no message, no log, no list of arguments.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from challenger.errors import ConfigError, Expected
from challenger.telemetry import courier
from challenger.telemetry.metrics import NOTIFICATIONS, Metrics, Silent
from challenger.telemetry.notice import SEVERITY, Notice, Severity
from challenger.telemetry.words import Message, message

#: What the courier sees of our environment: the way to the network, and to its libraries.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
                "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip
#: Seconds in which URLs are looked at.
_LOOK = 60.0
_ORDER = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)


class NotTold(Expected):
    """a notification service did not take a message"""


class Service:
    """One of the services, by its URL. ``name`` stands for it wherever it is spoken of; ``whom``: which watcher speaks;
    ``seconds``: what one message may take."""

    def __init__(self, url: str, name: str, whom: str, seconds: float, metrics: Metrics) -> None:
        self._url = url
        self.name = name
        self._whom = whom
        self._seconds = seconds
        self._metrics = metrics

    async def tell(self, notices: Sequence[Notice]) -> None:
        """Raises NotTold."""
        await self.say(message(notices, self._whom))

    async def say(self, text: Message) -> None:
        """Raises NotTold."""
        try:
            await self._say(text)
        except NotTold:
            self._metrics.count(NOTIFICATIONS, service=self.name, outcome="failed")
            raise
        self._metrics.count(NOTIFICATIONS, service=self.name, outcome="sent")

    async def _say(self, text: Message) -> None:
        try:
            (word,) = await _courier({"urls": [self._url], **text._asdict()}, self._seconds)
        except (TimeoutError, ConfigError, OSError) as error:
            why = f"took longer than {self._seconds:g} s" if isinstance(error, TimeoutError) else str(error)
            raise NotTold(why, service=self.name) from None
        if word != "ok":
            raise NotTold("it refused the message or could not be reached", service=self.name)


def services(urls: Sequence[str], whom: str, seconds: float, metrics: Metrics | None = None) -> list[Service]:
    """One for each URL, named by its place and what it is: ``1 (tgram)``."""
    counts = metrics or Silent()
    return [Service(url, f"{n} ({_scheme(url)})", whom, seconds, counts) for n, url in enumerate(urls, start=1)]


async def look(urls: Sequence[str], on: Sequence[str]) -> None:
    """Raises ConfigError where apprise is missing or does not understand a URL, or ``on`` names no alert."""
    choice(on)
    if not urls:
        return
    try:
        words = await _courier({"urls": list(urls)}, _LOOK)
    except TimeoutError:
        raise ConfigError(f"[telemetry] notify: apprise took longer than {_LOOK:g} s to start") from None
    for number, word in enumerate(words, start=1):
        if word != "ok":
            raise ConfigError(
                f"[telemetry] notify: apprise does not understand URL {number} of {len(urls)}; "
                "its documentation says how the service's URL is made up"
            )


def choice(on: Sequence[str]) -> Callable[[Notice], bool]:
    """Whether a notice is wanted: ``on`` names alerts, or a severity from which on all are. Raises ConfigError."""
    names, least = set(on), len(_ORDER)
    for name in on:
        if name in list(Severity):
            least = min(least, _ORDER.index(Severity(name)))
        elif name not in SEVERITY:
            near = difflib.get_close_matches(name, [*SEVERITY, *Severity], 1)
            hint = f"did you mean {near[0]}?" if near else "it is one of " + ", ".join([*Severity, *SEVERITY])
            raise ConfigError(f"[telemetry] notify_on: no alert or severity is called {name}; {hint}")
    return lambda notice: notice.name in names or _ORDER.index(notice.severity) >= least


def _scheme(url: str) -> str:
    """What kind of service, of a URL that apprise understands; whatever else it holds may be secret."""
    scheme, found, _ = url.partition("://")
    return scheme.lower() if found and scheme.isalnum() and scheme.isascii() and len(scheme) <= 16 else "?"


async def _courier(wanted: dict[str, object], seconds: float) -> list[str]:
    """The courier's words; it is killed after ``seconds``. Raises TimeoutError, OSError, ConfigError without apprise."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(Path(courier.__file__)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            out, _ = await process.communicate(json.dumps(wanted).encode())
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == courier.MISSING:
        raise ConfigError("[telemetry] notify needs apprise: pip install 'inference-challenger[notify]'")
    if process.returncode:
        raise OSError(f"the courier ended with code {process.returncode}")
    words: list[str] = json.loads(out)
    return words
