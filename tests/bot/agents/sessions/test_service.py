"""What a person began in a terminal is listed for them alone, and taken into the room by them alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.api_client import Client
from bot.commands import sections
from bot.interfaces.cli import main as cli
from tests.bot.orchestrator import OPERATOR, House, house
from tests.fleet.runtimes.test_kept_sessions import claude

KEY = "sk-ant-api03-" + "x" * 40


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    (tmp_path / "person").mkdir()
    async with house(tmp_path / "house") as found, found.open():
        yield found


async def test_a_shell_lists_conversations_and_a_chat_room_does_not(
    home: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    id_, _ = claude(tmp_path / "person", f"use {KEY}\x1b]0;title\x07 and mend the menu")
    said = await home.ask("!sessions claude")
    assert "cannot be given in chat. Give it in a shell," in said
    assert "menu" not in said
    assert "admin" in await home.ask("!sessions claude", sender=OPERATOR)

    async def muster(*words: str) -> tuple[int, str]:
        client = Client(home.paths.gateway_socket)
        capsys.readouterr()
        status = await asyncio.to_thread(cli.run, sections.load(), list(words), client=lambda: client)
        out = capsys.readouterr()
        return status, out.out + out.err

    status, said = await muster("sessions", "claude")
    assert status == 0
    assert id_ in said
    assert "/home/ana/web" in said
    assert "and mend the menu" in said
    assert KEY not in said
    assert "\x1b" not in said
    status, said = await muster("sessions", "claude", "--json")
    assert [each["id"] for each in json.loads(said)["sessions"]] == [id_]
    assert KEY not in said
    status, said = await muster("sessions", "opencode")
    assert status != 0
    assert "does not know where opencode keeps conversations" in said


async def test_only_an_admin_in_a_shell_lets_an_agent_go_on_in_one(home: House, tmp_path: Path) -> None:
    id_, _ = claude(tmp_path / "person", "hello")
    await home.launch("coder0")
    line = f"!launch coder1 --runtime sim --sandbox none --session {id_}"
    assert "cannot be given in chat. Give it in a shell," in await home.ask(line)
    said = await home.ask(f"!launch coder1 --runtime sim --session {id_}", sender=OPERATOR)
    assert "cannot be given in chat" in said

    async def launch(name: str, session: str) -> str:
        arguments = {"name": name, "runtime": "sim", "sandbox": "none", "session": session}
        answer = await asyncio.to_thread(Client(home.paths.gateway_socket).run, "launch", arguments)
        assert isinstance(answer.body, dict)
        assert answer.body["state"] == "refused"
        return str(answer.body["text"])

    assert "coder0 has a conversation of its own." in await launch("coder0", id_)
    assert "does not know where sim keeps conversations" in await launch("coder1", id_)
    assert await home.known("coder1") is None
