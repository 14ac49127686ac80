"""The gateway answers from the first moment, although its server is loaded only when somebody connects."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from bot.api_client import Client
from tests.bot.orchestrator import house


async def test_a_request_that_comes_at_once_is_answered(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        socket = home.paths.gateway_socket
        answer = await asyncio.to_thread(Client(socket).run, "whoami", {})
        assert answer.status == 200
        assert "admin" in json.dumps(answer.body)
        assert socket.exists()
    assert not socket.exists(), "the socket goes with Muster"


def test_muster_starts_without_what_only_its_gateway_needs() -> None:
    """`muster up` imports this before its first answer. Each of these takes 40 to 200 ms."""
    code = "import sys, bot.app.foreground; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    late = {"aiohttp", "discord", "genai_prices", "httpx2", "nio", "prompt_toolkit", "sqlalchemy.dialects.postgresql"}
    assert late & set(run.stdout.split()) == set()
