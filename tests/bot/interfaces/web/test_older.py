"""What is older than a page shows is on the page before it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import replace

import pytest

from bot.config.surfaces.web import WebBlock
from bot.interfaces.web.server import WebServer
from bot.read_models.agent import AgentModel, SaidItem, TurnModel
from bot.read_models.audit import AuditEntry, AuditModel
from bot.read_models.documents import Document, ReadModel
from bot.read_models.fleet import FleetAgent
from bot.read_models.provenance import Provenance
from bot.read_models.waiting import WaitingModel
from tests.bot.interfaces.web.browser import Browser, browser
from tests.bot.orchestrator import House

AGENT = FleetAgent(
    name="coder0", role="coder", runtime="sim", wanted="running", state="idle", seen=Provenance(), sandbox="bubblewrap",
    workspace="/w", host="h", tenant_id="t",
)  # fmt: skip


def read(name: str, words: str, before: str | None) -> ReadModel:
    entry = AuditEntry(seq=1, at=1.0, identity="ana", door="web", action=words, outcome="done")
    turn = TurnModel(turn="t", items=(SaidItem(text=words, at=1.0),))
    if name == "audit":
        return AuditModel(entries=(entry,), before=before)
    return WaitingModel() if name == "waiting" else AgentModel(agent=AGENT, turns=(turn,), before=before)


class Paged:
    """A feed of documents with one older page."""

    async def get(self, name: str) -> Document:
        return Document(name=name, revision=1, epoch="e", made_at=1.0, value=read(name, "newest", "7:3"))

    async def page(self, name: str, before: str) -> ReadModel:
        assert before == "7:3"
        return read(name, "older", None)

    @contextlib.asynccontextmanager
    async def follow(
        self, names: Collection[str], *, after: tuple[str, int] | None = None
    ) -> AsyncIterator[AsyncIterator[Document]]:
        raise NotImplementedError
        yield


@pytest.fixture
async def it(home: House) -> AsyncIterator[Browser]:
    services = replace(home.orchestrator.services, documents=Paged())
    server = WebServer(services, home.orchestrator.executor, WebBlock(listen="127.0.0.1:0"))
    await server.start()
    async with browser(home) as made:
        made.origin = server.where.url
        await made.log_in()
        yield made
    await server.stop()


@pytest.mark.parametrize(("path", "link"), [("/audit", "Older"), ("/agents/coder0", "Older turns")])
async def test_older_entries_are_a_page_of_their_own(it: Browser, path: str, link: str) -> None:
    newest = (await it.get(path)).text
    assert "newest" in newest
    assert "data-live=" in newest
    assert f'href="{path}?before=7%3A3"' in newest
    assert f">{link}</a>" in newest
    older = (await it.get(f"{path}?before=7%3A3")).text
    assert "older" in older
    assert "newest" not in older
    assert f'href="{path}">Back to now</a>' in older
    assert 'data-live="audit"' not in older
    assert 'data-live="agent' not in older
