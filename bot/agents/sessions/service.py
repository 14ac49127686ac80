"""Implementation of the command `sessions`, and of `launch --session`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bot.agents.services import AgentServices
from bot.auth.permission import ADMIN
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import NotPermitted, UserError
from database.queries.agents import agents
from fleet.errors import FleetError
from fleet.runtimes import kept_sessions
from fleet.runtimes.kept_sessions import KeptSession

#: Conversations that people see, and characters of what was written first.
_LISTED = 20
_GIST = 60


async def list_sessions(ctx: Context[AgentServices], runtime: str) -> Reply:
    """List the conversations of a runtime, the newest first."""
    try:
        found, whole = await asyncio.to_thread(kept_sessions.listed, runtime, Path.home(), os.environ)
    except FleetError as error:
        raise UserError(str(error), code=error.code) from error
    redact = ctx.services.redact
    text = sessions_text(runtime, found, whole=whole, now=ctx.services.clock(), redact=redact)
    return Reply(text, sessions_as_json(runtime, found, whole=whole, timestamp=ctx.services.timestamp, redact=redact))


async def check_session(ctx: Context[AgentServices], name: str, runtime: str, session: str) -> None:
    """Check that an agent can go on in a conversation of the person's.

    Raises:
        NotPermitted: only admins may.
        UserError: it cannot; the message says why and what to do.
    """
    if ctx.permission < ADMIN:
        raise NotPermitted(
            f"--session opens a conversation of the person who runs Muster to an agent, so only an admin names one; "
            f"you are {ctx.permission}. Leave it out."
        )
    async with ctx.services.store.read() as tx:
        row = await agents.get(tx, name)
    if row is not None and row.keep_session:
        kill = command_line(f"kill {name}")
        raise UserError(
            f"{name} has a conversation of its own. {kill} gives it up; or launch an agent with another name.",
            code="agent.has_session",
        )
    try:
        await asyncio.to_thread(kept_sessions.find, runtime, session, Path.home(), os.environ)
    except FleetError as error:
        raise UserError(str(error), code=error.code) from error


# --- words and data ------------------------------------------------------------------------------------------------


def sessions_text(
    runtime: str, found: Sequence[KeptSession], *, whole: bool, now: float, redact: Callable[[str], str]
) -> str:
    """Return the conversations for people. Their words are whatever was written in the files."""
    if not found:
        return f"{runtime} keeps no conversations here."
    rows = [
        [
            markdown.code(each.id),
            markdown.span(max(0.0, now - each.at)),
            markdown.code(markdown.one_line(each.folder, 60)) if each.folder else "",
            markdown.code(gist) if (gist := markdown.gist(each.words, redact, _GIST)) else "",
        ]
        for each in found[:_LISTED]
    ]
    table = markdown.table(["ID", "Age", "Folder", "Began with"], rows)
    left = len(found) - _LISTED
    more = f"\n\nand {left} more with --json." if left > 0 else ""
    if not whole:
        more += "\n\nThere are more than Muster looks at."
    go_on = command_line(f"launch NAME --runtime {runtime} --session ID")
    return f"{table}{more}\n\n{go_on} lets an agent go on in a copy of one."


def sessions_as_json(
    runtime: str,
    found: Sequence[KeptSession],
    *,
    whole: bool,
    timestamp: Callable[[float | None], str | None],
    redact: Callable[[str], str],
) -> dict[str, Any]:
    """Return the conversations for programs."""
    return {
        "runtime": runtime,
        "whole": whole,
        "sessions": [
            {
                "id": each.id,
                "at": timestamp(each.at),
                "bytes": each.size,
                "folder": each.folder,
                "words": redact(each.words),
            }
            for each in found
        ],
    }
