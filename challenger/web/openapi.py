"""OpenAPI 3.1, printed from the table of routes."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from challenger.shapes import Schema, Shape
from challenger.web.problems import TYPE
from challenger.web.table import Route, Scope

_PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong, in one sentence"},
        "parameter": {"type": "string", "description": "the parameter, header or member that is wrong"},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": False,
}
_SAYS = {
    400: "a parameter is wrong",
    401: "a token is needed, or the one given is not valid",
    403: "the token may not do this, or the Host is not served",
    404: "there is no such thing",
    406: "the client takes no such media type",
    409: "what was shown is no longer so",
    413: "the body is too large",
    414: "the address is too long",
    415: "the body is not JSON",
    429: "too many requests; `Retry-After` says for how long",
    503: "the record or the chain cannot be read now",
}
_ALWAYS = (400, 401, 403, 406, 414, 429, 503)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    schemas: dict[str, Schema] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for shape in route.shapes:
            _collect(shape, schemas)
        paths.setdefault(route.full, {})[route.method.lower()] = _operation(route)
    try:
        ours = version("inference-challenger")
    except PackageNotFoundError:
        ours = "unknown"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "inference-challenger",
            "version": ours,
            "description": "The record of a watchtower for AI inference committed on chain. Amounts are decimal strings "
            "of wei, hashes and addresses 0x hex, times UTC seconds.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _collect(shape: Shape, schemas: dict[str, Schema]) -> None:
    if shape.name not in schemas:
        schemas[shape.name] = shape.schema
        for part in shape.parts.values():
            _collect(part, schemas)


def _operation(route: Route) -> dict[str, Any]:
    answers = {
        str(status): {
            "description": _SAYS[status],
            "content": {TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*_ALWAYS, *route.problems, *((413, 415) if route.method == "POST" else ())})
    }
    answers["200"] = {"description": "found", "content": {route.media: {"schema": route.answer}}}
    if route.method == "GET" and not route.private:
        answers["304"] = {"description": "as the client has it (If-None-Match)"}
    told: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.about,
        "parameters": [one.openapi() for one in route.parameters],
        "responses": dict(sorted(answers.items())),
    }
    if route.scope is Scope.OPERATOR:
        told["description"] = "Needs a token of scope operator."
        told["security"] = [{"token": []}]
    if route.method == "POST":
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": _body(route)}}}
    return told


def _body(route: Route) -> Schema:
    return {
        "type": "object",
        "properties": {
            one.name: {
                "type": "string",
                "description": one.about,
                "maxLength": one.longest,
                "minLength": int(one.required),
                "pattern": one.pattern,
            }
            for one in route.body
        },
        "required": [one.name for one in route.body if one.required],
        "additionalProperties": False,
    }
