"""Whom words in chat are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.commands.lines import command_line
from bot.errors import UserError
from bot.wishes import OPENER
from connectors import outbox
from connectors.messages import OpenThread
from register.queries import agents

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.utterances import Utterances
    from connectors.messages import Inbound
    from connectors.outbox import Row
    from register.queries.agents import AgentRow
    from register.store import Store


async def addressee(inbound: Inbound, store: Store, utterances: Utterances) -> tuple[AgentRow, str | None]:
    """Whom words go to, and the conversation for the answer (None: the agent's own thread).

    A thread belongs to its agent for ever: after a launch in another room, the agent is still reached, and answers, in
    the old one. What is said anywhere else is for the orchestrator.

    Raises:
        UserError: nobody.
    """
    opener = None
    if inbound.parent is not None:
        opener = await utterances.find(
            inbound.connector,
            (OPENER,),
            lambda tx: outbox.by_conversation(tx, inbound.connector, inbound.conversation),
        )
    async with store.read() as tx:
        rows = await agents.every(tx)
    if opener is not None and (owner := _owner(opener)) is not None:
        for row in rows:
            if row.name == owner:
                return row, None if row.thread_key == opener.key else inbound.conversation
        raise UserError(f"This was the thread of {owner}, and there is no agent of that name now. Nobody reads this.")
    orchestrators = [row for row in rows if row.role == "orchestrator"]
    running = [row for row in orchestrators if row.wanted == "running"]
    if not orchestrators:
        raise UserError(
            "No agent here is the orchestrator, so nobody reads this. "
            f"{command_line('launch NAME --role orchestrator')} starts one; in an agent's thread, words go to that "
            f"agent. {command_line('help')} lists the commands."
        )
    return [*running, *orchestrators][0], inbound.conversation


async def agent_of(tx: AsyncConnection, connector: str, conversation: str) -> str | None:
    """The name of the agent whose thread this is; None: nobody's."""
    opener = await outbox.by_conversation(tx, connector, conversation)
    return None if opener is None else _owner(opener)


def _owner(opener: Row) -> str | None:
    """Whose thread a message opened: an agent's is called by its name (`bot.agents.Agents.launch`)."""
    content = opener.outbound.content
    return content.title if opener.key.startswith(OPENER) and isinstance(content, OpenThread) else None
