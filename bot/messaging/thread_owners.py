"""Recipients of chat messages, by the owner of the thread."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.messaging.outbox_keys import ANSWER, OPENER
from bot.messaging.own_messages import OwnMessages
from bot.messaging.thread_lifecycle import name_in
from bot.text.errors import UserError
from connectors.contract.messages import Inbound, OpenThread
from connectors.delivery import outbox
from connectors.delivery.outbox import Row
from database.engine.store import Store
from database.queries import tasks
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import thread_owners
from database.queries.chat.thread_owners import Owner
from database.queries.tasks import Task


async def addressee(inbound: Inbound, store: Store, own_messages: OwnMessages) -> tuple[AgentRow, str | None]:
    """Return the agent that a message goes to, and the conversation for its answer (None: the agent's own thread).

    A thread belongs to its agent permanently: after a launch in another room, the agent still answers in its old
    thread. Messages in a task's thread go to the agent that has or last had the task, which answers there. All other
    messages go to the orchestrator.

    Raises:
        UserError: there is no recipient.
    """
    opener = None
    if inbound.parent is not None:
        opener = await own_messages.find(
            inbound.connector,
            (OPENER, ANSWER),
            lambda tx: outbox.by_conversation(tx, inbound.connector, inbound.conversation),
        )
    async with store.read() as tx:
        rows = {row.name: row for row in await agents.every(tx)}
        owner = None if opener is None else await owner_of(tx, opener)
        task = None if owner is None or owner.kind != "task" else await tasks.get(tx, owner.name)
    if owner is not None and owner.kind == "task":
        return _holder(task, owner.name, rows), inbound.conversation
    if opener is not None and owner is not None:
        row = rows.get(owner.name)
        if row is None:
            raise UserError(
                f"This was the thread of {owner.name}, and there is no agent of that name now. Your message was not "
                "delivered.",
                code="agent.unknown",
            )
        return row, None if row.thread_key == opener.key else inbound.conversation
    orchestrators = [row for row in rows.values() if row.role == "orchestrator"]
    running = [row for row in orchestrators if row.wanted == "running"]
    if not orchestrators:
        raise UserError(
            "No agent here is the orchestrator, so your message was not delivered. "
            f"{command_line('launch NAME --role orchestrator')} starts one; in an agent's thread, words go to that "
            f"agent. {command_line('help')} lists the commands.",
            code="agent.no_orchestrator",
        )
    return [*running, *orchestrators][0], inbound.conversation


def _holder(task: Task | None, task_id: str, rows: Mapping[str, AgentRow]) -> AgentRow:
    """Return the agent that gets messages in a task's thread.

    Raises:
        UserError: no agent has the task.
    """
    name = f"`{task_id}`"
    if task is None:
        raise UserError(
            f"This was the thread of task {name}, which is over and forgotten. Your message was not delivered.",
            code="thread.over",
        )
    if task.state == "queued":
        raise UserError(
            f"No agent has task {name} yet, so your message was not delivered. {command_line(f'task {task.id}')} says "
            f"why it waits. Write again once an agent has it. Or {command_line(f'task cancel {task.id}')}, and "
            "add it again with what you want to say.",
            code="task.unassigned",
        )
    if task.assigned is None:
        raise UserError(
            f"Task {name} is {task.state}, and no agent ever had it, so your message was not delivered.",
            code="task.over",
        )
    row = rows.get(task.assigned)
    if row is None:
        raise UserError(
            f"{task.assigned} had task {name}, and there is no agent of that name now. Your message was not delivered.",
            code="agent.unknown",
        )
    return row


async def agent_of(tx: AsyncConnection, connector: str, conversation: str) -> str | None:
    """Return the name of the agent whose thread this is, or None."""
    opener = await outbox.by_conversation(tx, connector, conversation)
    owner = None if opener is None else await owner_of(tx, opener)
    return owner.name if owner is not None and owner.kind == "agent" else None


async def task_of(tx: AsyncConnection, connector: str, conversation: str) -> str | None:
    """Return the id of the task whose thread this is, or None."""
    opener = await outbox.by_conversation(tx, connector, conversation)
    owner = None if opener is None else await owner_of(tx, opener)
    return owner.name if owner is not None and owner.kind == "task" else None


async def room_of(tx: AsyncConnection, connector: str, conversation: str) -> str:
    """Return the room of a conversation.

    For an agent's thread, it is the room of the agent's newest thread; for a task's thread, the room of the request.
    Any other conversation is its own room.
    """
    opener = await outbox.by_conversation(tx, connector, conversation)
    owner = None if opener is None else await owner_of(tx, opener)
    if opener is None or owner is None:
        return conversation
    row = await agents.get(tx, owner.name) if owner.kind == "agent" else None
    return row.room if row is not None else opener.outbound.conversation or conversation


async def owner_of(tx: AsyncConnection, opener: Row) -> Owner | None:
    """Return the owner of the thread that a message opened, or None."""
    if (found := await thread_owners.of(tx, opener.key)) is not None:
        return found
    # Older threads of agents have no recorded owner, but their title is the agent's name.
    content = opener.outbound.content
    if opener.key.startswith(OPENER) and isinstance(content, OpenThread):
        return Owner("agent", name_in(content.title))
    return None
