"""Muster dies while somebody types in its pane of tmux: each command is run once, and answered in the same pane."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.config.paths import Paths
from tests.bot.interfaces.cli.pane import LIMIT, until
from tests.connectors.tmux.server import server_of_ones_own


@pytest.mark.parametrize(
    "crash",
    [
        pytest.param("inbox.accept.after", marks=pytest.mark.slow),
        *(
            pytest.param(place, marks=pytest.mark.soak)
            for place in (
                "inbox.accept.before",
                "command.finish.before",
                "command.finish.after",
                "outbox.send.after",
                "transcript.write.before:2",
                "transcript.write.after:2",
            )
        ),
    ],
)
async def test_what_is_typed_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str) -> None:
    with server_of_ones_own(monkeypatch) as tmux:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "MUSTER_HOME": str(tmp_path / "home"),
            "TMUX_TMPDIR": str(tmux.folder),
        }
        paths = Paths.of(environment)
        paths.prepare()
        paths.muster_yaml.write_text("connectors: {tmux: {}}\n")

        async def types(words: str) -> None:
            await asyncio.to_thread(tmux, "send-keys", "-l", "-t", "=Muster:", words)
            await asyncio.to_thread(tmux, "send-keys", "-t", "=Muster:", "Enter")

        def shown() -> str:
            return tmux.shown("=Muster:")

        async with _up(environment | {"MUSTER_CRASH": crash}) as first:
            await until(lambda: "0 working" in shown(), shown)
            await types("!whoami")
            async with asyncio.timeout(LIMIT):
                assert await first.wait() == -signal.SIGKILL, f"{crash} was not passed"
        await types("!operators")
        await until(lambda: "kept for it" in shown(), shown)
        async with _up(environment):
            await until(lambda: "with the permission admin" in shown() and "runs Muster" in shown(), shown)
            await until(lambda: "0 working" in shown(), shown)
        assert tmux.panes("#{session_name}:#{window_name}") == ["Muster:fleet"]
        transcript = paths.connector_folder("tmux") / "transcript.jsonl"
        lines = [json.loads(line) for line in transcript.read_text().splitlines()]
        assert Counter(line["text"] for line in lines if line.get("kind") == "input") == {"!whoami": 1, "!operators": 1}
        answers = [line["text"] for line in lines if line.get("kind") == "message"]
        assert sum("with the permission admin" in text for text in answers) == 1
        assert sum("runs Muster" in text for text in answers) == 1
        assert list((paths.unsaid / "tmux").iterdir()) == []


@contextlib.asynccontextmanager
async def _up(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "bot", "up", "--unattended"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(LIMIT):
            await process.wait()
