"""Implementation of the commands `merge` and `discard`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.review import merge_text, merging
from bot.agents.services import AgentServices
from bot.commands.context import Context
from bot.commands.registry import Checked, Reply
from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import UserError
from database.queries.agents.agents import AgentRow
from database.queries.chat import topics
from fleet.errors import FleetError
from fleet.supervision import host_lifecycle
from fleet.workspace import branch_merge
from fleet.workspace.branch_merge import SetAside
from fleet.workspace.merge_trial import MergeRequest, TriedMerge

#: Digits of the commit that a confirmation is for.
_PINNED = 12

Say = Callable[[str], Awaitable[None]]


# --- merge -------------------------------------------------------------------------------------------------------


async def check_merge(services: AgentServices, arguments: Mapping[str, Any], say: Say) -> Checked:
    """Merge on trial and run the tests, before a person is asked.

    Raises:
        UserError: it cannot be merged; the message says why and what to do.
    """
    row = await _ours(services, arguments["name"])
    squash = bool(arguments.get("squash"))
    with _refusals(services):
        request = await merging.request_of(
            services, row, into=arguments.get("into"), squash=squash, commit=arguments.get("commit")
        )
        done = await merging.attempt(request, say=_from_thread(say))
    if done is None:
        raise UserError(_nothing(row.name), code="merge.nothing_new")
    notes = await _notes(services, row)
    note = merge_text.found(row.name, done, squash=squash, notes=notes)
    return Checked(note=note, arguments={"commit": done.tip[:_PINNED]})


async def merge_branch(
    ctx: Context[AgentServices], name: str, *, squash: bool, into: str | None, commit: str | None
) -> Reply:
    """Merge an agent's branch, once."""
    services = ctx.services
    row = await _ours(services, name)
    title = row.purpose or ""

    async def asked() -> MergeRequest:
        return await merging.request_of(services, row, title=title, into=into, squash=squash, commit=commit)

    async def tried() -> dict[str, Any] | None:
        done = await merging.attempt(await asked(), say=_from_thread(ctx.progress))
        return None if done is None else asdict(done)

    with _refusals(services):
        known = await ctx.once("tried", tried)
        if known is None:
            return Reply(_nothing(name), {"merged": False})
        done = TriedMerge(**known)
        request = await asked()

        async def moved() -> str:
            return (await asyncio.to_thread(branch_merge.move, request, done)).commit

        at = await ctx.once("moved", moved)
    branch, target = markdown.code(f"muster/{name}"), markdown.code(done.into)
    commits = "1 commit" if done.commits == 1 else f"{done.commits:,} commits"
    how = f", {commits} as one" if squash else f": {commits}"
    text = f"✅ {branch} is merged into {target}{how}. {merge_text.tested(done.test, done.seconds)}"
    data = {"merged": True, "into": done.into, "commit": at, "before": done.base, "commits": done.commits}
    return Reply(text, {**data, "tested": done.test is not None})


def _nothing(name: str) -> str:
    return f"{markdown.code(f'muster/{name}')} has nothing that is not merged. Nothing was changed."


async def _notes(services: AgentServices, row: AgentRow) -> list[str]:
    notes = []
    if services.agents.in_turn(row.name):
        notes.append(merge_text.still_works(row.name))
    with contextlib.suppress(FleetError):  # perhaps the agent is just writing there
        unsaved = await asyncio.to_thread(services.planner.workspaces.unsaved, row.name, Path(row.workspace))
        if unsaved is not None:
            notes.append(merge_text.unsaved(row.name, unsaved))
    return notes


def _from_thread(say: Say) -> Callable[[str], None]:
    """Return what shows progress from another thread."""
    loop = asyncio.get_running_loop()

    def told(text: str) -> None:
        showing: Coroutine[Any, Any, None] = _told(say, markdown.one_line(text, 160))
        asyncio.run_coroutine_threadsafe(showing, loop)

    return told


async def _told(say: Say, text: str) -> None:
    await say(text)


# --- discard -----------------------------------------------------------------------------------------------------


async def check_discard(services: AgentServices, name: str) -> Checked:
    """Look at what would be given up, before a person is asked.

    Raises:
        UserError: it cannot be discarded; the message says why and what to do.
    """
    row = await _ours(services, name)
    await _check_at_rest(services, row)
    named = Path(row.workspace)
    workspaces = services.planner.workspaces
    with _refusals(services):
        if workspaces.place(name, named) == named:
            await asyncio.to_thread(workspaces.commits, name, named, most=1)
        unsaved = "what of it is in no commit"
        with contextlib.suppress(FleetError):  # an agent may have broken its clone
            found = await asyncio.to_thread(workspaces.unsaved, name, named)
            unsaved = found or ""
    gone = f" Gone for good: {unsaved}." if unsaved else ""
    return Checked(
        note=f"Its clone and its branch go; its last commit is kept for {branch_merge.KEPT_DAYS} days.{gone}"
    )


async def discard_work(ctx: Context[AgentServices], name: str) -> Reply:
    """Delete the clone and the branch of an agent that does not run."""
    services = ctx.services
    row = await _ours(services, name)
    named = Path(row.workspace)
    workspaces = services.planner.workspaces

    async def kept() -> dict[str, str | None]:
        await _check_at_rest(services, row)
        with contextlib.suppress(FleetError):  # an agent may have broken its clone
            await asyncio.to_thread(workspaces.collect, name)
        return asdict(await asyncio.to_thread(branch_merge.set_aside, named, name))

    async def gone() -> bool:
        await asyncio.to_thread(workspaces.discard, name, named)
        return await asyncio.to_thread(branch_merge.discard, named, name, aside.commit)

    with _refusals(services):
        aside = SetAside(**await ctx.once("kept", kept))
        deleted = await ctx.once("gone", gone)
    what = "its clone and its branch are" if deleted else "its clone is"
    branch = "" if deleted else f" The branch {markdown.code(f'muster/{name}')} stays, because it is not only its own."
    text = f"🗑️ What {name} did is discarded: {what} gone.{branch} {merge_text.is_kept(aside, row.workspace)}"
    return Reply(text.rstrip(), {"discarded": True, "commit": aside.commit, "kept": aside.name, "branch": not deleted})


async def _check_at_rest(services: AgentServices, row: AgentRow) -> None:
    """Check that nobody works in the clone that is to be deleted.

    Raises:
        UserError: the agent runs, or a topic decides about its work.
    """
    async with services.store.read() as tx:
        alive = await _of_living_topic(tx, row.name)
    if alive:
        end = command_line(f"done {row.name} --how discard")
        raise UserError(
            f"{row.name} works on a topic. {end} ends the topic and discards its work.", code="agent.of_topic"
        )
    runs = await asyncio.to_thread(host_lifecycle.is_running, services.paths.agent_folder(row.name))
    if runs or row.wanted == "running":
        stop = command_line(f"stop {row.name}")
        raise UserError(f"{row.name} runs. {stop} stops it; then ask again. Nothing was changed.", code="agent.running")


async def _of_living_topic(tx: AsyncConnection, name: str) -> bool:
    topic = await topics.of_agent(tx, name)
    return topic is not None and topic.state not in topics.OVER


# --- both --------------------------------------------------------------------------------------------------------


async def _ours(services: AgentServices, name: str) -> AgentRow:
    row = await services.agents.get(name)
    services.agents.make_sure_it_is_ours(row)
    return row


@contextlib.contextmanager
def _refusals(services: AgentServices) -> Iterator[None]:
    """Turn what the fleet refuses into an answer, with the end of what tests said."""
    try:
        yield
    except UserError:
        raise
    except FleetError as problem:
        raise UserError(merge_text.refusal(problem, services.redact), code=problem.code) from problem
