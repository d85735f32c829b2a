"""What a refused request is answered: RFC 9457's ``application/problem+json``, one sentence that names the parameter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

TYPE = "application/problem+json"


class Problem(Exception):
    """A request that cannot be answered as asked. ``parameter``: the one that is wrong, where one is."""

    def __init__(
        self, status: int, detail: str, *, parameter: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.parameter = parameter
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        told: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.parameter:
            told["parameter"] = self.parameter
        body = json.dumps(told).encode()
        return web.Response(body=body, status=self.status, content_type=TYPE, headers=self.headers)


def not_found(what: str, asked: str) -> Problem:
    return Problem(404, f"the record holds no {what} {asked[:80]}")
