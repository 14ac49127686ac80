"""The fleet's room in a pane of a real tmux: the real program, a real gateway and connector, which come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from bot.app import pane_commands
from connectors.contract.agent_count_feed import AgentCounts
from connectors.contract.messages import Message, OpenThread, React
from tests import waiting
from tests.bot.interfaces.cli.pane import LIMIT, Muster, until
from tests.connectors.tmux.server import Server, server_of_ones_own


@pytest.fixture
def tmux(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with server_of_ones_own(monkeypatch) as server:
        yield server


@pytest.fixture
def muster(tmp_path: Path, tmux: Server) -> Muster:
    return Muster(tmp_path, tmux)


async def test_a_person_in_tmux_talks_with_the_fleet(muster: Muster, tmp_path: Path) -> None:
    async with muster.up():
        await muster.at_the_prompt()
        await muster.type("hello")
        await until(lambda: muster.texts == ["hello"])
        # A receipt is behind the words that it is about.
        await muster.say("r1", React(target=muster.heard[0][0], key="📥"))
        await muster.say("r2", React(target=muster.heard[0][0], key="✅"))
        await muster.sees("fleet> hello 📥 ✅")
        muster.headcount.tell(AgentCounts(working=2, waiting=1))
        await muster.sees("2 working, 1 waiting, 0 failed")
        await until(lambda: "2 working, 1 waiting" in muster.tmux("display-message", "-p", "#{T:status-right}")[0])
        await muster.say("th", OpenThread(title="coder0", message=Message(text="coder0 starts")))
        await muster.sees("/switch coder0 to talk there")
        await muster.type("/switch coder0")
        await muster.sees("fleet/coder0>")
        await muster.connector.typing("fleet/coder0", active=True)
        await muster.sees("coder0: busy")
        # What an agent says is shown, and nothing of it obeyed: by the terminal, by tmux, or by a shell.
        ran = tmp_path / "ran"
        hostile = f"\x1b]2;mine\x07\x1bPtmux;\x1b\x1b]2;mine\x07\x1b\\ #(touch {ran}) #{{pid}} 漢字 the end"
        await muster.say("k1", Message(text=hostile), "fleet/coder0")
        seen = await muster.sees("漢字 the end")
        assert "#{pid}" in seen
        assert muster.tmux.panes("#{pane_title}") == ["Muster: 2 working, 1 waiting, 0 failed"]
        assert not ran.exists()


async def test_what_is_typed_while_nobody_listens_counts_once_whoever_dies(muster: Muster) -> None:
    async with muster.up():
        await muster.at_the_prompt()
        await muster.type("first")
        await until(lambda: muster.texts == ["first"])
        muster.unanswered = True
        await muster.type("second")
        await until(lambda: muster.texts == ["first", "second"])
    await muster.sees("Muster is not running; 1 message kept for it")
    await muster.type("third")
    await muster.sees("2 messages kept for it")
    program = await _program(muster)
    os.kill(program, signal.SIGKILL)
    await until(lambda: program not in _children(int(muster.tmux.panes("#{pane_pid}")[0])))
    await _program(muster)
    await muster.sees("Killed")
    pane, muster.unanswered = muster.pane, False
    async with muster.up():
        await muster.say("k1", Message(text="said in between"))
        await until(lambda: muster.texts == ["first", "second", "third"])
        seen = await muster.sees("said in between")
        await muster.sees("third")
        assert "Killed" in seen
        assert muster.pane == pane, "it is the pane that was there"
        folder = muster.paths.unsaid / "tmux"
        await until(lambda: not any(folder.iterdir()))
        await muster.type("fourth")
        await until(lambda: muster.texts == ["first", "second", "third", "fourth"])


async def test_a_pane_of_any_size_in_any_mode_goes_on(muster: Muster) -> None:
    async with muster.up():
        await muster.at_the_prompt()
        for width, height in ((1, 1), (3, 2), (300, 3), (20, 50)):
            muster.tmux("resize-window", "-t", muster.pane, "-x", str(width), "-y", str(height))
            await muster.say(f"k{width}", Message(text=f"漢字 and a long line for {width} columns"))
        muster.tmux("copy-mode", "-t", muster.pane)
        await muster.say("k0", Message(text="while looking back"))
        muster.tmux("send-keys", "-t", muster.pane, "-X", "cancel")
        muster.tmux("resize-window", "-t", muster.pane, "-x", "100", "-y", "30")
        await muster.sees("looking")
        await muster.type("hello")
        await until(lambda: muster.texts == ["hello"])


async def test_a_person_who_closes_the_pane_is_not_fought(muster: Muster) -> None:
    async with muster.up():
        await muster.at_the_prompt()
        muster.tmux.theirs()
        await muster.type("/quit")
        await until(lambda: muster.tmux.panes("#{session_name}") == ["theirs"])
        await waiting.until(muster.connector.health, lambda found: "muster tmux open" in found.detail, limit=LIMIT)
        assert muster.tmux.panes("#{session_name}") == ["theirs"]
        await muster.connector.open()
        await muster.at_the_prompt()
        # The same with the whole server.
        muster.tmux("kill-server")
        await waiting.until(muster.connector.health, lambda found: "muster tmux open" in found.detail, limit=LIMIT)
        assert muster.tmux.panes("#{session_name}") == []


async def test_a_line_that_was_begun_stands_there_again_and_goes_where_it_was_to_go(muster: Muster) -> None:
    async with muster.up():
        await muster.at_the_prompt()
        muster.tmux.theirs()
        await muster.say("th", OpenThread(title="coder0", message=Message(text="coder0 starts")))
        await muster.type("/switch coder0")
        await muster.type("said already")
        await until(lambda: muster.texts == ["said already"])
        muster.tmux("send-keys", "-l", "-t", muster.pane, "half a")
        await muster.sees("fleet/coder0> half a")
        muster.tmux("kill-pane", "-t", muster.pane)
        await muster.reachable(False)
        await muster.connector.open()
        await muster.sees("fleet/coder0> half a")
        await muster.type(" line")
        await until(lambda: muster.texts == ["said already", "half a line"])
        await muster.type("/quit")
        await until(lambda: muster.pane == "")
        await muster.connector.open()
        await muster.at_the_prompt()
        assert "> /quit" not in muster.tmux.shown(muster.pane)


async def test_a_pane_of_a_connector_that_is_gone_closes(muster: Muster) -> None:
    async with muster.up():
        await muster.at_the_prompt()
        muster.tmux.theirs()
    async with muster.up(configured=False):
        await until(lambda: muster.tmux.panes("#{session_name}") == ["theirs"])


@pytest.mark.parametrize(
    "place",
    [
        "unsaid.keep.after",
        "unsaid.drop.before",
        pytest.param("unsaid.keep.before", marks=pytest.mark.slow),
        pytest.param("unsaid.drop.after", marks=pytest.mark.slow),
    ],
)
async def test_what_is_typed_is_heard_once_wherever_its_program_dies(tmp_path: Path, place: str) -> None:
    muster = Muster(tmp_path, None)
    async with muster.up():
        with _at_a_terminal(muster, place) as first:
            await asyncio.to_thread(first.expect, "fleet>")
            first.send("hello\r")
            await asyncio.to_thread(first.expect, pexpect.EOF)
            await asyncio.to_thread(first.wait)
            assert first.signalstatus == signal.SIGKILL, f"{place} was not passed"
        with _at_a_terminal(muster, None) as second:
            await asyncio.to_thread(second.expect, "fleet>")
            second.send("again\r")
            await until(lambda: "again" in muster.texts)
            folder = muster.paths.unsaid / "tmux"
            await until(lambda: not [each for each in folder.iterdir() if each.suffix == ".json"])
    # What was not kept yet was never taken from the person.
    assert muster.texts == (["again"] if place == "unsaid.keep.before" else ["hello", "again"])


@contextlib.contextmanager
def _at_a_terminal(muster: Muster, crash: str | None) -> Iterator[pexpect.spawn[str]]:
    """The program, in a terminal that is no pane."""
    program, *arguments = pane_commands.room(muster.paths, "tmux")
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"}
    if crash is not None:
        environment["MUSTER_CRASH"] = crash
    child = pexpect.spawn(program, arguments, env=environment, encoding="utf-8", dimensions=(40, 120), timeout=LIMIT)
    try:
        yield child
    finally:
        child.close(force=True)


async def _program(muster: Muster) -> int:
    """The process id of the program in the pane, once it runs."""
    shell = int(muster.tmux.panes("#{pane_pid}")[0])
    found: list[int] = []

    def runs() -> bool:
        found[:] = [pid for pid in _children(shell) if b"bot.interfaces.cli.tmux_room_pane" in _command(pid)]
        return bool(found)

    await until(runs)
    return found[0]


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
