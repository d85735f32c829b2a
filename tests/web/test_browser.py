"""The dashboard in headless Chromium, over a record that a real watcher made: every page, wide and narrow, light and dark, with
axe-core looking for what keeps people out; without scripts; and live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from challenger.domain import UnixTime
from challenger.settings import without_key
from challenger.sim.scoreboard import Truth
from challenger.store import listed, open_store
from challenger.web import pages
from challenger.web.app import make_app
from challenger.web.pages.frame import MENU
from challenger.web.serve import served
from challenger.web.table import Scope
from challenger.web.tokens import Tokens
from tests.integration.test_watcher import scene
from tests.web.browsing import hindrances

pytestmark = pytest.mark.browser


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Any]:
    """The settings of a small life that is over: frauds, withheld data, disputes won, an epoch revealed, bundles."""
    async with scene(tmp_path, seed=3) as s:
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            await s.until_quiet(app)
            deadline = s.world.last_demand()
            assert deadline is not None
            await s.world.blocks.travel(deadline)
            await s.until_quiet(app)
            while await app.keep_evidence():
                pass
            await app.publish((await s.devnet.rpc.block("latest")).time)
        made = without_key(s.settings)
        settings = replace(
            made, web=replace(made.web, listen="127.0.0.1:0", tokens=tmp_path / "tokens.json", rate=1_000_000)
        )
        async with (
            open_store(settings.store.url) as store,
            served(make_app(store, settings, [pages.add]), settings) as url,
        ):
            yield s, store, settings, url


def things(s: Any) -> list[str]:
    jobs = [min(s.jobs(truth)) for truth in Truth if s.jobs(truth)]
    return [f"/commitments/0x{job.hex()}" for job in jobs] + ["/disputes/1", "/demands/1", "/sampling/0"]


async def test_every_page_on_every_screen_and_nothing_keeps_people_out(watched, chromium, axe):
    s, _, _, url = watched
    paths = (
        [path for path, _ in MENU]
        + things(s)
        + ["/login", "/nothing", "/commitments?verdict=FRAUD", "/operations/transactions"]
    )
    for width, scheme in ((1280, "light"), (390, "dark")):
        context = await chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        )
        page = await context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))  # noqa: B023 - each page reports at once
        for path in paths:
            await page.goto(url + path, wait_until="domcontentloaded")
            assert await hindrances(page, axe) == [], (path, width, scheme)
        assert wrong == []
        await context.close()
    # providers and models are reached from their lists
    context = await chromium.new_context(bypass_csp=True)
    page = await context.new_page()
    for path in ("/providers", "/models"):
        await page.goto(url + path)
        await page.click("td a.id")
        assert await page.locator("h1 .id").count() == 1
        assert await hindrances(page, axe) == []
    await context.close()


async def test_all_of_it_works_without_scripts(watched, chromium):
    s, _, settings, url = watched
    token = Tokens(settings.web.tokens).add("night", Scope.OPERATOR)
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(url)
    assert page.url.endswith("/login")
    await page.fill("#token", token)
    await page.click("text=Log in >> nth=-1")
    assert await page.locator("h1").inner_text() == "Overview"
    await page.click("nav >> text=Commitments")
    await page.click("summary")
    await page.select_option("#f-verdict", "FRAUD")
    await page.click("text=Show")
    assert await page.locator("tbody tr").count() == len(s.jobs(Truth.WRONG))
    await page.click("td a.id >> nth=0")
    assert "FRAUD" in await page.locator(".lead").inner_text()
    async with page.expect_download() as download:
        await page.click("a[download]")
    kept = await (await download.value).path()
    assert await asyncio.to_thread(Path(kept).read_bytes) in [
        path.read_bytes() for path in settings.store.evidence.iterdir()
    ]
    await page.click("nav >> text=Operations")
    await page.fill("#pause-reason", "to have a look")
    await page.click("text=Pause all filing")
    assert "to have a look" in await page.locator("main").inner_text()
    await page.fill("#resume-note", "seen")
    await page.click("text=Resume filing")
    assert "No pause is in force." in await page.locator("main").inner_text()
    await page.click("text=Log out")
    assert page.url.endswith("/login")
    await context.close()


async def test_a_page_follows_the_journal_by_itself(watched, chromium):
    _, store, _, url = watched
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_function("document.getElementById('live').textContent === 'Live'")
    async with store.begin(UnixTime(0)) as unit:
        await unit.approvals.pause("person", "filing", "somebody is worried")
    await page.wait_for_selector("text=somebody is worried", timeout=20_000)
    assert (await page.locator("#live").inner_text()).startswith("Updated")
    await context.close()


async def test_whoever_uses_the_keyboard_gets_everywhere(watched, chromium):
    _, _, _, url = watched
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(url + "/commitments")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "To the content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    seen = set()
    for _ in range(40):
        await page.keyboard.press("Tab")
        seen.add(
            await page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")
        )
    assert {"SUMMARY", "Commitments", "A"} <= seen
    await context.close()


async def test_a_pause_that_comes_while_somebody_writes_is_not_lifted_unseen(watched, chromium, axe):
    _, store, settings, url = watched
    token = Tokens(settings.web.tokens).add("night", Scope.OPERATOR)
    async with store.read() as view:
        model = "0x" + (await view.listing.page(listed.MODELS, limit=1)).rows[0].model.hex()
    async with store.begin(UnixTime(0)) as unit:
        await unit.approvals.pause("correlated", model, "two providers accused within the hour")
    context = await chromium.new_context(bypass_csp=True)
    page = await context.new_page()
    await page.goto(url + "/login")
    await page.fill("#token", token)
    await page.click("text=Log in >> nth=-1")
    assert (await page.locator(".banner.bad").first.inner_text()).startswith(f"Filing on model {model[:12]}… is paused")
    assert await hindrances(page, axe) == []
    await page.goto(url + "/operations")
    await page.wait_for_function("document.getElementById('live').textContent === 'Live'")
    assert await page.locator("text=Pause all filing").count() == 1
    assert await hindrances(page, axe) == []
    await page.fill("#resume-note", "their verdicts are right")
    async with store.begin(UnixTime(0)) as unit:
        await unit.approvals.pause("lost", model, "dispute 7 was lost")
    await page.wait_for_function("document.getElementById('live').textContent.startsWith('Not updated')")
    await page.click("text=Resume filing on this model")
    told = await page.locator("main").inner_text()
    assert "a pause that was not shown is in force by now" in told
    assert "dispute 7 was lost" in told
    await page.goto(url + "/operations")
    await page.fill("#pause-reason", "until it is understood")
    await page.click("text=Pause all filing")
    told = await page.locator("main").inner_text()
    assert told.index("All filing is paused") < told.index("until it is understood") < told.index("dispute 7 was lost")
    assert await hindrances(page, axe) == []
    await context.close()
