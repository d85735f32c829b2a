"""What the handlers are given: typed keys of the application and of a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from challenger.settings import Settings
from challenger.store.engine import Store

if TYPE_CHECKING:
    from challenger.web.auth import Access, Who
    from challenger.web.events import Feed
    from challenger.web.limits import Limits
    from challenger.web.problems import Problem
    from challenger.web.watcher import Watcher

STORE: web.AppKey[Store] = web.AppKey("store", Store)
SETTINGS: web.AppKey[Settings] = web.AppKey("settings", Settings)
ACCESS: web.AppKey[Access] = web.AppKey("access", object)  # type: ignore[arg-type]
LIMITS: web.AppKey[Limits] = web.AppKey("limits", object)  # type: ignore[arg-type]
FEED: web.AppKey[Feed] = web.AppKey("feed", object)  # type: ignore[arg-type]
WATCHER: web.AppKey[Watcher] = web.AppKey("watcher", object)  # type: ignore[arg-type]
#: How a problem is shown outside the API: a page where there are pages.
RENDER: web.AppKey[Callable[[web.Request, Problem], web.StreamResponse]] = web.AppKey("render", object)  # type: ignore[arg-type]
#: Names under which the service is reached, lower case, without a port.
HOSTS: web.AppKey[frozenset[str]] = web.AppKey("hosts", frozenset)
#: In a request: the ``auth.Who`` that asks, None for somebody who needs a token.
WHO: web.RequestKey[Who | None] = web.RequestKey("who", object)  # type: ignore[arg-type]
