"""A whole orchestrator in a test: real register and agent hosts, the built-in runtime and its model provider.

Only the chat system lives in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bot.app.orchestrator import Orchestrator, running
from bot.config.loader import load
from bot.config.paths import Paths
from bot.egress_client.client import EgressClient
from bot.egress_client.in_process import inside
from bot.egress_client.source import EgressSource
from connectors.contract.messages import OpenThread
from connectors.delivery import outbox
from connectors.memory import MemoryConnector, MemoryServer, Said
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.spending import usage_ledger
from database.queries.spending.usage_ledger import GroupUsage
from fleet.sim.provider import server as provider
from fleet.sim.provider.quota_headers import SimQuota
from fleet.sim.provider.request_script import Script
from fleet.sim.provider.server import Provider
from fleet.supervision import host_lifecycle
from tests import waiting

ROOM = "room"
ADMIN = "@ana"
OPERATOR = "@otto"
VIEWER = "@vera"
STRANGER = "@stan"

_SETTINGS = """\
connectors:
  memory: {}
operators:
  memory:@ana: admin
  memory:@otto: operator
  memory:@vera: viewer
"""


def egress_client(orchestrator: Orchestrator) -> EgressClient:
    """The egress as it knows it."""
    assert orchestrator.services.egress_client is not None
    return orchestrator.services.egress_client


@dataclass(slots=True)
class House:
    """What tests hold on to; the orchestrator can be stopped and started again around it."""

    paths: Paths
    chat: MemoryServer
    models: Provider
    egress: EgressSource
    """It lives as long as the house does, as the process would."""
    clock: Callable[[], float] = time.time
    key: str = "sk-test-not-a-real-key"
    others: dict[str, MemoryServer] = field(default_factory=dict)
    """More chat systems, by the names of their connectors, which muster.yaml has to have too."""
    environ: dict[str, str] = field(default_factory=dict)
    """More secrets that muster.yaml refers to."""
    _orchestrator: Orchestrator | None = field(default=None, init=False)

    @property
    def orchestrator(self) -> Orchestrator:
        """The orchestrator, within `open`."""
        assert self._orchestrator is not None, "it does not run"
        return self._orchestrator

    @contextlib.asynccontextmanager
    async def open(self, *, bring_up: bool = False) -> AsyncIterator[Orchestrator]:
        """Run the orchestrator for the length of the block; its agents go on after it."""
        settings = load(self.paths)
        more = {
            name: MemoryConnector(name, server=server) for name, server in {"memory": self.chat, **self.others}.items()
        }
        given = {"KEY": self.key, **self.environ}
        async with running(
            self.paths,
            settings,
            given,
            clock=self.clock,
            connectors=more,
            bring_up=bring_up,
            egress=self.egress,
        ) as orchestrator:
            self._orchestrator = orchestrator
            await waiting.until(
                orchestrator.delivery.health,
                lambda found: all(self._is_down(name) or found[name].reachable for name in more),
            )
            try:
                yield orchestrator
            finally:
                self._orchestrator = None

    def _is_down(self, name: str) -> bool:
        return name in self.others and self.others[name].down

    async def ask(self, text: str, *, sender: str = ADMIN, conversation: str = ROOM) -> str:
        """Write a command and wait for the reply to it."""
        parent = None if conversation == ROOM else ROOM
        event = self.chat.post(text, sender=sender, conversation=conversation, parent=parent)
        return (await self.reply(event)).text

    async def reply(self, event: str) -> Said:
        """The message that answers an event."""

        def answers() -> list[Said]:
            return [said for said in self.chat.said if _answers(said, event)]

        await self.chat.until(answers, limit=30)
        return answers()[0]

    async def launch(self, name: str, *options: str) -> str:
        """Launch an agent and wait until it is ready. Returns its thread."""
        await self.ask(" ".join(["!launch", name, "--runtime", "sim", "--sandbox", "none", *options]))
        thread = await self.thread(name)
        await self.heard(thread, "Ready")
        return thread

    async def heard_from(self, name: str) -> None:
        """Wait until its runtime has answered its host; that it is ready is read from its journal before."""
        await waiting.until(lambda: self.orchestrator.agents.view_of(name), lambda found: found.liveness.healthy)

    async def known(self, name: str) -> AgentRow | None:
        """What the register knows of an agent; None: there is none."""
        async with self.orchestrator.store.read() as tx:
            return await agents.get(tx, name)

    async def row(self, name: str = "coder0") -> AgentRow:
        """What the register knows of an agent that there is."""
        row = await self.known(name)
        assert row is not None
        return row

    async def becomes(self, *states: str, name: str = "coder0") -> AgentRow:
        """What the register knows of an agent, once it is in one of these states."""
        return await waiting.until(lambda: self.row(name), lambda row: row.state in states)

    async def thread(self, name: str) -> str:
        """The conversation of an agent's thread, once it stands."""
        async with self.orchestrator.store.read() as tx:
            row = await agents.get(tx, name)
        assert row is not None
        await self.chat.until(lambda: self.chat.find(row.thread_key), limit=30)
        return await self.opened_by(row.thread_key)

    async def opened_by(self, key: str) -> str:
        """The conversation of the thread that a message of ours opens, once it stands."""
        async with asyncio.timeout(30):
            while True:
                async with self.orchestrator.store.read() as tx:
                    opener = await outbox.get(tx, key)
                if opener is not None and opener.made_conversation is not None:
                    return opener.made_conversation
                await self.orchestrator.delivery.idle()

    async def spent(self, requests: int, *, by: Literal["account"] | None = None) -> list[GroupUsage]:
        """What was used, once so many requests are in the register."""
        async with asyncio.timeout(30):
            while True:
                async with self.orchestrator.store.read() as tx:
                    found = await usage_ledger.spent(tx, by=by, since=0)
                if sum(each.requests for each in found) >= requests:
                    return found
                await asyncio.sleep(0.02)

    async def heard(self, conversation: str, words: str, *, limit: float = 30) -> str:
        """The first message in a conversation that holds `words`."""

        def found() -> list[str]:
            return [text for text in self.chat.texts(conversation) if words in text]

        await self.chat.until(found, limit=limit)
        return found()[0]

    def say(self, text: str, conversation: str, *, sender: str = ADMIN) -> str:
        """Write into a thread. Returns the event id."""
        return self.chat.post(text, sender=sender, conversation=conversation, parent=ROOM)

    async def marks(self, event: str, *marks: str) -> None:
        """Wait until these reactions stand on a message."""
        await self.chat.until(lambda: set(marks) <= set(self.chat.reactions(event)), limit=30)


def _answers(said: Said, event: str) -> bool:
    content = said.content
    if isinstance(content, OpenThread):
        # Until it is known what becomes of a task its thread is opened by other words.
        return content.message.reply_to == event and not said.text.endswith("is in the queue.")
    return getattr(content, "reply_to", None) == event


@contextlib.asynccontextmanager
async def house(
    folder: Path,
    *,
    settings: str = "",
    roster: str = "",
    clock: Callable[[], float] = time.time,
    limits: SimQuota | None = None,
    account: str = "sim: {provider: anthropic, base_url: URL, credential: 'env:KEY'}",
    key: str = "sk-test-not-a-real-key",
    phrases: tuple[tuple[str, str], ...] = (),
) -> AsyncIterator[House]:
    """A house in `folder`, its agents gone at the end.

    Args:
        folder: of the installation.
        settings: added to muster.yaml.
        roster: roster.yaml.
        clock: of everything but the agents' own processes.
        limits: what the provider grants each of its accounts.
        account: the account of muster.yaml; URL stands for the provider's.
        key: its credential.
        phrases: a text, and the directives for messages that contain it.
    """
    paths = Paths.of({"MUSTER_HOME": str(folder), "HOME": str(folder)})
    paths.prepare()
    if roster:
        paths.roster_yaml.write_text(roster)
    orders = Script(limits=limits or SimQuota(), phrases=phrases)
    async with (
        provider.running(provider.SimSettings(script=orders, clock=clock)) as models,
        inside(paths, clock) as egress,
    ):
        accounts = f"accounts:\n  {account}\n".replace("URL", f"'{models.url}'")
        paths.muster_yaml.write_text(_SETTINGS + accounts + settings)
        home = House(paths, MemoryServer(), models, egress, clock, key)
        try:
            yield home
        finally:
            for agent in paths.agents.iterdir():
                await host_lifecycle.kill(agent)
