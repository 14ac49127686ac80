"""Implementation of the commands `diff` and `commits`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from bot.agents.review import view
from bot.agents.services import AgentServices
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.messaging import private_files
from bot.messaging.thread_owners import agent_of
from bot.text import markdown
from bot.text.errors import UserError
from connectors.contract.messages import File
from core.redaction import SecretMasker
from database.queries.agents.agents import AgentRow
from fleet.workspace.agent_changes import AgentDiff

P = ParamSpec("P")
T = TypeVar("T")

#: Maximum number of bytes of a diff, and of commits that are listed.
LONGEST_DIFF = 256 * 1024
MOST_COMMITS = 100

#: Few threads, because an agent can make git hang, and must not block the threads of the rest of Muster.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="reviewing")


async def show_diff(ctx: Context[AgentServices], name: str | None, *, since: str | None) -> Reply:
    """Show what an agent changed: in chat with the diff as a file, for programs with the diff as data."""
    services = ctx.services
    row = await _agent(ctx, name)
    look = services.planner.workspaces.diff
    base = None if since == "base" else since
    found = await _in_thread(look, row.name, Path(row.workspace), since=base, longest=LONGEST_DIFF)
    diff = await _in_thread(_masked, found, services.redact)
    text = view.diff_text(row.name, found)
    data = view.diff_as_json(found, diff)
    if ctx.origin is None or not diff:
        return Reply(text, data)
    files = services.capabilities(ctx.origin.connector).files
    inline = view.inline(diff, most=view.INLINE if files else view.INLINE_WITHOUT_FILES)
    if inline is not None:
        return Reply(f"{text}\n\n{inline}", data)
    if not files:
        return Reply(f"{text}\n\n{view.beginning(diff, row.name)}", data)
    path = services.paths.outgoing / f"{ctx.run_id.replace('/', '_')}.diff"
    await asyncio.to_thread(private_files.put, path, markdown.shown(diff).encode())
    caption = view.caption(row.name, diff, truncated=found.truncated)
    return Reply(
        text, data, file=File(path=str(path), name=f"{row.name}.diff", media_type="text/x-diff", caption=caption)
    )


async def show_commits(ctx: Context[AgentServices], name: str | None) -> Reply:
    """Show the commits on an agent's branch."""
    services = ctx.services
    row = await _agent(ctx, name)
    look = services.planner.workspaces.commits
    found = await _in_thread(look, row.name, Path(row.workspace), most=MOST_COMMITS)
    text = view.commits_text(row.name, found, services.clock(), services.redact)
    return Reply(text, view.commits_as_json(found, services.timestamp))


async def _agent(ctx: Context[AgentServices], name: str | None) -> AgentRow:
    """Return the agent that a command means: the one that it names, or the one of its thread.

    Raises:
        UserError: there is none, or it is another installation's.
    """
    agents = ctx.services.agents
    if name is None and ctx.origin is not None:
        async with ctx.services.store.read() as tx:
            name = await agent_of(tx, ctx.origin.connector, ctx.origin.conversation)
    if name is None:
        raise UserError("This is no agent's thread. Name the agent, such as coder0.", code="agent.missing")
    row = await agents.get(name)
    agents.make_sure_it_is_ours(row)
    return row


def _masked(found: AgentDiff, redact: SecretMasker) -> str:
    """Return the diff without secrets, in whole lines."""
    if not found.truncated:
        return redact(found.diff)
    # The end may be the first half of a secret.
    diff = redact.of_growing(found.diff)
    return diff[: diff.rfind("\n") + 1]


async def _in_thread(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, functools.partial(act, *args, **kwargs))
