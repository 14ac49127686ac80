"""Commands of the section *fleet*: what an agent changed, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR
from bot.commands.argument_types import AgentName, CommitHash, DiffBase
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from bot.agents.services import AgentServices
    from bot.commands.context import Context
    from bot.commands.registry import Checked


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


async def _can_be_merged(
    services: AgentServices, arguments: Mapping[str, Any], say: Callable[[str], Awaitable[None]]
) -> Checked:
    from bot.agents.review.merge_commands import check_merge

    return await check_merge(services, arguments, say)


@command(
    "merge",
    permission=OPERATOR,
    help_section="fleet",
    confirm=True,
    undo="Git can undo it in your repository.",
    check=_can_be_merged,
    informs=True,
)
async def merge(
    ctx: Context[AgentServices],
    name: AgentName,
    *,
    squash: bool = False,
    into: str | None = None,
    commit: CommitHash | None = None,
) -> Reply:
    """Merge an agent's branch, once a trial merge and the tests succeeded.

    The branch that gets the commits says in .muster/merge.yaml which tests and which protected paths it has.

    Args:
        name: the agent.
        squash: make one commit of all its changes.
        into: the branch that gets the commits. Default: the one from which the agent's clone was made, if it is checked
            out.
        commit: merge only if the agent's branch is at this commit.
    """
    from bot.agents.review.merge_commands import merge_branch

    return await merge_branch(ctx, name, squash=squash, into=into, commit=commit)


async def _can_be_discarded(
    services: AgentServices, arguments: Mapping[str, Any], say: Callable[[str], Awaitable[None]]
) -> Checked:
    from bot.agents.review.merge_commands import check_discard

    del say
    return await check_discard(services, arguments["name"])


@command("discard", permission=OPERATOR, help_section="fleet", confirm=True, check=_can_be_discarded, informs=True)
async def discard(ctx: Context[AgentServices], name: AgentName) -> Reply:
    """Give up what a stopped agent did: its clone and its branch go. Its last commit is kept for 30 days.

    The agent's next start makes another clone.

    Args:
        name: the agent.
    """
    from bot.agents.review.merge_commands import discard_work
    from bot.commands.agent_lock import custody

    async with custody(ctx, name, "discard") as held:
        return await discard_work(held, name)
