"""The documents of a whole orchestrator, as a dashboard follows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bot.auth.permission import ADMIN, OPERATOR, VIEWER
from bot.commands.registry import TABLE
from bot.dashboard import sources
from bot.read_models import codec
from bot.read_models.agent import AgentModel, PermissionItem, SaidItem
from bot.read_models.audit import AuditModel
from bot.read_models.documents import TYPES, Document, ReadModel, type_of
from bot.read_models.fleet import FleetModel
from bot.read_models.health import HealthModel
from bot.read_models.tasks import TasksModel
from bot.read_models.waiting import WaitingModel
from bot.text.errors import UserError
from tests.bot.orchestrator import House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made, made.open():
        yield made


async def seen(documents: AsyncIterator[Document], found: Callable[[ReadModel | None], bool]) -> ReadModel:
    """The first state that `found` accepts."""
    async for document in documents:
        if found(document.value):
            assert document.value is not None
            return document.value
    raise AssertionError("a feed has no end")


async def test_a_request_is_followed_from_its_question_to_its_answer(home: House) -> None:
    feed = home.orchestrator.services.documents
    thread = await home.launch("coder0")
    async with asyncio.timeout(60), feed.follow(["waiting"]) as waiting, feed.follow(["agents/coder0"]) as agent:
        home.say("[[say: On it. ]] [[run: echo sk-test-not-a-real-key > proof.txt]]", thread)
        model = await seen(waiting, lambda value: isinstance(value, WaitingModel) and bool(value.requests))
        assert isinstance(model, WaitingModel)
        (request,) = model.requests
        assert request.agent == "coder0"
        assert "> proof.txt" in request.detail
        assert "not-a-real-key" not in request.detail, "secrets are masked"
        assert [(each.command, each.needs_admin) for each in request.choices if not each.needs_admin][::2]
        allow = next(each for each in request.choices if each.label == "Allow once")
        arguments = " ".join(str(value) for value in allow.arguments.values())
        asked = await seen(agent, lambda value: isinstance(value, AgentModel) and value.agent.state == "waiting")
        assert isinstance(asked, AgentModel)
        assert any(isinstance(item, PermissionItem) and item.outcome is None for item in asked.turns[-1].items)
        await home.ask(f"!{allow.command} {arguments}", conversation=thread)
        assert await seen(waiting, lambda value: isinstance(value, WaitingModel) and not value.requests)
        done = await seen(
            agent,
            lambda value: isinstance(value, AgentModel) and value.turns[-1].ended_at is not None,
        )
        assert isinstance(done, AgentModel)
        items = done.turns[-1].items
        assert any(isinstance(item, SaidItem) and "On it." in item.text for item in items)
        assert any(isinstance(item, PermissionItem) and item.outcome is not None for item in items)


async def test_the_fleet_the_queue_and_the_audit_follow_commands(home: House) -> None:
    feed = home.orchestrator.services.documents
    async with asyncio.timeout(60), feed.follow(["fleet"]) as fleet, feed.follow(["tasks"]) as queue:
        await home.launch("coder0")
        assert await seen(fleet, lambda value: isinstance(value, FleetModel) and bool(value.agents))
        await home.ask("!freeze coder0")
        await home.ask("!task add 'Write a test.' --agent coder0")
        model = await seen(queue, lambda value: isinstance(value, TasksModel) and bool(value.open))
        assert isinstance(model, TasksModel)
        assert (model.open[0].text, sum(model.counts.values())) == ("Write a test.", 1)
    audit = (await feed.get("audit")).value
    assert isinstance(audit, AuditModel)
    assert [entry.action for entry in audit.entries][:2] == ["task add", "freeze"]
    assert audit.before is None
    health = (await feed.get("health")).value
    assert isinstance(health, HealthModel)
    assert health.status == "ok"
    assert {part.kind for part in health.parts} >= {"connector", "register", "disk"}


async def test_every_document_goes_over_the_wire_and_back(home: House) -> None:
    feed = home.orchestrator.services.documents
    await home.launch("coder0")
    for name in [*TYPES, "agents/coder0"]:
        document = await feed.get(name)
        kind = type_of(name)
        assert kind is not None
        assert codec.from_wire(kind, codec.to_wire(document.value, str)) == document.value, name


async def test_older_pages_of_a_conversation_are_read_from_its_journal(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = home.orchestrator.services.documents
    thread = await home.launch("coder0")
    for number in range(4):
        await home.marks(home.say(f"[[say: answer {number}]]", thread), "✅")
    monkeypatch.setattr("bot.agents.journal.conversation.PAGE", 5)
    said: list[str] = []
    model = (await feed.get("agents/coder0")).value
    assert isinstance(model, AgentModel)
    assert model.before is not None
    while isinstance(model, AgentModel):
        items = [item for turn in model.turns for item in turn.items]
        said = [item.text for item in items if isinstance(item, SaidItem)] + said
        model = None if model.before is None else await feed.page("agents/coder0", model.before)
    assert "".join(said) == "".join(f"answer {number}" for number in range(4))
    with pytest.raises(UserError, match="no such place"):
        await feed.page("agents/coder0", "yesterday")


async def test_whoever_may_run_the_command_may_read_the_document() -> None:
    needed = {name: sources.permission_for(name, TABLE) for name in [*TYPES, "agents/coder0", "unheard-of"]}
    seen = ("fleet", "agents/coder0", "health", "limits")
    assert {needed[name] for name in seen} == {VIEWER}
    assert (needed["waiting"], needed["tasks"]) == (OPERATOR, OPERATOR)
    assert (needed["audit"], needed["unheard-of"]) == (ADMIN, ADMIN)


@pytest.mark.parametrize("name", ["agents/../x", "agents/A", "agents/" + "x" * 200, "agents/a b"])
async def test_a_name_that_no_agent_can_have_is_no_document(home: House, name: str) -> None:
    with pytest.raises(UserError, match="no name of an agent"):
        await home.orchestrator.services.documents.get(name)
