"""Commands of the section *talking*: messages to agents, and undelivered messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR
from bot.commands.argument_types import AgentName, LetterId, MessageId, Rest
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.agents.services import AgentServices
    from bot.commands.context import Context

#: Seconds for a cancelled turn to end, before the check for background processes.
_TURN_OVER_S = 3


@command("send", permission=OPERATOR, help_section="talking")
async def send(ctx: Context[AgentServices], name: AgentName, text: Rest) -> Reply:
    """Queue a message for an agent. The agent gets it when the running turn ends.

    Args:
        name: the agent.
        text: the message.
    """
    from bot.agents.messages.outgoing import post

    return await post(ctx, name, text, mode="queue")


@command("steer", permission=OPERATOR, help_section="talking")
async def steer(ctx: Context[AgentServices], name: AgentName, text: Rest) -> Reply:
    """Cancel an agent's running turn, and send it this message first.

    Args:
        name: the agent.
        text: the message.
    """
    from bot.agents.messages.outgoing import post

    return await post(ctx, name, text, mode="steer")


@command("btw", permission=OPERATOR, help_section="talking")
async def btw(ctx: Context[AgentServices], name: AgentName, text: Rest) -> Reply:
    """Ask an agent a question on the side. A copy of its conversation answers, and may only read.

    The running turn goes on, and the agent does not know of the question. The answer comes in the agent's thread.

    Args:
        name: the agent.
        text: the question.
    """
    from bot.agents.messages.aside import ask

    return await ask(ctx, name, text)


@command("cancel", permission=OPERATOR, help_section="talking")
async def cancel(ctx: Context[AgentServices], name: AgentName) -> Reply:
    """Cancel an agent's running turn. The next message in its queue follows.

    Args:
        name: the agent.
    """
    from bot.agents.journal.projection import cancelled_as
    from bot.messaging.background_processes import background_in_words

    agents = ctx.services.agents
    row = await agents.get(name)

    async def act() -> bool:
        turn = agents.turn_of(name)
        if turn is not None and ctx.origin is not None:
            async with ctx.services.store.read() as tx:
                await agents.journal_effects.announce(tx, row, ctx.origin.conversation, cancelled_as(name, turn))
        done: bool = await agents.cancel(row)
        return done

    cancelled = await ctx.once("cancel", act)
    text = f"The turn of {name} is cancelled." if cancelled else f"{name} has no turn running; nothing was cancelled."
    left = await agents.left_running(name, turn_over_s=_TURN_OVER_S)
    text += background_in_words(name, left)
    return Reply(text, {"agent": name, "cancelled": cancelled, "background": 0 if left is None else left.count})


@command("queue", permission=OPERATOR, help_section="talking")
async def queue(
    ctx: Context[AgentServices],
    name: AgentName,
    *,
    first: MessageId | None = None,
    remove: MessageId | None = None,
) -> Reply:
    """Show the messages that wait for an agent, the next first, or change what waits.

    Args:
        name: the agent.
        first: the id of a message that it reads next, or the beginning of the id.
        remove: the id of a message that it does not read, or the beginning of the id.
    """
    from bot.agents.messages.queue import show_queue

    return await show_queue(ctx, name, first=first, remove=remove)


@command("dead-letters", permission=OPERATOR, help_section="talking", audited=False, effects=False)
async def dead_letters(ctx: Context[AgentServices]) -> Reply:
    """List messages that were not delivered, or possibly not, to agents and to chat."""
    from bot.agents.messages.outgoing import stranded

    return await stranded(ctx)


@command("retry", permission=OPERATOR, help_section="talking")
async def retry(ctx: Context[AgentServices], id: LetterId) -> Reply:
    """Send a message again that was not delivered, or that a crash left uncertain.

    Args:
        id: its id, or the beginning of it, from `dead-letters`.
    """
    from bot.agents.messages.outgoing import send_again

    return await send_again(ctx, id)
