"""The built-in agent, ready to be handed over, and a person's terminal at its agent host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fleet import runtimes, sandbox
from fleet.control.agent_host_client import AgentLink
from fleet.control.terminal_frames import TerminalBytes, TerminalEnd, TerminalSize
from fleet.control.terminal_link import TerminalLink
from fleet.journal.events import TextChunk, TurnEnded
from fleet.launch.model_access import ModelAccount
from fleet.sim.provider.server import Provider
from tests.fleet.host.scripted_agent import LIMIT_S, Agent, until

SIZE = TerminalSize(24, 80)
ENVIRON: Mapping[str, str] = {"TERM": "xterm-256color", "SECRET": "hidden", "LD_PRELOAD": "/bad.so"}


def built_in(folder: Path, provider: Provider, box: str) -> Agent:
    """Return the built-in agent, which asks this provider, as `fleet.launch.host_spec_builder` makes it ready."""
    agent = Agent.make(folder)
    home, workspace = agent.folder / "home", Path(agent.spec.workspace)
    prepared = runtimes.prepare(
        runtimes.RUNTIMES["sim"],
        home=home,
        workspace=workspace,
        model=None,
        account=ModelAccount(name="main", provider="anthropic", base_url=provider.url, secret=lambda: "sk-test"),
        sandboxed=box != "none",
    )
    command, terminal = prepared.command, prepared.terminal
    if box != "none":
        place = {"workspace": workspace, "home": home, "hidden": (agent.folder,)}
        command = sandbox.wrap(prepared, **place)  # type: ignore[arg-type]
        terminal = sandbox.wrap(replace(prepared, command=terminal), **place, terminal=True)  # type: ignore[arg-type]
    environment = {**prepared.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    spec = replace(
        agent.spec,
        runtime="sim",
        sandbox=box,
        command=command,
        terminal=terminal,
        environment=environment,
    )
    return Agent(agent.home, spec)


@dataclass
class Screen:
    """A person's terminal, and all that was printed on it."""

    link: TerminalLink
    printed: str = ""
    end: str | None = None

    async def expect(self, words: str) -> str:
        """Wait until `words` were printed since the last call, and return everything up to them.

        Raises:
            AssertionError: they were not.
        """
        try:
            async with asyncio.timeout(LIMIT_S):
                while words not in self.printed:
                    match await self.link.receive():
                        case TerminalBytes(content):
                            self.printed += content.decode()
                        case TerminalEnd(reason):
                            raise AssertionError(f"{reason} {words!r} is not in {self.printed!r}")
        except TimeoutError:
            raise AssertionError(f"{words!r} is not in {self.printed!r}") from None
        before, found, self.printed = self.printed.partition(words)
        return before + found

    async def type(self, text: str) -> None:
        await self.link.send(TerminalBytes(text.encode()))

    async def ended(self) -> str:
        """Return how it ended, once it has."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                match await self.link.receive():
                    case TerminalBytes(content):
                        self.printed += content.decode()
                    case TerminalEnd(reason):
                        return reason


@contextlib.asynccontextmanager
async def at_terminal(agent: Agent, *, now: bool = False, by: str = "ana") -> AsyncIterator[Screen]:
    """Hand the agent over."""
    async with await TerminalLink.open(agent.spec.socket, by=by, now=now, size=SIZE, environ=ENVIRON) as link:
        yield Screen(link)


async def said(link: AgentLink, agent: Agent, id_: str, text: str) -> str:
    """Send a message, and return what the agent answered."""
    await link.send(id_, text)
    ended = await until(link, TurnEnded, lambda event: event.message == id_)
    assert (ended.stop_reason, ended.detail) == ("end_turn", None)
    return "".join(event.text for event in agent.events(TextChunk) if event.turn == ended.turn)
