"""A page says that it may be old when Muster was killed, and goes on by itself once it is back."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from playwright.async_api import BrowserContext

from bot.config.paths import Paths
from fleet.sim.provider import server as provider
from tests.browser.conftest import live
from tests.system.installation import Premises

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture
async def muster(tmp_path: Path) -> AsyncIterator[tuple[Premises, str]]:
    """A real `muster up` with a dashboard, and the dashboard's address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    paths = Paths.of({"MUSTER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    paths.prepare()
    async with provider.running() as models:
        settings = {
            "connectors": {"terminal": {}},
            "accounts": {"sim": {"provider": "anthropic", "base_url": models.url, "credential": "env:SIM_KEY"}},
            "agents": {"runtime": "sim", "sandbox": "none", "heartbeat": "1s"},
            "web": {"listen": address},
        }
        paths.muster_yaml.write_text(yaml.safe_dump(settings))
        premises = Premises(folder=tmp_path, models=models, paths=paths, kind="terminal")
        try:
            yield premises, f"http://{address}"
        finally:
            await premises.close()


async def test_a_page_is_stale_while_muster_is_gone_and_then_goes_on(
    muster: tuple[Premises, str], phone: BrowserContext
) -> None:
    home, origin = muster
    await home.start()
    await home.gateway("POST", "/v1/commands/launch", {"name": "coder0"})
    page = await phone.new_page()
    await page.goto(f"{origin}/login")
    await page.get_by_role("button", name="Show a code").click()
    code = (await page.locator(".code code").inner_text()).split()[-1]
    status, said = await home.shell("web", "login", code, "--control", "--yes")
    assert status == 0, said
    await page.wait_for_url(f"{origin}/")
    await live(page)
    await page.goto(f"{origin}/agents/coder0")
    await live(page)
    await page.get_by_label("Write to coder0").fill("[[say: I worked on]]")
    await home.kill()
    await page.get_by_text("Connection lost. What you see may be old.").wait_for()
    await page.get_by_role("heading", name="coder0").wait_for()
    await page.get_by_role("button", name="Send").tap()
    await page.get_by_text("Muster did not answer. Look whether it was done").wait_for()
    assert await page.get_by_label("Write to coder0").input_value() == "[[say: I worked on]]"
    await home.start()
    await live(page)
    await page.locator("#link-state", has_text="Connection lost").wait_for(state="detached")
    await page.get_by_role("button", name="Send").tap()
    await page.locator(".bubble.agent", has_text="I worked on").wait_for()
    assert await page.locator(".bubble.person").count() == 1
