"""The service worker runs within the page's policy, and shows that something waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

from tests.bot.interfaces.web.browser import dashboard
from tests.bot.orchestrator import House
from tests.browser.conftest import faults, log_in, sideways
from tests.browser.test_dashboard import complaints

_SHOWN = """async () => {
    const worker = await navigator.serviceWorker.getRegistration("/");
    return (await worker.getNotifications()).map((each) => each.body);
}"""
pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with dashboard(tmp_path, "web: {listen: '127.0.0.1:0', push: {}}\n") as made:
        yield made


async def test_a_push_is_shown_by_the_worker(home: House, phone: BrowserContext) -> None:
    page = await phone.new_page()
    errors = complaints(page)
    await log_in(home, page)
    origin = home.orchestrator.services.web_address
    await phone.grant_permissions(["notifications"], origin=origin)
    await page.goto(f"{origin}/sessions")
    await page.get_by_role("link", name="Pushes for this browser").tap()
    button = page.get_by_role("button", name="Turn pushes on", disabled=False)
    await button.wait_for()
    assert await faults(page) == []
    assert await sideways(page) == []
    devtools = await phone.new_cdp_session(page)
    found: list[dict[str, str]] = []
    devtools.on("ServiceWorker.workerRegistrationUpdated", lambda event: found.extend(event["registrations"]))
    await devtools.send("ServiceWorker.enable")
    # Chromium's own push service is out of reach here, so only what comes before and after it can be seen.
    await button.tap()
    await page.locator("#push-state", has_text="Registration failed").wait_for()
    assert [each.url for each in phone.service_workers] == [f"{origin}/sw.js"]
    assert found[-1]["scopeURL"] == f"{origin}/"
    push = {"origin": origin, "registrationId": found[-1]["registrationId"], "data": '{"kind": "waiting"}'}
    await devtools.send("ServiceWorker.deliverPushMessage", push)
    shown: list[str] = []
    async with asyncio.timeout(30):
        while not shown:
            shown = await page.evaluate(_SHOWN)
    assert shown == ["Something waits for an answer."]
    assert [each for each in errors if "Content Security Policy" in each or "Trusted" in each] == []
