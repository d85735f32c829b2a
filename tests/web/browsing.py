"""Headless Chromium and axe-core for tests marked ``browser``."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

#: axe-core's own names for what hinders people much.
SERIOUS = ("serious", "critical")


@pytest.fixture
def axe(request: pytest.FixtureRequest) -> str:
    """axe-core's script, from npm."""
    roots = os.environ.get("NODE_PATH", "").split(os.pathsep)
    found = [Path(root) / "axe-core" / "axe.min.js" for root in roots if root]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        say = pytest.fail if request.config.getoption("--require-extras") else pytest.skip
        say("npm's axe-core is not on NODE_PATH")
    assert path is not None
    return path.read_text(encoding="utf-8")


@pytest.fixture
async def chromium(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    say = pytest.fail if request.config.getoption("--require-extras") else pytest.skip
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        say("chromium is not on PATH: apt-get install chromium")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        say("playwright is not installed: pip install '.[browser]'")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def hindrances(page: Any, axe: str) -> list[tuple[str, Any]]:
    """What keeps people out of ``page``: axe's rule and where; and whether it is wider than the screen."""
    await page.add_script_tag(content=axe)
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    faults = [(one["id"], one["nodes"][0]["target"]) for one in found["violations"] if one["impact"] in SERIOUS]
    beyond = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return faults + ([("wider than the screen", beyond)] if beyond > 0 else [])
