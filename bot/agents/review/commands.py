"""Commands of the section *fleet*: what an agent changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR
from bot.commands.argument_types import AgentName, DiffBase
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.agents.services import AgentServices
    from bot.commands.context import Context


@command("diff", permission=OPERATOR, help_section="fleet", audited=False, effects=False)
async def diff(ctx: Context[AgentServices], name: AgentName | None = None, *, since: DiffBase | None = None) -> Reply:
    """Show what an agent changed in its clone, committed or not, with untracked files.

    Args:
        name: the agent. In its thread it can be left out.
        since: a commit's hash, or base, where its branch began or left yours. Default: base.
    """
    from bot.agents.review.service import show_diff

    return await show_diff(ctx, name, since=since)


@command("commits", permission=OPERATOR, help_section="fleet", audited=False, effects=False)
async def commits(ctx: Context[AgentServices], name: AgentName | None = None) -> Reply:
    """Show the commits on an agent's branch, and whether it has changes that are not committed.

    Args:
        name: the agent. In its thread it can be left out.
    """
    from bot.agents.review.service import show_commits

    return await show_commits(ctx, name)
