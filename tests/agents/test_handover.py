"""Claude Code and Codex in their own terminal programs, through Muster's agent host, its sandbox and its egress."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.control.terminal_frames import TerminalBytes, TerminalEnd, TerminalSize
from fleet.control.terminal_link import TerminalLink
from fleet.journal.events import HandedBack, RuntimeStarted
from tests.agents import hostile
from tests.agents.test_real_agents import LIMIT_S, PROGRAMS, Real, agent_of, until

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]

#: Sequences that move the cursor, color, and set modes (ECMA-48), and titles.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[@-Z\\-_78()].?")
#: What each shows before it takes words, when it was asked nothing yet, and how one leaves it.
TRUST = {"claude": "Yes,Itrustthisfolder", "codex": "Openrestricted"}
READY = {"claude": "forshortcuts", "codex": "Goodmorning."}
_AGAIN_S = 3.0
LEAVE = {"claude": "/exit", "codex": "/quit"}


class Page:
    """What a person has read of a program, without where it stands: programs move the cursor over spaces."""

    def __init__(self, link: TerminalLink) -> None:
        self._link = link
        self._printed = ""

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
        seen = ""
        try:
            async with asyncio.timeout(within or LIMIT_S):
                while words not in (seen := "".join(_SEQUENCE.sub("", self._printed).split())):
                    match await self._link.receive():
                        case TerminalBytes(content):
                            self._printed += content.decode(errors="replace")
                        case TerminalEnd(reason):
                            raise AssertionError(f"{reason} {words!r} is not in {seen!r}")
        except TimeoutError:
            if within is not None:
                raise
            raise AssertionError(f"{words!r} is not in {seen!r}") from None
        self._printed = ""

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


@pytest.fixture(params=["bubblewrap", "none"])
async def real(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Real]:
    if request.param == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    name = request.getfixturevalue("name")
    async with agent_of(name, request.param, tmp_path) as real:
        yield real
        await real.audited()


@pytest.mark.parametrize("name", ["claude", "codex"])
async def test_what_was_said_in_the_terminal_is_known_to_the_agent_afterwards(
    real: Real, name: str, tmp_path: Path
) -> None:
    # A hostile repository runs nothing there, either.
    hostile.repository(real.workspace, tmp_path / "outside")
    async with real.running() as link:
        await real.turn(link, "Good morning.")
        size, environ = TerminalSize(40, 120), {"TERM": "xterm-256color"}
        async with await TerminalLink.open(
            real.agent.spec.socket, by="ana", now=False, size=size, environ=environ
        ) as terminal:
            page = Page(terminal)
            await page.shows(TRUST[name])
            await page.enter_until(READY[name])
            await page.write("Remember pear.")
            await page.shows("Yousaid:Rememberpear.")
            await page.write(LEAVE[name])
            assert "exit code 0" in await page.ended()
        await until(link, HandedBack)
        assert "You said: And now?" in await real.turn(link, "And now?")
    first, second = real.agent.events(RuntimeStarted)
    assert (second.session, second.loaded) == (first.session, True)
    spoken = {entry.text: entry.spoken for entry in real.provider.ledger.entries if entry.tools}
    assert (spoken["Good morning."], spoken["Remember pear."], spoken["And now?"]) == (1, 2, 3)
    traces = [path for place in (real.workspace, tmp_path / "outside") for path in place.rglob(f"{hostile.TRACE}*")]
    assert traces == []
