"""Open pages follow what happens, and end when their reader may not see it any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace

import pytest

from bot.config.surfaces.web import WebBlock
from bot.interfaces.web.server import WebServer
from bot.interfaces.web.settings import STREAMS_OF_SESSION
from bot.interfaces.web.views import MOST_VIEWS
from bot.read_models.audit import AuditEntry, AuditModel
from bot.read_models.documents import Document
from bot.read_models.waiting import WaitingModel
from tests import waiting
from tests.bot.interfaces.web.browser import Browser, event
from tests.bot.orchestrator import OPERATOR, VIEWER, House


async def test_a_page_follows_the_fleet_and_the_conversation(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    async with asyncio.timeout(60), it.stream("fleet", "nav") as fleet:
        assert fleet.headers["Content-Type"] == "text/event-stream"
        first = [await event(fleet), await event(fleet)]
        assert {each["key"] for each in first if each} == {"fleet", "nav"}
        thread = await home.launch("coder0")
        while "coder0" not in ((await event(fleet)) or {})["html"]:
            pass
    async with asyncio.timeout(60), it.stream("agent?name=coder0") as talk:
        await event(talk)
        home.say("[[say: one **two**]]", thread)
        while "one <strong>two</strong>" not in ((await event(talk)) or {})["html"]:
            pass


async def test_what_did_not_change_is_not_sent(home: House, it: Browser) -> None:
    await it.log_in()
    async with asyncio.timeout(60), it.stream("tasks", "health") as stream:
        assert {each["key"] for each in (await event(stream), await event(stream)) if each} == {"tasks", "health"}
        await home.ask("!task add 'Write a test.' --role coder")
        news = await event(stream)
        assert news is not None
        assert (news["key"], "Write a test." in news["html"]) == ("tasks", True)


@pytest.mark.parametrize("how", ["logged out", "permission", "less permission"])
async def test_an_open_page_ends_with_its_session(home: House, it: Browser, how: str) -> None:
    await it.log_in(OPERATOR)
    session = (await home.ask("!web sessions")).split("| `")[1].split("`")[0]
    async with asyncio.timeout(60), it.stream("waiting") as stream:
        await event(stream)
        if how == "logged out":
            await home.ask(f"!web logout {session}")
        else:
            await home.ask(f"!operator set memory:@otto {'none' if how == 'permission' else 'viewer'}")
        await home.launch("coder0")
        while (news := await event(stream)) is not None and news["event"] != "end":
            assert "coder0" not in news["html"]
        assert await event(stream) is None


async def test_nobody_follows_what_they_may_not_see(it: Browser) -> None:
    async with it.stream("fleet") as answer:
        assert answer.status == 401
    await it.log_in(VIEWER)
    for part, status in (("audit", 403), ("waiting", 403), ("tasks", 403), ("nothing", 404), ("agent?name=../x", 404)):
        async with it.stream("fleet", part) as answer:
            assert answer.status == status, part
    async with it.stream(*(f"fleet?page={number}" for number in range(MOST_VIEWS + 1))) as answer:
        assert answer.status == 400


async def test_streams_of_a_browser_are_bounded(it: Browser) -> None:
    await it.log_in()
    async with asyncio.timeout(60):
        first = [it.stream("health") for _ in range(STREAMS_OF_SESSION)]
        for each in first:
            await event(await each.__aenter__())
        async with it.stream("health") as refused:
            assert refused.status == 429
        for each in first:
            await each.__aexit__(None, None, None)


@dataclass
class Endless:
    """A feed whose large documents change as fast as they are taken."""

    taken: int = 0

    async def get(self, name: str) -> Document:
        self.taken += 1
        entry = AuditEntry(seq=1, at=1.0, identity="x", door="web", action=f"{self.taken} " * 20_000, outcome="done")
        model = AuditModel(entries=(entry,)) if name == "audit" else WaitingModel()
        return Document(name=name, revision=self.taken, epoch="e", made_at=1.0, value=model)

    async def page(self, name: str, before: str) -> None:
        return None

    @contextlib.asynccontextmanager
    async def follow(
        self, names: Collection[str], *, after: tuple[str, int] | None = None
    ) -> AsyncIterator[AsyncIterator[Document]]:
        async def news() -> AsyncIterator[Document]:
            while True:
                for name in names:
                    yield await self.get(name)
                await asyncio.sleep(0)

        yield news()


async def test_a_reader_that_takes_nothing_is_disconnected_and_little_is_kept_for_it(home: House, it: Browser) -> None:
    await it.log_in()
    feed = Endless()
    services = replace(home.orchestrator.services, documents=feed)
    server = WebServer(services, home.orchestrator.executor, WebBlock(listen="127.0.0.1:0"))
    await server.start()
    server.streams.send_limit_s = 0.3
    (cookie,) = [each for each in it.client.cookie_jar if each.key == server.where.session_cookie]
    host = server.where.url.removeprefix("http://")
    lines = f"GET /events?part=audit HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie.key}={cookie.value}\r\n\r\n"
    try:
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.where.port, limit=1024)
            writer.write(lines.encode())
            assert b"200" in await reader.readline()
            await waiting.until(lambda: len(server.streams) == 0)
            taken = feed.taken
            with contextlib.suppress(ConnectionError):
                while await reader.read(65_536):
                    pass
            writer.close()
            assert feed.taken == taken
    finally:
        await server.stop()
