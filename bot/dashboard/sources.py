"""How each document is gathered from the orchestrator's services."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bot.agents import fleet_loader
from bot.agents.journal import conversation
from bot.agents.journal.conversation import Conversation
from bot.approvals import waiting_bounds, waiting_loader
from bot.auth.permission import ADMIN, Permission
from bot.commands.registry import CommandTable
from bot.dashboard.feed import DocumentSource, Feed
from bot.monitoring import audit_loader, health
from bot.read_models import codec
from bot.read_models.agent import AgentModel
from bot.read_models.documents import AGENTS, ReadModel
from bot.read_models.runs import RunsModel
from bot.read_models.waiting import WaitingModel
from bot.reports.services import ReportServices
from bot.runs import issue_loader
from bot.runs import loader as runs_loader
from bot.spending import limits_loader
from bot.tasks import queue_loader
from bot.text.errors import UserError
from fleet.name_rules import is_agent_name

#: Checking all parts writes to the disks, and asks the egress.
_HEALTH_EVERY_S: Final = 15.0
#: The line of a window rises all the time, so this document always differs.
_LIMITS_EVERY_S: Final = 2.0
#: The command that shows the same as a document; who may run it may read the document.
_COMMANDS: Final[Mapping[str, str]] = {
    "fleet": "ps",
    "waiting": "approvals",
    "tasks": "tasks",
    "runs": "runs",
    "limits": "budget",
    "audit": "audit",
    "health": "health",
}


def permission_for(name: str, table: CommandTable) -> Permission:
    """Return what reading a document takes."""
    command = table.get("tail" if name.startswith(AGENTS) else _COMMANDS.get(name, ""))
    return ADMIN if command is None else command.permission


def feed(services: ReportServices) -> Feed:
    """Return the feed of an orchestrator. Its documents have no secrets in them."""

    async def audit_before(place: str) -> ReadModel | None:
        return codec.masked(await audit_loader.load(services, place), services.redact)

    async def waiting() -> ReadModel | None:
        return await asyncio.to_thread(_bounded_waiting, await waiting_loader.load(services), services.redact)

    async def waiting_alone(place: str) -> ReadModel | None:
        found = waiting_bounds.alone(await waiting_loader.load(services), place)
        if found is None:
            raise UserError("This does not wait for an answer any more.", code="document.place")
        return await asyncio.to_thread(codec.masked, found, services.redact)

    async def issue_alone(place: str) -> ReadModel | None:
        found = await issue_loader.load_one(services, place)
        if found is None:
            raise UserError("No run of an issue has this ID.", code="document.place")
        return codec.masked(RunsModel(issues=(found,)), services.redact)

    def of(
        load: Callable[[], Awaitable[ReadModel | None]],
    ) -> Callable[[], Awaitable[ReadModel | None]]:
        async def masked() -> ReadModel | None:
            # In a thread: a fleet of a thousand takes a twentieth of a second.
            return await asyncio.to_thread(codec.masked, await load(), services.redact)

        return masked

    return Feed(
        sources={
            "fleet": DocumentSource(load=of(lambda: fleet_loader.load(services, drift=services.drift))),
            "waiting": DocumentSource(load=waiting, page=waiting_alone),
            "tasks": DocumentSource(load=of(lambda: queue_loader.load(services))),
            "runs": DocumentSource(load=of(lambda: runs_loader.load(services)), page=issue_alone),
            "limits": DocumentSource(
                load=of(lambda: limits_loader.load(services, *limits_loader.ALL)), shortest_s=_LIMITS_EVERY_S
            ),
            "audit": DocumentSource(load=of(lambda: audit_loader.load(services)), page=audit_before),
            "health": DocumentSource(load=of(lambda: health.load(services)), shortest_s=_HEALTH_EVERY_S),
        },
        agent=lambda name: _agent(services, name),
        epoch=secrets.token_hex(4),
        clock=services.clock,
    )


def _bounded_waiting(model: WaitingModel, redact: Callable[[str], str]) -> WaitingModel:
    # Masked first, because half a secret is not found.
    return waiting_bounds.bounded(codec.masked(model, redact))


def _agent(services: ReportServices, name: str) -> DocumentSource:
    async def known() -> AgentModel | None:
        try:
            return AgentModel(agent=await fleet_loader.load_agent(services, name))
        except UserError as error:
            if error.code == "agent.unknown":
                return None
            raise

    if not is_agent_name(name):
        raise UserError(f"There is no such document. {name!r} is no name of an agent.", code="document.unknown")
    journal = Conversation(services.paths.agent_folder(name))

    async def load() -> ReadModel | None:
        if (model := await known()) is None:
            return None
        if model.agent.elsewhere:
            return codec.masked(model, services.redact)
        entries, before = await asyncio.to_thread(journal.read)
        turns = await conversation.turns(entries, services.redact, is_growing=True)
        return codec.masked(AgentModel(agent=model.agent, turns=turns, before=before), services.redact)

    async def page(before: str) -> ReadModel | None:
        position = conversation.position_of(before)
        if position is None:
            raise UserError("A journal has no such place. Take `before` from a page of it.", code="document.place")
        if (model := await known()) is None:
            return None
        entries, earlier = await asyncio.to_thread(conversation.read_before, journal.folder, position)
        turns = await conversation.turns(entries, services.redact, is_growing=False)
        return codec.masked(AgentModel(agent=model.agent, turns=turns, before=earlier), services.redact)

    return DocumentSource(load=load, page=page)
