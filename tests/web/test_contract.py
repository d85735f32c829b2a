"""schemathesis holds the served API against its own OpenAPI document, over a database with content and a chain."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from challenger.settings import load
from challenger.store import Store
from challenger.web.app import make_app
from challenger.web.table import Scope
from challenger.web.tokens import Tokens
from tests.acceptance.test_check import place
from tests.web.conftest import settings_of

ROOT = "/api/v1"
#: Requests of each kind to each operation.
EXAMPLES = {"default": 15, "full": 300}[os.environ.get("HYPOTHESIS_PROFILE", "default")]


async def run(url: str, token: str, report: Path, *more: str) -> tuple[int, str]:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}{ROOT}/openapi.json"),
        *("--checks", "all", "--max-examples", str(EXAMPLES), "--continue-on-failure", "--generation-deterministic"),
        *("--header", f"Authorization: Bearer {token}", "--report-json-path", str(report), "--no-color"),
        *("--suppress-health-check", "all"),
        *("--exclude-path", f"{ROOT}/events", "--warnings", "off", *more),
    ]
    out = asyncio.subprocess.PIPE
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=out, stderr=asyncio.subprocess.STDOUT, env=env, cwd=report.parent
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


def statuses(app: Any) -> list[int]:
    """Of every answer from now on."""
    found: list[int] = []

    async def note(_: Any, response: Any) -> None:
        found.append(response.status)

    app.on_response_prepare.append(note)
    return found


@pytest.mark.slow
async def test_the_api_is_as_its_document_says(small: Store, tmp_path: Path, tokens: Tokens) -> None:
    token = tokens.add("tester", Scope.OPERATOR)
    async with place(tmp_path) as somewhere:
        settings = replace(settings_of(tmp_path), chain=load(somewhere.settings_file(), {}).chain)
        app = make_app(small, settings)
        found = statuses(app)
        async with TestServer(app) as server:
            url = str(server.make_url("")).rstrip("/")
            code, said = await run(url, token, tmp_path / "report.json")
    assert code == 0, said[-6_000:]
    assert len(found) > 500
    assert [status for status in found if status >= 500] == []
    assert {200, 400, 401, 404, 405} <= set(found)
    assert json.loads((tmp_path / "report.json").read_text())
