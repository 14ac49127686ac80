"""A person comments on lines of an agent's changes in a real browser: by keys, on a phone, and over a reload."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.bot.interfaces.web.browser import WEB
from tests.bot.orchestrator import House
from tests.bot.projects.fleet_with_project import ask, fleet
from tests.browser.conftest import faults, log_in, sideways
from tests.browser.test_dashboard import complaints

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is missing"),
]
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """An orchestrator with the agent web-1, which changed a file."""
    async with fleet(tmp_path, settings=WEB) as (made, repo), made.open():
        _, thread = await ask(made, "[[say: here I am]]")
        await made.heard(thread, "here I am")
        clone = made.orchestrator.services.planner.workspaces.place("web-1", repo)
        (clone / "page.html").write_text("<p>two</p>\n<b>three</b>\n" + f"{'long ' * 80}\n")
        yield made


async def opened(home: House, page: Page) -> None:
    """Open the agent's changes as a person does."""
    await log_in(home, page)
    await page.goto(f"{home.orchestrator.services.web_address}/agents/web-1")
    await page.get_by_role("link", name="diff").click()
    await page.get_by_role("button", name="diff").click()
    await page.get_by_role("heading", name="Changes of web-1").wait_for()


async def test_lines_are_commented_on_by_keys(home: House, phone: BrowserContext) -> None:
    page = await phone.new_page()
    errors = complaints(page)
    await opened(home, page)
    first = page.get_by_role("link", name="Comment on removed line 1 of page.html")
    # One stop of the Tab key, however many lines there are.
    await page.get_by_role("group", name="Diff").focus()
    await page.keyboard.press("Tab")
    await expect(first).to_be_focused()
    await page.keyboard.press("Shift+ArrowDown")
    await page.keyboard.press("Shift+ArrowDown")
    assert "3 lines are picked." in await page.locator("#said").inner_text()
    await page.keyboard.press("Enter")
    words = page.get_by_role("textbox", name="Comment")
    await expect(words).to_be_focused()
    await expect(page.get_by_label("How many lines")).to_have_value("3")
    await page.keyboard.type("Say **why**.")
    await page.get_by_role("button", name="Collect the comment").click()
    await page.get_by_role("heading", name="page.html, lines 1 to 2").wait_for()
    await expect(page.get_by_role("link", name="Comment on line 2 of page.html")).to_be_focused()
    await page.get_by_role("button", name="Send 1 comment to web-1 as one message").click()
    await page.get_by_role("heading", name="send: done").wait_for()
    await page.goto(f"{home.orchestrator.services.web_address}/agents/web-1")
    await page.locator(".bubble.person strong", has_text="why").wait_for()
    assert errors == []


async def test_a_comment_on_a_phone_survives_a_reload(home: House, phone: BrowserContext) -> None:
    page = await phone.new_page()
    await opened(home, page)
    line = page.get_by_role("link", name="Comment on line 2 of page.html")
    box = await line.bounding_box()
    assert box is not None
    assert box["height"] >= 24
    assert box["width"] >= 40
    await line.tap()
    words = page.get_by_role("textbox", name="Comment")
    await words.fill("Half a sent")
    for theme in THEMES:
        await page.emulate_media(color_scheme=theme)
        assert await faults(page) == []
    for width in (320, 640, 360):
        await page.set_viewport_size({"width": width, "height": 740})
        assert await sideways(page) == []
    await page.reload()
    await expect(words).to_have_value("Half a sent")
    await words.fill("A sentence.")
    await page.get_by_role("button", name="Collect the comment").tap()
    await page.get_by_text("A sentence.").wait_for()
    await page.reload()
    await page.get_by_text("A sentence.").wait_for()
    for theme in THEMES:
        await page.emulate_media(color_scheme=theme)
        assert await faults(page) == []
    assert await words.count() == 0
    await page.get_by_role("button", name="Remove the comment on page.html, line 2").tap()
    await page.get_by_text("There are none yet.").wait_for()


async def test_without_scripts_a_line_leads_to_its_form(home: House, phone: BrowserContext) -> None:
    scripted = await phone.new_page()
    await opened(home, scripted)
    browser = phone.browser
    assert browser is not None
    plain = await browser.new_context(
        java_script_enabled=False, storage_state=await phone.storage_state(), viewport={"width": 360, "height": 740}
    )
    page = await plain.new_page()
    await page.goto(scripted.url)
    await page.get_by_role("link", name="Comment on line 2 of page.html").click()
    await page.get_by_label("Comment", exact=True).fill("Without scripts.")
    await page.get_by_role("button", name="Collect the comment").click()
    await page.get_by_text("Without scripts.").wait_for()
    await page.get_by_role("button", name="Send 1 comment").click()
    await page.get_by_role("heading", name="send: done").wait_for()
    await plain.close()
