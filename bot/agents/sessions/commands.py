"""Commands of the section *fleet*: conversations that were begun in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import ADMIN
from bot.commands.argument_types import RuntimeName
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.agents.services import AgentServices
    from bot.commands.context import Context


@command("sessions", permission=ADMIN, help_section="fleet", audited=False, effects=False)
async def sessions(ctx: Context[AgentServices], runtime: RuntimeName) -> Reply:
    """List the conversations that Claude Code or Codex keeps in your home, so that an agent can go on in one.

    Only in a shell, because they are private: a chat room is told so.

    Args:
        runtime: claude or codex.
    """
    from bot.agents.sessions.service import list_sessions

    return await list_sessions(ctx, runtime)
