"""Rules for task requests: urgency, number of queued tasks, and the fair share that is charged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth import agent_permissions
from bot.auth.permissions import is_person
from bot.commands.context import Context
from bot.commands.syntax import command_line
from bot.pacing.services import PacingServices
from bot.tasks.text import AGENT
from bot.text.errors import UserError
from budget.windows.pace_admission import Urgency
from database.queries import tasks
from database.queries.agents import agent_messages, agents
from fleet import roles
from fleet.control.task_attempt_ids import task_of


async def urgency_of_agent(ctx: Context[PacingServices], wanted: Urgency) -> Urgency:
    """Return the urgency of a task that an agent requests."""
    async with ctx.services.store.read() as tx:
        row = await agents.get(tx, ctx.identity.removeprefix(AGENT))
    library = await asyncio.to_thread(roles.library, ctx.services.paths.roles)
    return agent_permissions.urgency(row.role if row is not None else "", wanted, library)


def as_one(people: Mapping[str, Sequence[str]], identity: str) -> str | None:
    """Return the first identity of a person who has several, or None if the given one is charged."""
    for identities in people.values():
        if identity in identities[1:]:
            return identities[0]
    return None


async def payer_of(tx: AsyncConnection, identity: str, people: Mapping[str, Sequence[str]]) -> str | None:
    """Return the identity whose fair share is charged for a task, or None for the requester's.

    A person with several identities is charged under the first one. An agent's task is charged to the person behind its
    current turn, so that many agents get no more turns than that person. Without a person, the agent's role is charged.
    """
    if not identity.startswith(AGENT):
        return as_one(people, identity)
    name = identity.removeprefix(AGENT)
    for message in reversed(await agent_messages.in_states(tx, ["accepted"], agent=name)):
        carried = task_of(message.id)
        task = None if carried is None else await tasks.get(tx, carried)
        payer = message.sender if task is None else task.charged_to or task.operator
        if is_person(payer):
            return as_one(people, payer) or payer
    row = await agents.get(tx, name)
    return None if row is None else f"role:{row.role}"


async def check_room(tx: AsyncConnection, ctx: Context[PacingServices]) -> None:
    """Refuse the request if the requester has the maximum number of queued tasks.

    Raises:
        UserError: the maximum is reached.
    """
    who = "agent" if ctx.identity.startswith(AGENT) else "person"
    most = getattr(ctx.services.settings.dispatch.queued, who)
    own = await tasks.queued_of(tx, ctx.identity)
    if own < most:
        return
    raise UserError(
        f"You have {own:,} tasks in the queue, and {most:,} are allowed (dispatch.queued.{who} in muster.yaml). This "
        f"one was not queued. Wait until some begin, or cancel some that are no longer needed: {command_line('tasks')} "
        f"lists them, {command_line('task cancel ID')} cancels one.",
        code="task.too_many",
    )
