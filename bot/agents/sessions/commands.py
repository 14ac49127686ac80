"""Commands of the section *fleet*: conversations that were begun in a terminal, or go on there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import ADMIN
from bot.commands.argument_types import AgentName, RuntimeName
from bot.commands.doors import AT_HOME
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.agents.services import AgentServices
    from bot.commands.context import Context


@command("sessions", permission=ADMIN, help_section="fleet", audited=False, effects=False, doors=AT_HOME)
async def sessions(ctx: Context[AgentServices], runtime: RuntimeName) -> Reply:
    """List the conversations that Claude Code, Codex or pi keeps in your home, so that an agent can go on in one.

    Conversations from a terminal are private, so they are shown on the machine of Muster only.

    Args:
        runtime: claude, codex or pi.
    """
    from bot.agents.sessions.service import list_sessions

    return await list_sessions(ctx, runtime)


@command("handover", permission=ADMIN, help_section="fleet", doors=AT_HOME)
async def handover(ctx: Context[AgentServices], name: AgentName, *, now: bool = False) -> Reply:
    """Go on with an agent's conversation in its runtime's own terminal program. Leave the program to give it back.

    The program runs in the agent's sandbox, with its model access and limits. Messages wait meanwhile. Approval rules
    do not judge there: you answer the runtime's own questions. Only in a shell.

    Args:
        name: the agent.
        now: cancel a turn that is running.
    """
    from bot.agents.sessions.handover import hand_over

    return await hand_over(ctx, name, now=now)
