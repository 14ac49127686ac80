"""An admin in a shell goes on with an agent's conversation in its own terminal program, and everybody sees that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pexpect
import pytest

from bot.api_client import Client
from bot.interfaces.cli.terminal.handover import ANSWER, ASK, RESET
from tests import waiting
from tests.bot.orchestrator import OPERATOR, House, house

LIMIT_S = 60

T = TypeVar("T")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as found:
        yield found


def shell(home: House, *words: str) -> pexpect.spawn[str]:
    """Return `muster handover coder0` in a terminal of its own."""
    environ = {"MUSTER_HOME": str(home.paths.config), "HOME": str(home.paths.config), "TERM": "xterm"}
    line = ["-P", "-m", "bot", "handover", "coder0", *words]
    child: pexpect.spawn[str] = pexpect.spawn(
        sys.executable,
        line,
        timeout=LIMIT_S,
        encoding="utf-8",
        env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        dimensions=(30, 90),
    )
    child.delaybeforesend = None
    return child


@contextlib.contextmanager
def closing(child: pexpect.spawn[str]) -> Iterator[None]:
    try:
        yield
    finally:
        child.close(force=True)


async def apart(act: Callable[[], T]) -> T:
    """Talk to the terminal in a thread of its own, since Muster runs in this one."""
    return await asyncio.to_thread(act)


async def begun(home: House, sandbox: str = "none") -> str:
    """Launch an agent and let it begin a conversation, and return its thread."""
    await home.ask(f"!launch coder0 --runtime sim --sandbox {sandbox}")
    thread = await home.thread("coder0")
    await home.heard(thread, "Ready")
    await home.marks(home.say("Good morning.", thread), "✅")
    return thread


async def detail(home: House) -> str:
    return (await home.orchestrator.agents.view_of("coder0")).liveness.detail or ""


async def test_a_person_talks_in_the_terminal_and_everybody_sees_that(home: House) -> None:
    async with home.open():
        thread = await begun(home)
        first = home.say("Remember apple.", thread)
        await home.marks(first, "✅")
        child = shell(home)
        with closing(child):
            before = termios.tcgetattr(child.child_fd)
            await apart(lambda: child.expect("Remember apple"))
            await apart(lambda: child.expect("/quit leaves"))
            assert "What you write waits" in await home.heard(thread, "is handed over to a terminal by terminal:")
            await waiting.until(lambda: home.orchestrator.agents.handed_to("coder0"))
            assert (await detail(home)).startswith("handed over to a terminal by terminal:")
            assert "handed over to" in await home.ask("!ps")
            waits = home.say("What now?", thread)
            await home.chat.until(lambda: "📥" in home.chat.reactions(waits), limit=30)
            assert "has coder0 in a terminal already" in await refusal(home)
            child.setwinsize(41, 101)
            await apart(lambda: child.expect(r"\[41 rows, 101 columns\]"))
            child.send("Remember pear.\r")
            await apart(lambda: child.expect("You said: Remember pear."))
            assert "✅" not in home.chat.reactions(waits)
            child.send("/quit\r")
            await apart(lambda: child.expect("coder0 goes on under Muster"))
            await apart(lambda: child.expect(pexpect.EOF))
            assert termios.tcgetattr(child.child_fd) == before
            child.close()
            assert child.exitstatus == 0
        await home.heard(thread, "is given back by the terminal of terminal:")
        await home.marks(waits, "✅")
        audit = await home.ask("!audit")
        for words in ("handover name=coder0", "handover begins", "handover ends"):
            assert words in audit
        stored = next((home.paths.agents / "coder0" / "home" / ".muster-sim" / "sessions").glob("*.json")).read_text()
        assert stored.index("apple") < stored.index("pear") < stored.index("What now?")


async def refusal(home: House, **arguments: object) -> str:
    """Return what the gateway answers to a `handover` that it refuses."""
    answer = await asyncio.to_thread(Client(home.paths.gateway_socket).run, "handover", {"name": "coder0", **arguments})
    assert answer.body["state"] == "refused"
    return str(answer.body["text"])


async def test_what_the_terminal_answers_to_the_program_is_typed_into_no_shell(home: House) -> None:
    async with home.open():
        await begun(home)
        child = shell(home)
        with closing(child):
            await apart(lambda: child.expect("/quit leaves"))
            child.send("/quit\r")
            # A sequence that the program did not end would swallow the reset and the prompt of the shell.
            await apart(lambda: child.expect_exact(RESET.decode()))
            assert RESET.startswith(b"\x18")
            await apart(lambda: child.expect_exact(ASK.decode()))
            # The terminal is late: these are its answers to what the program asked before.
            child.send(f"{ANSWER.decode()}\x1b]lrm -rf /\x1b\\\x1b[24;80R")
            assert termios.tcgetattr(child.child_fd)[3] & termios.ECHO == 0, "it is still raw"
            child.send(ANSWER.decode())
            await apart(lambda: child.expect("goes on under Muster"))
            await apart(lambda: child.expect(pexpect.EOF))
            assert "rm -rf" not in str(child.before)


async def test_a_killed_shell_gives_the_agent_back(home: House) -> None:
    async with home.open():
        thread = await begun(home)
        child = shell(home)
        with closing(child):
            await apart(lambda: child.expect("/quit leaves"))
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            await home.heard(thread, "The terminal was closed.")
        asked = home.say("Are you there?", thread)
        await home.marks(asked, "✅")


async def test_a_handover_outlives_the_orchestrator(home: House) -> None:
    async with home.open():
        thread = await begun(home)
        child = shell(home)
        await apart(lambda: child.expect("/quit leaves"))
    with closing(child):
        child.send("Is anybody there?\r")
        await apart(lambda: child.expect("You said: Is anybody there?"))
        async with home.open():
            await waiting.until(lambda: home.orchestrator.agents.handed_to("coder0"))
            child.send("/quit\r")
            await apart(lambda: child.expect("goes on under Muster"))
            await home.heard(thread, "is given back by the terminal of")
            asked = home.say("Are you there?", thread)
            await home.marks(asked, "✅")


async def test_a_shell_says_that_the_agent_host_went_away_and_restores_the_terminal(home: House) -> None:
    async with home.open():
        await begun(home)
        child = shell(home)
        with closing(child):
            before = termios.tcgetattr(child.child_fd)
            await apart(lambda: child.expect("/quit leaves"))
            link = home.orchestrator.agents.link("coder0")
            assert link is not None
            os.kill(link.hello.pid, signal.SIGKILL)
            await apart(lambda: child.expect("went away"))
            await apart(lambda: child.expect(pexpect.EOF))
            assert termios.tcgetattr(child.child_fd) == before
            child.close()
            assert child.exitstatus == 1


async def test_freezing_now_ends_the_program(home: House) -> None:
    async with home.open():
        thread = await begun(home)
        child = shell(home)
        with closing(child):
            await apart(lambda: child.expect("/quit leaves"))
            await waiting.until(lambda: home.orchestrator.agents.handed_to("coder0"))
            assert "gives it back" in await home.ask("!freeze coder0")
            await home.ask("!freeze coder0 --now")
            await apart(lambda: child.expect("The agent was told to end"))
        await home.heard(thread, "❄️ Frozen")
        assert "does not run" in await refusal(home)


async def test_what_cannot_be_handed_over_is_refused_and_stays_as_it_is(home: House) -> None:
    async with home.open():
        thread = await begun(home)
        assert "cannot be given in chat" in await home.ask("!handover coder0")
        assert "admin" in await home.ask("!handover coder0", sender=OPERATOR)
        await home.ask("!cutoff coder0")
        assert "it is cut off" in await refusal(home)
        await home.ask("!restore coder0")
        home.say("[[wait: gate]]", thread)
        await waiting.until(lambda: home.orchestrator.agents.turn_of("coder0"))
        assert "works on a turn" in await refusal(home)
        child = shell(home, "--now")
        with closing(child):
            await apart(lambda: child.expect("/quit leaves"))
        await home.heard(thread, "The turn was cancelled")


async def test_without_a_terminal_nothing_is_handed_over(home: House) -> None:
    async with home.open():
        await begun(home)
        environ = {**os.environ, "MUSTER_HOME": str(home.paths.config), "PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "bot", "handover", "coder0"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
        )
        _, error = await process.communicate()
        assert process.returncode == 1
        assert b"A handover needs a terminal" in error
        assert home.orchestrator.agents.handed_to("coder0") is None


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
async def test_the_terminal_has_the_agents_sandbox_and_egress_and_is_cut_off_with_it(home: House) -> None:
    async with home.open():
        await begun(home, "bubblewrap")
        child = shell(home)
        with closing(child):
            await apart(lambda: child.expect("/quit leaves"))
            child.send("Remember pear.\r")
            await apart(lambda: child.expect("You said: Remember pear."))
            # It has no network but the egress.
            assert [entry.text for entry in home.models.ledger.entries] == ["Good morning.", "Remember pear."]
            child.send(f"[[run: cat {home.paths.muster_yaml}]]\r")
            await apart(lambda: child.expect(r"\[y/N\]"))
            child.send("y\r")
            await apart(lambda: child.expect("No such file"))
            await apart(lambda: child.expect("you> "))
            await home.ask("!cutoff coder0")
            child.send("Still there?\r")
            await apart(lambda: child.expect("cut off"))
            child.send("/quit\r")
            await apart(lambda: child.expect("goes on under Muster"))
