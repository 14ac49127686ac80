"""`muster chat` against a real gateway and a real terminal connector, which come and go."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.auth.permissions import Operators
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable
from bot.config.paths import Paths
from bot.interfaces.api.server import Gateway
from bot.interfaces.cli.terminal import chat_client
from bot.interfaces.cli.terminal.chat_client import NoSuchConnector, NotSaid, RemoteTerminal
from bot.messaging.event_hub import EventHub
from bot.reports.services import ReportServices
from bot.text.errors import NotRunning
from connectors.contract.connector_protocol import NotReady
from connectors.contract.connector_registry import NoSettings
from connectors.contract.messages import Batch, Message, OpenThread, Outbound, OutboundContent, Text
from connectors.terminal.connector import TerminalConnector
from connectors.terminal.pending_input import Typed, Unsaid
from connectors.terminal.transcript_file import TranscriptLine
from core import unix_sockets
from core.errors import MusterError
from database.engine.store import Store
from tests import waiting


class Muster:
    """A gateway with a terminal behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "gateway.sock"
        self.heard: list[tuple[str, str, str]] = []
        self.deaf = False
        self.unready = False
        self.refused = 0
        self.terminal: TerminalConnector

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Muster]:
        self.terminal = TerminalConnector("terminal", NoSettings(), self.folder)
        self.terminal.subscribe(self._accept)
        store = await Store.open(f"sqlite:///{self.folder}/register.db")
        services = ReportServices(
            clock=lambda: 0.0,
            store=store,
            table=CommandTable(),
            operators=Operators(store, {}),
            events=EventHub(),
            complete=_agents,
            terminal=self.terminal,
        )
        executor = Executor(services)
        gateway = Gateway(services, executor, self.socket)
        await gateway.start()
        try:
            yield self
        finally:
            await gateway.stop()
            await executor.stop()
            await store.close()

    async def _accept(self, batch: Batch) -> None:
        if self.unready:
            self.refused += 1
            raise NotReady("Muster is still starting.")
        for event in batch.events:
            assert isinstance(event.body, Text)
            self.heard.append((event.event_id, event.conversation, event.body.text))
        if self.deaf:
            await asyncio.Event().wait()

    async def say(self, key: str, content: OutboundContent) -> None:
        outbound = Outbound(key=key, connector="terminal", conversation="fleet", content=content)
        await self.terminal.send(outbound, conversation="fleet", target=None)


async def _agents(source: str) -> list[str]:
    return {"agents": ["coder0"]}.get(source, [])


@pytest.fixture
def muster(tmp_path: Path) -> Muster:
    return Muster(tmp_path)


async def until(link: AsyncIterator[TranscriptLine], text: str) -> list[str]:
    said: list[str] = []
    async with asyncio.timeout(20):
        while not said or said[-1] != text:
            said.append((await anext(link)).text)
    return said


async def test_words_go_both_ways(muster: Muster) -> None:
    async with muster.up(), RemoteTerminal(muster.socket).attached() as link:
        await link.say("hello", conversation="fleet")
        await muster.say("k1", Message(text="good morning"))
        assert await until(link, "good morning") == ["hello", "good morning"]
    assert [text for _, _, text in muster.heard] == ["hello"]


async def test_threads_can_be_talked_in(muster: Muster) -> None:
    async with muster.up(), RemoteTerminal(muster.socket).attached() as link:
        await muster.say("th", OpenThread(title="coder0", message=Message(text="coder0 starts")))
        await until(link, "coder0 starts")
        assert link.conversations() == ["fleet", "fleet/coder0"]
        await link.say("hello", conversation="fleet/coder0")
        with pytest.raises(NotSaid, match="no conversation 'fleet/nobody'"):
            await link.say("hello", conversation="fleet/nobody")
    assert muster.heard[0][1] == "fleet/coder0"


async def test_a_restart_is_bridged_and_nothing_is_shown_twice(muster: Muster) -> None:
    async with muster.up():
        attached = RemoteTerminal(muster.socket).attached()
        link = await attached.__aenter__()
        await muster.say("k1", Message(text="before"))
        await until(link, "before")
    async with muster.up():
        await muster.say("k2", Message(text="after"))
        assert await until(link, "after") == ["after"]
        await attached.__aexit__(None, None, None)


async def test_what_was_typed_when_muster_went_down_counts_once(muster: Muster) -> None:
    async with muster.up():
        muster.deaf = True
        attached = RemoteTerminal(muster.socket).attached()
        link = await attached.__aenter__()
        saying = asyncio.ensure_future(link.say("!ps", conversation="fleet"))
        await waiting.until(lambda: muster.heard, limit=10)
    muster.deaf = False
    async with muster.up(), asyncio.timeout(20):
        await saying
        await attached.__aexit__(None, None, None)
    assert len({event_id for event_id, _, _ in muster.heard}) == 1
    assert len(muster.heard) == 2


async def test_nobody_listens(muster: Muster) -> None:
    with pytest.raises(NotRunning):
        async with RemoteTerminal(muster.socket).attached():
            pass
    with pytest.raises(NotRunning):
        await chat_client.chat(Paths(config=muster.folder, state=muster.folder, sockets=muster.folder))


async def test_muster_that_stays_away_ends_the_conversation(muster: Muster) -> None:
    terminal = RemoteTerminal(muster.socket, retry_for=0.0)
    async with muster.up():
        attached = terminal.attached()
        link = await attached.__aenter__()
    async with asyncio.timeout(20):
        assert [line async for line in link] == []
    with pytest.raises(NotSaid, match="not running any more"):
        await link.say("hello", conversation="fleet")
    await attached.__aexit__(None, None, None)
    assert isinstance(terminal.lost, NotRunning)


async def test_the_end_of_a_pipe_waits_until_nothing_more_is_said(muster: Muster) -> None:
    terminal = RemoteTerminal(muster.socket)
    async with muster.up(), terminal.attached() as link:
        await muster.terminal.typing("fleet/coder0", active=True)
        while not link.working:
            await link.news.wait()
        waiting = asyncio.ensure_future(terminal.until_quiet(0.05))
        await muster.say("k1", Message(text="the end"))
        await until(link, "the end")
        assert not waiting.done()
        await muster.terminal.typing("fleet/coder0", active=False)
        async with asyncio.timeout(10):
            await waiting


async def test_completion_knows_commands_and_agents(muster: Muster) -> None:
    terminal = RemoteTerminal(muster.socket)
    async with muster.up(), terminal.attached():
        assert "!launch" in await terminal.complete("!la")
        assert await terminal.complete("!stop co") == ["coder0"]


async def test_a_socket_that_is_none_is_not_talked_to(muster: Muster) -> None:
    muster.socket.write_text("")
    with pytest.raises(MusterError, match="not a socket of yours"):
        await chat_client.chat(Paths(config=muster.folder, state=muster.folder, sockets=muster.folder))


async def test_with_a_place_for_it_nobody_waits_for_muster(muster: Muster) -> None:
    unsaid = Unsaid(muster.folder / "unsaid")
    terminal = RemoteTerminal(muster.socket, retry_for=math.inf, unsaid=unsaid)
    async with terminal.attached() as link:
        for text in ("one", "two"):
            await link.say(text, conversation="fleet")
        assert terminal.standing() == "Muster is not running; 2 messages kept for it"
        async with muster.up():
            await until(link, "two")
            assert [text for _, _, text in muster.heard] == ["one", "two"]
            await waiting.until(lambda: not unsaid.all(), limit=10)
            assert terminal.standing() == ""


async def test_what_muster_never_takes_is_shown_and_not_said_again(muster: Muster) -> None:
    unsaid = Unsaid(muster.folder / "unsaid")
    terminal = RemoteTerminal(muster.socket, unsaid=unsaid)
    async with muster.up(), terminal.attached() as link:
        await link.say("hello", conversation="fleet/nobody")
        async with asyncio.timeout(10):
            while "[not sent: There is no conversation" not in (text := (await anext(link)).text):
                pass
        assert text.endswith("]\nhello"), "the words are there to be said elsewhere"
        assert unsaid.all() == []


async def test_what_muster_cannot_take_yet_is_said_again(muster: Muster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_client, "SAY_AGAIN_S", 0.01)
    unsaid = Unsaid(muster.folder / "unsaid")
    terminal = RemoteTerminal(muster.socket, unsaid=unsaid)
    async with muster.up(), terminal.attached() as link:
        muster.unready = True
        await link.say("hello", conversation="fleet")
        await waiting.until(lambda: muster.refused >= 2, limit=10)
        assert [each.text for each in unsaid.all()] == ["hello"]
        assert muster.heard == []
        muster.unready = False
        await until(link, "hello")


async def test_where_nothing_can_be_written_it_is_said_all_the_same(muster: Muster) -> None:
    unsaid = Unsaid(muster.folder / "unsaid")
    terminal = RemoteTerminal(muster.socket, unsaid=unsaid)
    async with muster.up(), terminal.attached() as link:
        (muster.folder / "unsaid").rmdir()
        await link.say("hello", conversation="fleet")
        assert [text for _, _, text in muster.heard] == ["hello"]


async def test_nothing_is_said_to_another_users_muster(muster: Muster, monkeypatch: pytest.MonkeyPatch) -> None:
    unsaid = Unsaid(muster.folder / "unsaid")
    unsaid.keep(Typed(id="said-1", conversation="fleet", text="for Muster alone"))
    async with muster.up():
        monkeypatch.setattr(unix_sockets, "uid_of", lambda _: os.geteuid() + 1)
        terminal = RemoteTerminal(muster.socket, unsaid=unsaid)
        async with terminal.attached() as link, asyncio.timeout(10):
            assert [line.kind async for line in link] == []
    assert "Another user listens" in str(terminal.lost)
    assert muster.heard == []


async def test_a_connector_that_is_not_there(muster: Muster) -> None:
    async with muster.up():
        with pytest.raises(NoSuchConnector, match=r"has no tmux; add connectors\.tmux"):
            async with RemoteTerminal(muster.socket, connector="tmux").attached():
                pass
