"""Real agents in their own terminal programs, through Muster's agent host, its sandbox and its egress."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.control.terminal_frames import TerminalBytes, TerminalEnd, TerminalSize
from fleet.control.terminal_link import TerminalLink
from fleet.errors import AgentRefused
from fleet.journal.events import HandedBack, PermissionAsked, RuntimeStarted
from tests.agents import hostile
from tests.agents.test_real_agents import ASKING, LIMIT_S, PROGRAMS, Real, allow, until

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]

#: Sequences that move the cursor, color, and set modes (ECMA-48), and titles.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[@-Z\\-_78()].?")
#: What each asks at first, if it does, what it shows before it takes words, and how one leaves it.
TRUST = {"claude": "Yes,Itrustthisfolder", "codex": "Openrestricted"}
READY = {"claude": "forshortcuts", "codex": "Goodmorning.", "opencode": "Yousaid:Goodmorning.", "pi": "Goodmorning."}
LEAVE = {"claude": "/exit", "codex": "/quit", "opencode": "/exit", "pi": "/quit"}
_AGAIN_S = 3.0
_SIZES = (TerminalSize(40, 120), TerminalSize(40, 119))


class Page:
    """What a person has read of a program, without where it stands: programs move the cursor over spaces."""

    def __init__(self, link: TerminalLink) -> None:
        self._link = link
        self._printed = ""
        self._resized = 0

    async def enter_until(self, words: str) -> None:
        """Press Enter until `words` are shown: a program that is just starting may drop a key.

        Raises:
            AssertionError: they were not shown.
        """
        for _ in range(int(LIMIT_S / _AGAIN_S)):
            await self.type("\r")
            try:
                return await self.shows(words, within=_AGAIN_S)
            except TimeoutError:
                continue
        raise AssertionError(f"{words!r} is not in {self._printed!r}")

    async def shows(self, words: str, *, within: float | None = None) -> None:
        """Wait until `words` were shown since the last that were.

        Args:
            words: without spaces.
            within: seconds.

        Raises:
            AssertionError: they were not, or TimeoutError if that many seconds were given.
        """
        again = asyncio.create_task(self._draw_again())
        try:
            async with asyncio.timeout(within or LIMIT_S):
                while words not in (seen := self._seen()):
                    match await self._link.receive():
                        case TerminalBytes(content):
                            self._printed += content.decode(errors="replace")
                        case TerminalEnd(reason):
                            raise AssertionError(f"{reason} {words!r} is not in {seen!r}")
        except TimeoutError:
            if within is not None:
                raise
            raise AssertionError(f"{words!r} is not in {self._seen()!r}") from None
        finally:
            again.cancel()
        self._printed = ""

    def _seen(self) -> str:
        return "".join(_SEQUENCE.sub("", self._printed).split())

    async def _draw_again(self) -> None:
        """Have the program draw all of its page, as it does for another size, and not only what changed."""
        while True:
            await asyncio.sleep(_AGAIN_S)
            self._resized += 1
            await self._link.send(_SIZES[self._resized % 2])

    async def type(self, keys: str) -> None:
        await self._link.send(TerminalBytes(keys.encode()))

    async def write(self, words: str) -> None:
        """Write a line. Enter comes once the words are there: together they would be a paste."""
        await self.type(words)
        await self.shows("".join(words.split()))
        await self.type("\r")

    async def ended(self) -> str:
        async with asyncio.timeout(LIMIT_S):
            while True:
                match await self._link.receive():
                    case TerminalEnd(reason):
                        return reason


@contextlib.asynccontextmanager
async def at_terminal(real: Real) -> AsyncIterator[Page]:
    """Hand the agent over to a person, who leaves the program at the end."""
    environ = {"TERM": "xterm-256color"}
    async with await TerminalLink.open(
        real.agent.spec.socket, by="ana", now=False, size=_SIZES[0], environ=environ
    ) as terminal:
        page = Page(terminal)
        if real.name in TRUST:
            await page.shows(TRUST[real.name])
            await page.enter_until(READY[real.name])
        else:
            await page.shows(READY[real.name])
        yield page
        await page.write(LEAVE[real.name])
        assert "exit code 0" in await page.ended()


async def test_what_was_said_in_the_terminal_is_known_to_the_agent_afterwards(real: Real, tmp_path: Path) -> None:
    # A hostile repository runs nothing there, either.
    hostile.repository(real.workspace, tmp_path / "outside")
    if real.name == "opencode":
        hostile.remove_plugins(real.workspace)
    async with real.running() as link:
        await real.turn(link, "Good morning.")
        async with at_terminal(real) as page:
            await page.write("Remember pear.")
            await page.shows("Yousaid:Rememberpear.")
        await until(link, HandedBack)
        assert "You said: And now?" in await real.turn(link, "And now?")
    first, second = real.agent.events(RuntimeStarted)
    assert (second.session, second.loaded) == (first.session, True)
    spoken = {entry.text: entry.spoken for entry in real.provider.ledger.entries if entry.tools}
    assert (spoken["Good morning."], spoken["Remember pear."], spoken["And now?"]) == (1, 2, 3)
    assert hostile.traces_in(real.workspace, tmp_path / "outside") == []


@pytest.mark.parametrize("name", ["opencode"], indirect=True)
async def test_what_is_allowed_or_chosen_in_the_terminal_ends_with_it(real: Real) -> None:
    async with real.running() as link:
        await real.turn(link, "Good morning.")
        async with at_terminal(real) as page:
            await page.write(ASKING["opencode"])
            await page.shows("Allowalways")
            await page.type("\x1b[C")
            await page.enter_until("untilOpenCodeisrestarted")
            await page.enter_until("bashreturned:itismade")
            # Its mode that only plans, in which nothing can be written, ends with the program as well.
            await page.type("\t")
            await page.write("Remember pear.")
            await page.shows("Plan·")
            await page.shows("Yousaid:Rememberpear.")
        (real.workspace / "made").unlink()
        message = await real.send(link, ASKING["opencode"])
        await allow(link, await until(link, PermissionAsked))
        assert (await real.ended(link, message)).stop_reason == "end_turn"
        message = await real.send(link, f'[[tool: write {{"filePath": "{real.workspace}/new", "content": "x"}}]]')
        await allow(link, await until(link, PermissionAsked, lambda asked: "new" in asked.detail))
        assert (await real.ended(link, message)).stop_reason == "end_turn"
        assert (real.workspace / "new").exists()


@pytest.mark.parametrize("name", ["opencode"], indirect=True)
async def test_what_an_agent_left_for_its_next_start_is_not_run_in_the_terminal(real: Real, tmp_path: Path) -> None:
    async with real.running() as link:
        await real.turn(link, "Good morning.")
        hostile.repository(real.workspace, tmp_path / "outside")
        with pytest.raises(AgentRefused, match=r"look at .*/\.opencode/plugin") as refusal:
            async with at_terminal(real):
                pass
        assert refusal.value.refusal == "terminal_failed"
        assert "You said: Good day." in await real.turn(link, "Good day.")
        hostile.remove_plugins(real.workspace)
        hostile.granting(real.home, real.workspace)
        async with at_terminal(real):
            pass
        await real.turn(link, "Good night.")
    assert hostile.traces_in(real.workspace, tmp_path / "outside") == []
