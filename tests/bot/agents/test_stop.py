"""What an operator is told of agents that are to stop and do not answer."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fleet.supervision import host_lifecycle, host_lock
from tests.bot.orchestrator import ROOM, House, house


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr("bot.agents.service.ANSWER_WITHIN", 1.0)
    async with house(tmp_path) as made:
        yield made


@contextlib.contextmanager
def frozen(home: House, name: str) -> Iterator[None]:
    """For the length of the block, the agent's host holds its lock and does nothing."""
    pid = host_lock.holder(home.paths.agent_folder(name))
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["stop coder0", "stop coder0 --now"])
async def test_an_agent_that_does_not_answer_is_said_not_to_and_stops_once_it_does(home: House, command: str) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        with frozen(home, "coder0"):
            told = await home.ask(f"!{command}")
            assert "does not answer" in told
            assert "kill coder0`" in told
            row = next(line for line in (await home.ask("!ps")).splitlines() if "coder0" in line)
            assert "unknown" in row
            assert re.search(r"process, \d+ s", row)
        await home.heard(thread, "Stopped")
        assert "is stopped already" in await home.ask("!stop coder0")


@pytest.mark.slow
async def test_an_agent_that_did_not_answer_since_muster_came_back_is_said_not_to(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
    with frozen(home, "coder0"):
        async with home.open():
            assert "does not answer" in await home.ask("!stop coder0")
            question = await home.reply(home.chat.post("!kill coder0"))
            home.chat.react(question.event_id, "✅")
            await home.heard(ROOM, "is killed")
            await home.heard(thread, "⏹")
            assert not host_lifecycle.is_running(home.paths.agent_folder("coder0"))
            assert "stopped" in await home.ask("!ps --all")


async def test_one_that_answers_is_stopped_with_a_word(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        assert await home.ask("!stop coder0") == "coder0 stops now."
        await home.heard(thread, "Stopped")


async def test_nobody_is_asked_about_what_could_not_be_done_anyway(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        await home.launch("coder0")
        assert "No agent is called 'nobody'" in await home.ask("!kill nobody")
        assert "No agent of the roster is called 'nobody'" in await home.ask("!remove nobody")
        assert "No limit was set by command for `agent:nobody`" in await home.ask("!budget clear agent:nobody")
        for line in (
            "freeze nobody",
            "cutoff nobody",
            "restore nobody",
            "stop nobody",
            "restart nobody",
            "cancel nobody",
        ):
            assert "No agent is called 'nobody'" in await home.ask(f"!{line}")
        assert "nobody" in await home.ask("!task close nobody")
        assert "Nothing of yours waits" in await home.ask("!confirm")
        assert "cannot be undone" in await home.ask("!kill coder0")
        assert "is killed" in await home.ask("!confirm")
