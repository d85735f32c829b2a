"""Puts the served application together: the API, and whatever pages are added to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

from challenger.settings import Settings
from challenger.store.engine import Store
from challenger.web.api import routes
from challenger.web.auth import Access
from challenger.web.events import Feed, Pace
from challenger.web.guard import add_headers, guard, problems
from challenger.web.keys import ACCESS, FEED, HOSTS, LIMITS, SETTINGS, STORE, WATCHER
from challenger.web.limits import Limits
from challenger.web.tokens import Tokens
from challenger.web.watcher import Watcher

#: Adds routes, middlewares or background tasks of its own to the application.
Part = Callable[[web.Application], None]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def make_app(
    store: Store, settings: Settings, parts: Sequence[Part] = (), *, pace: Pace | None = None
) -> web.Application:
    """The application over an opened ``store``; each of ``parts`` adds its pages. ``settings`` hold no key
    (``settings.without_key``). Raises ConfigError for settings that cannot be served."""
    wanted = settings.web
    app = web.Application(middlewares=[problems, guard], client_max_size=wanted.body_bytes)
    app[STORE] = store
    app[SETTINGS] = settings
    app[ACCESS] = Access(
        Tokens(wanted.tokens),
        open_reading=not wanted.public and not wanted.hosts,
        seconds=wanted.session_seconds,
        secure=wanted.https,
    )
    app[LIMITS] = Limits(wanted.rate)
    app[HOSTS] = LOOPBACK | {name.lower() for name in wanted.hosts}
    app[FEED] = Feed(store, wanted.listeners, pace)
    app[WATCHER] = Watcher(settings.telemetry.metrics)
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(_end)
    routes.add(app)
    for part in parts:
        part(app)
    return app


async def _end(app: web.Application) -> None:
    await app[FEED].close()
