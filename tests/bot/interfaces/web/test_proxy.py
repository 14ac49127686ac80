"""Behind a reverse proxy the dashboard has its public name, and people see the address of the browser itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bot.config.surfaces.web import WebBlock
from bot.interfaces.web.server import WebServer
from tests.bot.interfaces.web.browser import dashboard
from tests.bot.orchestrator import House

SETTINGS = "web: {listen: '127.0.0.1:0', url: 'https://muster.example.org', behind_proxy: true}\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with dashboard(tmp_path, SETTINGS) as made:
        yield made


async def test_a_request_in_chat_links_to_its_page(home: House) -> None:
    assert home.orchestrator.services.web_address == "https://muster.example.org"
    thread = await home.launch("coder0")
    home.say("[[run: echo permitted > proof.txt]]", thread)
    question = await home.heard(thread, "asks for permission")
    number = question.split("permission `")[1].split("`")[0]
    assert f"it is denied. On the dashboard: https://muster.example.org/waiting/{number}" in question


async def test_the_address_of_the_browser_is_the_one_that_the_proxy_saw(home: House) -> None:
    orchestrator = home.orchestrator
    server = WebServer(
        orchestrator.services,
        orchestrator.executor,
        WebBlock(listen="127.0.0.1:0", url="https://muster.example.org", behind_proxy=True),
    )
    await server.start()
    headers = {
        "Host": "muster.example.org",
        "Origin": "https://muster.example.org",
        # A browser can send this header itself; the proxy adds what it saw at the end.
        "X-Forwarded-For": "10.0.0.1, 203.0.113.9",
    }
    try:
        async with aiohttp.ClientSession() as client:
            address = f"http://127.0.0.1:{server.where.port}/login"
            async with client.post(address, data={"to": "/"}, headers=headers) as answer:
                text, cookie = await answer.text(), answer.headers["Set-Cookie"]
            async with client.get(address) as answer:
                assert answer.status == 421
    finally:
        await server.stop()
    for word in ("__Host-muster-login=", "Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in cookie
    assert "Domain" not in cookie
    found = re.search(r"web login ([A-Z0-9-]{9})", text)
    assert found is not None
    assert "at `203.0.113.9` shows this code" in await home.ask(f"!web login {found[1]}")
