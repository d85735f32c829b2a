"""Listens: on loopback, unless the settings say otherwise and there are tokens."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from challenger.errors import ConfigError
from challenger.settings import Settings
from challenger.web.guard import LONGEST
from challenger.web.tokens import Tokens


def address_of(settings: Settings) -> tuple[str, int]:
    """(host, port) to listen at. Raises ConfigError for one that may not be served as things are."""
    wanted = settings.web
    host, _, port = wanted.listen.rpartition(":")
    host = host.strip("[]")
    try:
        number = int(port) if port.isascii() and port.isdigit() else -1
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        number, local = -1, False
    if not 0 <= number <= 65_535:
        raise ConfigError("[web] listen must be ADDRESS:PORT, such as 127.0.0.1:8080", got=wanted.listen)
    if not local and not wanted.public:
        raise ConfigError(
            "[web] listen is no loopback address: say public = true if others may reach it", got=wanted.listen
        )
    if (wanted.public or wanted.hosts) and not Tokens(wanted.tokens).all():
        raise ConfigError("others may reach this and there is no token: `challenger serve token add NAME` makes one")
    if wanted.public and not wanted.hosts:
        raise ConfigError("[web] public needs hosts: the names under which it is reached")
    return host, number


@asynccontextmanager
async def served(app: web.Application, settings: Settings) -> AsyncIterator[str]:
    """Serves ``app`` while the block lasts; gives its URL (port 0 takes a free one). Raises ConfigError for an address
    that cannot be bound."""
    host, port = address_of(settings)
    runner = web.AppRunner(
        app,
        access_log=None,
        max_line_size=4 * LONGEST,
        max_field_size=4 * LONGEST,
        shutdown_timeout=2.0,
        handle_signals=False,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"[web] listen cannot be bound: {error.strerror}", address=settings.web.listen) from error
        bound = runner.addresses[0]
        yield f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
    finally:
        await runner.cleanup()
