"""The terminal keeps its own transcript: killed at every place of it, what was said stands once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.config.paths import Paths

LIMIT = 30.0
#: Nine of these are more than a transcript may have before it is made smaller.
LONG = "x" * 950_000


@pytest.mark.parametrize(
    "crash",
    [
        "transcript.write.after:3",
        pytest.param("transcript.compact.before", marks=pytest.mark.slow),
        *(
            pytest.param(place, marks=pytest.mark.soak)
            for place in (
                "transcript.write.before",
                "transcript.write.after",
                "transcript.write.before:3",
                "transcript.compact.after",
            )
        ),
    ],
)
async def test_the_terminal_dies_at_every_place(tmp_path: Path, crash: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MUSTER_HOME": str(tmp_path / "home")}
    paths = Paths.of(environment)
    # A transcript that was made smaller has dropped old replies.
    replies = 0 if "compact" in crash else 4
    said = {f"id{number}": LONG if number % 2 else "!whoami" for number in range(18 if "compact" in crash else 4)}
    assert await _run(environment | {"MUSTER_CRASH": crash}, paths, said, replies) == -signal.SIGKILL, (
        f"{crash} was not passed"
    )
    assert await _run(environment, paths, said, replies) == 0
    transcript = paths.connector_folder("terminal") / "transcript.jsonl"
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    ids = Counter(line["id"] for line in lines if "id" in line and line["kind"] != "edit")
    assert [each for each, times in ids.items() if times > 1] == []
    if replies:
        assert [line.get("kind") for line in lines].count("message") == replies


async def _run(environment: dict[str, str], paths: Paths, said: dict[str, str], replies: int) -> int:
    """Start Muster, say everything that it has not taken yet, wait for the answers, stop it; its exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "bot", "up", "--unattended"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    ended = asyncio.create_task(process.wait())
    talking = asyncio.create_task(_talk(paths, said, replies, ended))
    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.wait([talking, ended], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                talking.result()
                process.terminate()
            return await ended
    finally:
        talking.cancel()
        await asyncio.wait([talking])
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await ended


async def _talk(paths: Paths, said: dict[str, str], replies: int, ended: asyncio.Task[int]) -> None:
    """Attach as `muster chat` does; each input has an id, under which it counts once however often it comes."""
    while not ended.done():
        connector = aiohttp.UnixConnector(str(paths.gateway_socket))
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with (
                aiohttp.ClientSession(connector=connector) as http,
                http.ws_connect("http://muster/v1/terminal?after=0", max_msg_size=0) as client,
            ):
                for name, text in said.items():
                    await client.send_json({"type": "say", "id": name, "text": text})
                waiting = set(said)
                heard: set[str] = set()
                async for message in client:
                    line: dict[str, Any] = json.loads(message.data)
                    if line.get("type") == "accepted":
                        waiting.discard(line["id"].removeprefix("said-"))
                    elif line.get("kind") == "message":
                        heard.add(line["id"])
                    if not waiting and len(heard) >= replies:
                        return
        await asyncio.sleep(0.05)
