"""A fleet whose room is a pane of tmux, from muster.yaml to what an agent answers there."""

from __future__ import annotations

import asyncio
import getpass
import re
from pathlib import Path

import pytest

from bot.auth.permission import ADMIN
from tests.bot.interfaces.cli.pane import until
from tests.bot.orchestrator import house
from tests.connectors.tmux.server import server_of_ones_own


async def test_a_person_launches_and_talks_in_a_pane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server_of_ones_own(monkeypatch) as tmux:
        async with house(tmp_path) as home:
            text = home.paths.muster_yaml.read_text()
            block = "connectors:\n  tmux: {session: work}\n"
            home.paths.muster_yaml.write_text(text.replace("connectors:\n", block))

            def pane() -> str:
                lines = tmux.panes("#{pane_id} #{@muster_room}")
                return next((line.split()[0] for line in lines if " " in line.strip()), "")

            async def sees(words: str) -> str:
                await until(lambda: words in tmux.shown(pane()), lambda: tmux.shown(pane()))
                return tmux.shown(pane())

            async def types(words: str) -> None:
                await asyncio.to_thread(tmux, "send-keys", "-l", "-t", pane(), words)
                await asyncio.to_thread(tmux, "send-keys", "-t", pane(), "Enter")

            async with home.open() as orchestrator:
                await until(pane)
                await sees("0 working, 0 waiting, 0 failed")
                assert await orchestrator.services.operators.permission(f"tmux:{getpass.getuser()}") is ADMIN
                await types("!launch coder0 --runtime sim --sandbox none")
                await sees("/switch coder0 to talk there")
                await types("/switch coder0")
                await sees("fleet/coder0>")
                await types("[[run: echo hello]]")
                seen = await sees("asks for permission")
                await sees("0 working, 1 waiting, 0 failed")
                asked = re.search(r"!deny (\w+)", seen)
                assert asked is not None, seen
                await types(f"!deny {asked[1]}")
                await sees("0 working, 0 waiting, 0 failed")
            await types("!whoami")
            await sees("1 message kept for it")
            async with home.open():
                await sees("with the permission admin")
                await until(lambda: not list((home.paths.unsaid / "tmux").iterdir()))
                assert tmux.panes("#{session_name}:#{window_name}") == ["work:fleet"]
                tmux("kill-pane", "-t", pane())
                assert "(session work): `tmux attach" in await home.ask("!tmux open")
                await sees("fleet>")
