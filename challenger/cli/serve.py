"""`challenger serve`: the API and the pages, from the database, without a key; `serve token`: who may use them."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from challenger.cli.common import print_json, print_table, run_to_end, settings_of, utc
from challenger.settings import Settings, without_key


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--listen", default=None, metavar="HOST:PORT", help="in place of [web] listen; port 0: any free one"
    )
    # an argument each, not subparsers: `challenger serve` alone serves
    sub.add_argument("what", nargs="?", choices=["token"], default=None, help="`token`: add, list or revoke tokens")
    sub.add_argument("act", nargs="?", choices=["add", "list", "revoke"], default=None, help="what to do with tokens")
    sub.add_argument("name", nargs="?", default=None, metavar="NAME", help="the token's name")
    sub.add_argument(
        "--scope", choices=["read", "operator"], default="read", help="what a new token may (default: read)"
    )


def run(options: argparse.Namespace) -> int:
    from challenger.errors import ConfigError
    from challenger.settings import override

    settings = without_key(settings_of(options))
    if options.what == "token":
        wants_name = options.act in ("add", "revoke")
        if options.act is None or wants_name != (options.name is not None):
            raise ConfigError("say `serve token add NAME`, `serve token list` or `serve token revoke NAME`")
        _token(settings, options)
        return 0
    if options.listen is not None:
        settings = override(settings, {"web.listen": options.listen}, "--listen")
    run_to_end(_serve(settings, as_json=options.json))
    return 0


async def _serve(settings: Settings, *, as_json: bool) -> None:
    from challenger.store.engine import open_store
    from challenger.telemetry.logs import configure
    from challenger.web import pages
    from challenger.web.app import make_app
    from challenger.web.serve import served

    configure(as_json=as_json)
    async with open_store(settings.store.url) as store, served(make_app(store, settings, [pages.add]), settings) as url:
        if as_json:
            print_json({"url": url})
        else:
            print(f"Serving {store.where} at {url}\nCtrl-C ends it.", flush=True)
        await asyncio.Event().wait()


def _token(settings: Settings, options: argparse.Namespace) -> None:
    from challenger.web.table import Scope
    from challenger.web.tokens import Tokens

    tokens = Tokens(settings.web.tokens)
    if options.act == "add":
        text = tokens.add(options.name, Scope(options.scope))
        if options.json:
            print_json({"name": options.name, "scope": options.scope, "token": text})
        else:
            print(f"{text}\nThis is shown once; {settings.web.tokens} keeps its hash alone. Scope: {options.scope}.")
    elif options.act == "revoke":
        tokens.revoke(options.name)
        print_json({"revoked": options.name}) if options.json else print(
            f"Revoked: {options.name}."
            + ("" if tokens.all() else " It was the last: on loopback reading is open to all again.")
        )
    else:
        rows: list[dict[str, Any]] = [
            {"name": one.name, "scope": one.scope.value, "created": one.created} for one in tokens.all()
        ]
        if options.json:
            print_json(rows)
        elif not rows:
            print("No tokens. `challenger serve token add NAME --scope read|operator` makes one.")
        else:
            cells = [(row["name"], row["scope"], utc(row["created"])) for row in rows]
            print_table("Tokens", ["name", "scope", "made"], cells)
