"""Metrics and health over HTTP, on loopback only: what is scraped from elsewhere goes through the operator's proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from challenger.errors import ConfigError
from challenger.telemetry.health import Health
from challenger.telemetry.metrics import Prometheus

_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def loopback(address: str) -> tuple[str, int]:
    """(host, port) of ``host:port``. Raises ConfigError unless the host is a loopback address."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        safe = host == "localhost" or ipaddress.ip_address(host).is_loopback
        number = int(port)
    except ValueError:
        raise ConfigError("[telemetry] metrics must be HOST:PORT, such as 127.0.0.1:9464", got=address) from None
    if not safe or not 0 <= number <= 65_535:
        raise ConfigError("[telemetry] metrics must be a loopback address and a port", got=address)
    return host, number


@asynccontextmanager
async def serve(metrics: Prometheus, address: str, health: Health) -> AsyncIterator[int]:
    """Serves ``/metrics``, ``/healthz`` (it lives) and ``/readyz`` (it makes progress, or 503 and why not) while the block
    lasts; gives the port (``:0`` takes a free one).

    Raises ConfigError for an address that is not loopback or cannot be bound.
    """
    from aiohttp import web

    host, port = loopback(address)

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics.page(), headers={"content-type": _TYPE})

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def ready(_: web.Request) -> web.Response:
        trouble = health.trouble()
        return web.Response(text=f"{trouble or 'ready'}\n", status=503 if trouble else 200)

    app = web.Application()
    app.router.add_get("/metrics", page)
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"[telemetry] metrics cannot be served: {error.strerror}", address=address) from error
        bound: int = runner.addresses[0][1]
        yield bound
    finally:
        await runner.cleanup()
