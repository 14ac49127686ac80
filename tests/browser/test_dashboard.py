"""What a person sees of the dashboard in a real browser, on a phone and with the connection lost."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page

from tests.bot.orchestrator import OPERATOR, House, house
from tests.browser.conftest import faults, filled, live, log_in, sideways

#: One of each kind of page.
PAGES = (
    "/", "/waiting", "/agents/coder0", "/limits", "/tasks", "/audit", "/health", "/commands", "/commands/launch",
    "/commands/send?a.name=coder0", "/commands/budget/set", "/sessions", "/nothing", "/runs", "/runs/issues/5e7a1c90ab",
)  # fmt: skip
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
    assert await sideways(page) == []
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
    await filled(home)
    for path in PAGES:
        await page.goto(f"{origin}{path}")
        found[path] = await faults(page)
    assert {path: each for path, each in found.items() if each} == {}


@pytest.mark.parametrize("width", [640, 320], ids=["1280 at 200 %", "320"])
async def test_no_page_scrolls_sideways(home: House, chromium: Browser, width: int) -> None:
    """A page that is magnified is a narrow one (WCAG 1.4.10); what needs two dimensions scrolls in its own frame."""
    context = await chromium.new_context(
        viewport={"width": width, "height": 512 if width == 640 else 256}, device_scale_factor=2
    )
    page = await context.new_page()
    origin = home.orchestrator.services.web_address
    await page.goto(f"{origin}/login")
    assert await sideways(page) == [], "/login"
    await log_in(home, page)
    await filled(home)
    request = (await home.ask("!approvals")).split("`")[1]
    found = {}
    for path in (*PAGES, f"/waiting/{request}", "/commands/kill?a.name=coder0"):
        await page.goto(f"{origin}{path}")
        found[path] = await sideways(page)
    assert {path: each for path, each in found.items() if each} == {}
    await context.close()


async def test_an_agent_is_cut_off_and_a_limit_set(home: House, phone: BrowserContext) -> None:
    page = await phone.new_page()
    errors = complaints(page)
    await log_in(home, page)
    await home.launch("coder0")
    origin = home.orchestrator.services.web_address
    await page.goto(f"{origin}/agents/coder0")
    await page.get_by_role("link", name="cutoff").tap()
    await page.get_by_role("button", name="cutoff").tap()
    await page.get_by_role("heading", name="cutoff: done").wait_for()
    await page.get_by_role("link", name="Back").tap()
    await page.locator(".alarm", has_text="by memory:@ana").wait_for()
    await page.goto(f"{origin}/commands/budget/set")
    await page.get_by_label("scope").fill("agent:coder0")
    await page.get_by_label("limit").fill("two million")
    await page.get_by_role("button", name="budget set").tap()
    await page.get_by_role("alert").get_by_text("is no limit").wait_for()
    assert await page.get_by_label("scope").input_value() == "agent:coder0"
    await page.get_by_label("limit").fill("2M")
    await page.get_by_role("button", name="budget set").tap()
    await page.get_by_role("heading", name="budget set: done").wait_for()
    await page.goto(f"{origin}/limits")
    await page.get_by_role("rowheader", name="agent:coder0").wait_for()
    assert "2.0M tokens" in await page.locator("main").inner_text()
    # The answer of the form that was refused is an error of the network for the browser's console.
    assert [each for each in errors if "422" not in each] == []


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
