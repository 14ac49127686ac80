"""What a person sees of the dashboard in a real browser, on a phone and with the connection lost."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page

from tests.bot.orchestrator import OPERATOR, House, house
from tests.browser.conftest import faults, live, log_in

pytestmark = [pytest.mark.slow, pytest.mark.browser]


async def asked(home: House) -> str:
    """Have an agent ask for permission; return the agent's thread."""
    thread = await home.launch("coder0")
    home.say("[[run: echo permitted > proof.txt]]", thread)
    await home.heard(thread, "asks for permission")
    return thread


def complaints(page: Page) -> list[str]:
    """What the page says on its console from now on: a refused script or style is there."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


async def test_one_thumb_allows_a_request_on_a_phone(home: House, phone: BrowserContext) -> None:
    page = await phone.new_page()
    errors = complaints(page)
    await log_in(home, page, OPERATOR)
    await live(page)
    await asked(home)
    await page.get_by_role("link", name="Approvals 1 waiting").tap()
    button = page.get_by_role("button", name="Allow once")
    box = await button.bounding_box()
    assert box is not None
    assert box["height"] >= 44
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    await button.tap()
    await page.get_by_text("Nothing waits for an answer.").wait_for()
    proof = home.paths.workspace("coder0") / "proof.txt"
    await home.chat.until(proof.exists, limit=30)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    assert errors == []


async def test_a_conversation_grows_while_one_looks_and_keeps_what_is_open(home: House, phone: BrowserContext) -> None:
    page = await phone.new_page()
    await log_in(home, page)
    thread = await home.launch("coder0")
    await page.goto(f"{home.orchestrator.services.web_address}/agents/coder0")
    await live(page)
    home.say("first [[say: one **two**]]", thread)
    await page.locator(".bubble.agent strong", has_text="two").wait_for()
    await page.get_by_label("Write to coder0").fill("half a sent")
    home.say("second [[say: three]]", thread)
    await page.locator(".bubble.agent", has_text="three").wait_for()
    assert await page.get_by_label("Write to coder0").input_value() == "half a sent"
    await page.get_by_label("Write to coder0").fill("[[say: from the browser]]")
    await page.get_by_role("button", name="Send").tap()
    await page.locator(".bubble.agent", has_text="from the browser").wait_for()
    assert "memory:@ana" in await page.locator(".bubble.person").last.inner_text()


async def test_a_restart_is_seen_and_needs_no_new_login(tmp_path: Path, phone: BrowserContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with house(tmp_path, settings=f"web: {{listen: '127.0.0.1:{port}'}}\n") as home:
        page = await phone.new_page()
        async with home.open():
            await log_in(home, page)
            await live(page)
        await page.get_by_text("Connection lost").wait_for()
        async with home.open():
            await live(page)
            assert await page.locator("#link-state").inner_text() == ""
            await home.launch("coder0")
            await page.get_by_role("link", name="coder0").wait_for()


async def test_tabs_share_one_stream_and_the_next_one_takes_over(home: House, phone: BrowserContext) -> None:
    first, second = await phone.new_page(), await phone.new_page()
    opened: list[str] = []
    phone.on("request", lambda request: opened.append(request.url) if "/events?" in request.url else None)
    await log_in(home, first)
    await live(first)
    await second.goto(f"{home.orchestrator.services.web_address}/tasks")
    await live(second)
    await home.ask("!task add 'Write a test.' --role coder")
    await second.get_by_text("Write a test.").wait_for()
    assert all(each.count("part=") for each in opened)
    await first.close()
    await live(second)
    await home.ask("!task add 'Write another.' --role coder")
    await second.get_by_text("Write another.").wait_for()


async def test_a_link_of_another_site_leads_to_its_page(home: House, phone: BrowserContext) -> None:
    """The first request comes without the cookie, which is strict."""
    page = await phone.new_page()
    await log_in(home, page)
    await page.goto(f"data:text/html,<a href='{home.orchestrator.services.web_address}/waiting/abcd'>Request</a>")
    await page.get_by_role("link", name="Request").tap()
    await page.get_by_role("heading", name="Request abcd").wait_for()


async def test_who_is_logged_out_sees_the_login_page(home: House, phone: BrowserContext) -> None:
    page = await phone.new_page()
    await log_in(home, page, OPERATOR)
    await live(page)
    session = (await home.ask("!web sessions")).split("| `")[1].split("`")[0]
    await home.ask(f"!web logout {session}")
    await page.get_by_role("heading", name="Log in to Muster").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_shuts_anybody_out(home: House, phone: BrowserContext, scheme: str) -> None:
    page = await phone.new_page()
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    origin = home.orchestrator.services.web_address
    await page.goto(f"{origin}/login")
    found = {"/login": await faults(page)}
    await log_in(home, page)
    await home.ask("!task add 'Write a test.' --role coder")
    await asked(home)
    for path in (
        "/", "/waiting", "/agents/coder0", "/limits", "/tasks", "/audit", "/health", "/commands", "/commands/launch",
        "/commands/send?a.name=coder0", "/sessions", "/nothing",
    ):  # fmt: skip
        await page.goto(f"{origin}{path}")
        found[path] = await faults(page)
    assert {path: each for path, each in found.items() if each} == {}


async def test_the_keyboard_reaches_what_a_hand_does(home: House, phone: BrowserContext) -> None:
    page = await phone.new_page()
    await log_in(home, page)
    await asked(home)
    await page.goto(f"{home.orchestrator.services.web_address}/waiting")
    await live(page)
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(40):
        await page.keyboard.press("Tab")
        if "Allow once" in await page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"):
            break
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    await page.keyboard.press("Enter")
    await page.get_by_text("Nothing waits for an answer.").wait_for()
