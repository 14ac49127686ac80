"""Agents for tests: a specification that runs the scripted runtime, its agent host as a real process, what it did."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fleet.control.agent_host_client import AgentLink, HostStatus
from fleet.control.host_spec import AgentSpec
from fleet.journal import reader
from fleet.journal.events import JournalEntry, JournalPosition
from fleet.supervision import host_lifecycle, process_sweep
from tests import waiting

SCRIPTED = Path(__file__).parents[1] / "runtimes" / "scripted.py"
LIMIT_S = 30.0
START = JournalPosition()

E = TypeVar("E")


@dataclass
class Agent:
    """One agent's folder, through all its starts."""

    home: Path
    spec: AgentSpec
    seen: list[JournalEntry] = field(default_factory=list)

    @classmethod
    def make(cls, home: Path, scenario: str = "good", **changes: Any) -> Agent:
        folder, workspace = home / "agent", home / "workspace"
        folder.mkdir(mode=0o700, parents=True)
        (folder / "home").mkdir(mode=0o700)
        workspace.mkdir()
        spec = AgentSpec(
            agent="coder0",
            role="coder",
            runtime="scripted",
            model=None,
            launch_id="l0",
            marker=secrets.token_hex(8),
            folder=str(folder),
            socket=str(home / "s"),
            workspace=str(workspace),
            sandbox="none",
            command=(sys.executable, "-S", str(SCRIPTED), scenario),
            environment={"PATH": os.environ["PATH"], "RECORD": str(home / "record.jsonl")},
            cwd=str(workspace),
            initialize_timeout_s=20,
            heartbeat_s=0.2,
        )
        return cls(home, replace(spec, **changes))

    @property
    def folder(self) -> Path:
        return Path(self.spec.folder)

    def launch(self, scenario: str | None = None, **changes: Any) -> AgentSpec:
        """The specification of the next start."""
        if scenario is not None:
            changes["command"] = (*self.spec.command[:-1], scenario)
        number = int(self.spec.launch_id[1:]) + 1
        self.spec = replace(self.spec, launch_id=f"l{number}", marker=secrets.token_hex(8), **changes)
        return self.spec

    @contextlib.asynccontextmanager
    async def running(self, scenario: str | None = None, **changes: Any) -> AsyncIterator[AgentLink]:
        """A started agent host, which is gone to its last process afterwards."""
        await host_lifecycle.spawn(self.launch(scenario, **changes))
        try:
            async with await AgentLink.connect(self.spec.socket) as link:
                yield link
        finally:
            await host_lifecycle.kill(self.folder)

    def entries(self) -> list[JournalEntry]:
        return [entry for page in reader.pages(self.folder, JournalPosition()) for entry in page]

    def events(self, kind: type[E]) -> list[E]:
        return [entry.event for entry in self.entries() if isinstance(entry.event, kind)]

    def record(self) -> list[dict[str, Any]]:
        """What the runtime says that it was given."""
        path = self.home / "record.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def prompts(self) -> list[str]:
        """The last text of every prompt that a runtime got."""
        return [item["prompt"][-1] for item in self.record() if "prompt" in item]

    def left_over(self) -> list[int]:
        return process_sweep.survivors(self.spec.marker)


async def until(
    link: AgentLink,
    kind: type[E],
    found: Callable[[E], bool] = lambda _: True,
    after: JournalPosition = START,
    limit: float = LIMIT_S,
) -> E:
    """The first event of this kind after a position that `found` accepts."""
    return (await entry_when(link, kind, found, after, limit))[1]


async def entry_when(
    link: AgentLink,
    kind: type[E],
    found: Callable[[E], bool] = lambda _: True,
    after: JournalPosition = START,
    limit: float = LIMIT_S,
) -> tuple[JournalEntry, E]:
    async with asyncio.timeout(limit):
        stream = link.follow(after)
        async with contextlib.aclosing(stream):  # type: ignore[type-var]
            async for item in stream:
                if isinstance(item, JournalEntry) and isinstance(item.event, kind) and found(item.event):
                    return item, item.event
    raise AssertionError(f"the agent host ended before there was such a {kind.__name__}")


async def status_when(link: AgentLink, found: Callable[[HostStatus], bool]) -> HostStatus:
    """The first status that `found` accepts."""
    async with asyncio.timeout(LIMIT_S):
        stream = link.follow((await link.status()).position)
        async with contextlib.aclosing(stream):  # type: ignore[type-var]
            async for item in stream:
                if isinstance(item, HostStatus) and found(item):
                    return item
    raise AssertionError("the agent host ended before that was so")


async def gone(agent: Agent) -> None:
    """Wait until the agent host is gone."""
    await waiting.until(lambda: not host_lifecycle.is_running(agent.folder), limit=LIMIT_S)
