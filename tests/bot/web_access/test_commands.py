"""Logging a browser in from a shell: nobody is asked to confirm what they were not shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.api_client import Client
from bot.commands import sections
from bot.interfaces.cli import main as cli
from tests.bot.interfaces.web.browser import browser, dashboard


async def test_a_shell_without_a_terminal_says_which_browser_before_it_wants_a_yes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with dashboard(tmp_path) as home, browser(home) as it:

        async def muster(*words: str) -> tuple[int, str]:
            client = Client(home.paths.gateway_socket)
            capsys.readouterr()
            status = await asyncio.to_thread(cli.run, sections.load(), list(words), client=lambda: client)
            out = capsys.readouterr()
            return status, out.out + out.err

        status, said = await muster("web", "login", "BCDF-GHJK")
        assert status != 0
        assert "No browser shows this code now." in said
        code = await it.code()
        status, said = await muster("web", "login", code)
        assert status != 0
        assert "127.0.0.1" in said
        assert "needs your confirmation. `muster web logout` ends it. Say --yes" in said
        assert (await it.go_on()).status == 200, "it is not logged in"
        status, said = await muster("web", "login", code, "--yes")
        assert status == 0
        assert (await it.go_on()).status == 303
