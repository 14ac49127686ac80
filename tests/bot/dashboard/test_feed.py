"""Documents that are followed: each change arrives, seldom enough, and nothing is built for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from bot.dashboard import feed as feed_module
from bot.dashboard.feed import DocumentSource, Feed
from bot.read_models.agent import AgentModel
from bot.read_models.audit import AuditModel
from bot.read_models.documents import Document, ReadModel
from bot.read_models.fleet import FleetAgent, FleetModel
from bot.read_models.tasks import TasksModel
from bot.text.errors import UserError
from core.errors import RegisterError
from tests import waiting


@dataclass
class House:
    """What documents are made of, and a feed over it."""

    tasks: TasksModel = field(default_factory=TasksModel)
    agents: dict[str, FleetAgent] = field(default_factory=dict)
    built: list[str] = field(default_factory=list)
    trouble: Exception | None = None

    def feed(self, epoch: str = "e") -> Feed:
        return Feed(
            sources={
                "fleet": DocumentSource(load=self._fleet),
                "tasks": DocumentSource(load=self._tasks),
                "audit": DocumentSource(load=self._audit, page=self._older),
            },
            agent=lambda name: DocumentSource(load=lambda: self._agent(name)),
            epoch=epoch,
            clock=lambda: 5.0,
        )

    def done(self, count: int) -> None:
        self.tasks = TasksModel(counts={"queued": count})

    async def _tasks(self) -> ReadModel:
        self.built.append("tasks")
        if self.trouble is not None:
            raise self.trouble
        return self.tasks

    async def _fleet(self) -> ReadModel:
        self.built.append("fleet")
        return FleetModel(agents=tuple(self.agents.values()))

    async def _audit(self) -> ReadModel:
        return AuditModel(before="7")

    async def _older(self, before: str) -> ReadModel:
        return AuditModel(before=f"older than {before}")

    async def _agent(self, name: str) -> ReadModel | None:
        self.built.append(f"agents/{name}")
        return AgentModel(agent=self.agents[name]) if name in self.agents else None


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "LONGEST_S", 3600.0)


def agent(name: str, state: str = "idle") -> FleetAgent:
    from bot.read_models.provenance import Provenance

    return FleetAgent(
        name=name,
        role="coder",
        runtime="sim",
        wanted="running",
        state=state,
        seen=Provenance(),
        sandbox="none",
        workspace="/",
        host="h",
        tenant_id="t",
    )


@asynccontextmanager
async def following(
    feed: Feed, *names: str, after: tuple[str, int] | None = None
) -> AsyncIterator[AsyncIterator[Document]]:
    async with asyncio.timeout(20), feed.follow(names, after=after) as documents:
        yield documents


async def test_a_follower_gets_what_there_is_and_then_each_change(house: House) -> None:
    feed = house.feed()
    async with following(feed, "tasks") as documents:
        first = await anext(documents)
        assert (first.name, first.value) == ("tasks", TasksModel())
        house.done(1)
        feed.changed()
        second = await anext(documents)
        assert second.value == house.tasks
        assert second.revision > first.revision


async def test_what_did_not_change_is_not_sent(house: House) -> None:
    feed = house.feed()
    async with following(feed, "tasks", "fleet") as documents:
        assert {(await anext(documents)).name, (await anext(documents)).name} == {"tasks", "fleet"}
        feed.changed()
        house.agents["a"] = agent("a")
        assert (await anext(documents)).name == "fleet"
        assert house.built.count("tasks") == 2


async def test_many_changes_are_one_state(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = house.feed()
    async with following(feed, "tasks") as documents:
        await anext(documents)
        for count in range(1, 500):
            house.done(count)
            feed.changed()
            await asyncio.sleep(0)
        assert (await anext(documents)).value == TasksModel(counts={"queued": 499})
        assert len(house.built) == 2


async def test_what_was_heard_of_an_agent_changes_its_documents_alone(house: House) -> None:
    house.agents |= {"a": agent("a"), "b": agent("b")}
    feed = house.feed()
    async with following(feed, "agents/a", "agents/b", "tasks") as documents:
        for _ in range(3):
            await anext(documents)
        house.agents |= {"a": agent("a", "working"), "b": agent("b", "working")}
        house.built.clear()
        feed.changed("a")
        found = await anext(documents)
        assert (found.name, house.built) == ("agents/a", ["agents/a"])


async def test_nothing_is_built_for_nobody(house: House) -> None:
    feed = house.feed()
    feed.changed()
    async with following(feed, "tasks") as documents:
        await anext(documents)
    house.built.clear()
    feed.changed()
    await asyncio.sleep(0)
    assert house.built == []
    assert len([task for task in asyncio.all_tasks() if task.get_name() == "dashboard"]) == 0


async def test_a_reader_that_comes_back_gets_what_it_lacks(house: House) -> None:
    feed = house.feed()
    async with following(feed, "tasks", "fleet") as stays:
        last = [await anext(stays), await anext(stays)][-1]
        house.done(3)
        feed.changed()
        await anext(stays)
        async with following(feed, "tasks", "fleet", after=(last.epoch, last.revision)) as back:
            found = await anext(back)
            assert (found.name, found.value) == ("tasks", house.tasks)
        async with following(feed, "tasks", "fleet", after=("another", 10**9)) as back:
            assert {(await anext(back)).name, (await anext(back)).name} == {"tasks", "fleet"}


async def test_the_slow_one_skips_states(house: House) -> None:
    feed = house.feed()
    async with following(feed, "tasks") as slow, following(feed, "tasks") as quick:
        await anext(slow)
        await anext(quick)
        for count in (1, 2):
            house.done(count)
            feed.changed()
            assert (await anext(quick)).value == house.tasks
        assert (await anext(slow)).value == house.tasks


async def test_an_agent_that_is_not_there_is_none_and_appears(house: House) -> None:
    feed = house.feed()
    assert (await feed.get("agents/a")).value is None
    async with following(feed, "agents/a") as documents:
        assert (await anext(documents)).value is None
        house.agents["a"] = agent("a")
        feed.changed()
        assert (await anext(documents)).value == AgentModel(agent=house.agents["a"])


async def test_what_cannot_be_built_now_is_told_first_and_keeps_its_last_state_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = house.feed()
    house.trouble = RegisterError("away")
    with pytest.raises(RegisterError, match="away"):
        await feed.get("tasks")
    with pytest.raises(RegisterError, match="away"):
        async with following(feed, "tasks"):
            pass
    house.trouble = None
    monkeypatch.setattr(feed_module, "LONGEST_S", 0.1)
    async with following(feed, "tasks") as documents:
        await anext(documents)
        house.trouble = RegisterError("away again")
        house.done(4)
        feed.changed()
        await waiting.until(lambda: house.built.count("tasks") >= 5)
        house.trouble = None
        assert (await anext(documents)).value == house.tasks, "it comes by itself once it can be built"


async def test_a_fault_in_one_document_stops_no_other(house: House) -> None:
    feed = house.feed()
    async with following(feed, "tasks", "fleet") as documents:
        await anext(documents)
        await anext(documents)
        house.trouble = KeyError("a fault")
        house.agents["a"] = agent("a")
        feed.changed()
        assert (await anext(documents)).name == "fleet"
        house.agents["b"] = agent("b")
        feed.changed()
        assert (await anext(documents)).name == "fleet"


async def test_pages_are_older_states_of_what_has_pages(house: House) -> None:
    feed = house.feed()
    assert await feed.page("audit", "7") == AuditModel(before="older than 7")
    with pytest.raises(UserError, match="no pages"):
        await feed.page("tasks", "7")


@pytest.mark.parametrize("name", ["", "agents/", "tasks/x", "Fleet", "../fleet"])
async def test_an_unknown_document_is_refused_with_those_that_there_are(house: House, name: str) -> None:
    feed = house.feed()
    with pytest.raises(UserError, match="There are audit, fleet, tasks, agents/NAME") as refused:
        await feed.get(name)
    assert refused.value.code == "document.unknown"
    with pytest.raises(UserError):
        async with feed.follow(["tasks", name]):
            pass
    assert house.built == []
