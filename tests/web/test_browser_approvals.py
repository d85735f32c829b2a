"""A person at the approvals page in headless Chromium, and the watcher that does what they say: mode confirm, frauds in hand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from challenger.app import App
from challenger.domain import Mode
from challenger.settings import without_key
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.web import pages
from challenger.web.app import make_app
from challenger.web.serve import served
from challenger.web.table import Scope
from challenger.web.tokens import Tokens
from tests.integration.test_watcher import Scene, scene
from tests.web.browsing import hindrances
from tests.web.test_filings import reachable

pytestmark = pytest.mark.browser
DESK = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


@dataclass
class Waiting:
    """A watcher with frauds in hand that asks a person, and the pages over its record."""

    scene: Scene
    app: App
    url: str
    token: str

    async def enter(self, browser: Any, **screen: Any) -> Any:
        """The approvals page, as an operator sees it who came by the login."""
        context = await browser.new_context(bypass_csp=True, **screen)
        page = await context.new_page()
        await page.goto(f"{self.url}/login")
        await page.fill("#token", self.token)
        await page.click("text=Log in >> nth=-1")
        await page.click("nav >> text=Approvals")
        return page

    async def filed(self) -> Counter[bytes]:
        await self.scene.until_quiet(self.app)
        return await self.scene.accused()


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Waiting]:
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("ann", Scope.OPERATOR)
    async with (
        scene(tmp_path, seed=3, cheats=(Kind.NUDGE, Kind.OLDER, Kind.INT8)) as s,
        s.watcher(mode=Mode.CONFIRM, correlated_providers=100) as app,
        reachable(s.devnet) as chain,
    ):
        await s.world.play()
        await s.until_quiet(app)
        made = without_key(s.settings)
        settings = replace(
            made,
            chain=replace(made.chain, rpc=(chain,)),
            web=replace(made.web, listen="127.0.0.1:0", tokens=tokens.path, rate=1_000_000),
        )
        async with served(make_app(app.store, settings, [pages.add]), settings) as url:
            yield Waiting(s, app, url, token)


async def job_of(card: Any) -> bytes:
    return bytes.fromhex((await card.locator("form").get_attribute("action")).split("/")[2][2:])


async def look(page: Any, axe: str, name: str) -> None:
    assert await hindrances(page, axe) == [], name
    if folder := os.environ.get("CHALLENGER_SCREENSHOTS"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=True)


async def test_filings_are_approved_by_click_and_by_keyboard_and_refused(waiting, chromium, axe) -> None:
    frauds = waiting.scene.jobs(Truth.WRONG)
    assert len(frauds) >= 3
    assert not await waiting.filed()
    page = await waiting.enter(chromium, **DESK)
    cards = page.locator("article.card")
    assert await cards.count() == len(frauds)
    first = cards.nth(0)
    assert "a person must decide" in await first.inner_text()
    await look(page, axe, "desk-light")

    # by click: without a word of what was looked at nothing is sent
    by_click = await job_of(first)
    await first.get_by_role("button", name="Approve").click()
    assert not await waiting.filed()
    await first.locator("input[name=note]").fill("both roots, on another machine")
    await first.get_by_role("button", name="Approve").click()
    card = page.locator("article.card", has=page.locator(f"form[action*='{by_click.hex()}']"))
    assert "approved" in await card.inner_text()
    assert await waiting.filed() == Counter({by_click: 1})
    await page.goto(f"{waiting.url}/approvals")
    assert await cards.count() == len(frauds) - 1

    # by keyboard, on a phone in the dark; Enter in the note sends nothing: a bond is at stake
    phone = await waiting.enter(chromium, **PHONE)
    await look(phone, axe, "phone-dark")
    card = phone.locator("article.card").nth(0)
    by_key = await job_of(card)
    await card.locator("h2 a").focus()
    for _ in range(20):
        await phone.keyboard.press("Tab")
        if await phone.evaluate("document.activeElement.name") == "note":
            break
    await phone.keyboard.type("the evidence bundle")
    await phone.keyboard.press("Enter")
    assert await phone.evaluate("document.activeElement.value") == "the evidence bundle"
    assert await waiting.filed() == Counter({by_click: 1})
    await phone.keyboard.press("Tab")
    assert await phone.evaluate("document.activeElement.textContent") == "Approve"
    async with phone.expect_navigation():
        await phone.keyboard.press("Enter")
    assert await waiting.filed() == Counter({by_click: 1, by_key: 1})

    # refused, with the reason; another who still has it before them is told why it does not go out
    late = await waiting.enter(chromium, **PHONE)
    card = late.locator("article.card").nth(0)
    kept = await job_of(card)
    await page.goto(f"{waiting.url}/approvals")
    mine = page.locator("article.card", has=page.locator(f"form[action*='{kept.hex()}']"))
    await mine.locator("input[name=note]").fill("their answer may be right")
    await mine.get_by_role("button", name="Refuse").click()
    assert "refused by token ann: their answer may be right" in await page.locator("main").inner_text()
    await look(page, axe, "desk-refused")
    assert await waiting.filed() == Counter({by_click: 1, by_key: 1})
    async with waiting.app.store.read() as view:
        item = await view.work.item(kept)
    assert item.work.detail == "approval: refused by token ann: their answer may be right"


async def test_what_is_not_waited_for_any_more_is_refused_with_the_reason(waiting, chromium, axe) -> None:
    one, two = await waiting.enter(chromium, **DESK), await waiting.enter(chromium, **PHONE)
    for page in (one, two):
        await page.locator("article.card").nth(0).locator("input[name=note]").fill("seen")
    job = await job_of(one.locator("article.card").nth(0))
    assert job == await job_of(two.locator("article.card").nth(0))
    await one.locator("article.card").nth(0).get_by_role("button", name="Approve").click()
    assert await waiting.filed() == Counter({job: 1})
    # what was typed is not taken away by the page that follows the journal, wherever the focus is
    await two.evaluate("document.activeElement.blur()")
    await two.wait_for_function("document.getElementById('live').textContent.includes('Not updated')", timeout=20_000)
    card = two.locator("article.card").nth(0)
    assert await card.locator("input[name=note]").input_value() == "seen"
    assert await job_of(card) == job
    await card.get_by_role("button", name="Approve").click()
    assert "nothing is asked" in await two.locator("main").inner_text()
    await look(two, axe, "phone-gone")
    assert await waiting.filed() == Counter({job: 1})
