"""What a shell that waits is told: the answer as it grows, what the agent does, and the end.

Reads only, and as often as it likes: a reader that comes back says how much of the answer it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.runs import loader, view
from bot.runs.answer import AnswerReader
from bot.runs.model import is_limit, outcome_of
from bot.runs.services import RunServices
from bot.text import markdown
from bot.text.errors import UserError
from database.queries import tasks
from database.queries.agents import agent_messages, agents, auto_resume, runs
from database.queries.agents.agent_messages import UNDERWAY
from database.queries.chat import approvals
from database.queries.task_states import ENDED as TASKS_ENDED

#: Seconds between two looks.
LOOK_EVERY_S: Final = 0.2
#: Seconds after which a silent stream says that it is alive.
_ALIVE_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowedWork:
    """A run, a message to an agent, or a task, as far as it has come."""

    agent: str | None
    message: str | None
    state: str
    """For runs and tasks as the register has it. A message is queued or running until it has an outcome."""
    detail: str | None = None
    is_over: bool = False
    end: dict[str, Any]
    """What programs get at the end; it has `state`."""


async def follow(
    services: RunServices, kind: str, wanted: str, *, after: int = 0
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what happens to some work, until it is over.

    Each item has one key: `answer` (more of the answer), `progress` (a sentence), `alive`, or `end`.

    Args:
        services: the services to use.
        kind: runs, messages or tasks.
        wanted: its id.
        after: how many characters of the answer the reader has.

    Raises:
        UserError: there is no such work.
        RegisterError: the register cannot be read.
    """
    sent, told, quiet_since = after, set[str](), services.clock()
    reader: AnswerReader | None = None
    while True:
        work = await _load(services, kind, wanted)
        said: list[dict[str, Any]] = []
        if work.agent is not None and work.message is not None:
            if reader is None or reader.message != work.message:
                folder = services.paths.agent_folder(work.agent)
                reader, sent = AnswerReader(folder, work.message, services.redact), sent if reader is None else 0
            await asyncio.to_thread(reader.read)
            # What it held back is only known to be harmless once nothing follows.
            text = await asyncio.to_thread(reader.text_so_far, ended=work.is_over)
            if len(text) > sent:
                said.append({"answer": text[sent:]})
                sent = len(text)
        for sentence in await _progress(services, work, reader):
            if sentence not in told:
                told.add(sentence)
                said.append({"progress": sentence})
        if not said and services.clock() - quiet_since >= _ALIVE_S:
            said.append({"alive": True})
        for each in said:
            yield each
            quiet_since = services.clock()
        if work.is_over:
            yield {"end": work.end}
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _load(services: RunServices, kind: str, wanted: str) -> FollowedWork:
    load = {"runs": _run, "messages": _message, "tasks": _task}.get(kind)
    async with services.store.read() as tx:
        found = None if load is None else await load(tx, services, wanted)
    if found is None:
        raise UserError(
            "There is nothing to follow there: runs/ID, messages/ID and tasks/ID can be followed.", code="run.unknown"
        )
    return found


async def _run(tx: AsyncConnection, services: RunServices, wanted: str) -> FollowedWork | None:
    run = await runs.get(tx, wanted)
    if run is None:
        return None
    return FollowedWork(
        agent=run.agent if run.started_at is not None else None,
        message=run.message,
        state=run.state,
        detail=run.detail,
        is_over=run.state not in runs.OPEN,
        end=view.run_json(loader.line(run), services.redact),
    )


async def _message(tx: AsyncConnection, services: RunServices, wanted: str) -> FollowedWork | None:
    message = await agent_messages.get(tx, wanted)
    if message is None:
        return None
    row = await agents.get(tx, message.agent)
    state = "running" if message.state == "accepted" else "queued"
    detail = message.detail
    if message.state not in (*UNDERWAY, "withdrawing"):
        outcome = outcome_of(message.state, detail)
        met = await auto_resume.met_since(tx, message.agent, message.created_at)
        state = "limit" if is_limit(outcome, met=met is not None) else outcome
    elif message.state == "pending" and (row is None or row.wanted != "running"):
        is_frozen = row is not None and row.wanted == "frozen"
        state, back = "waiting", command_line(f"{'resume' if is_frozen else 'launch'} {message.agent}")
        detail = f"{message.agent} does not run. It reads this once {back} brings it back."
    return _followed(services, message.id, message.agent, message.id, state, detail)


async def _task(tx: AsyncConnection, services: RunServices, wanted: str) -> FollowedWork | None:
    task = await tasks.get(tx, wanted)
    if task is None:
        return None
    message = None if task.message is None else await agent_messages.get(tx, task.message)
    state = {"cancelled": "stopped", "dispatched": "queued"}.get(task.state, task.state)
    detail = task.summary if task.state in TASKS_ENDED else task.reason
    if task.state in TASKS_ENDED and message is not None and message.state in UNDERWAY:
        state = "running"  # its agent has reported the result, and still speaks
    elif task.state == "waiting":
        detail = f"It waits for a person to say whether it is done: {command_line(f'task close {task.id}')}."
    return _followed(services, task.id, task.assigned, task.message, state, detail)


def _followed(
    services: RunServices, work_id: str, agent: str | None, message: str | None, state: str, detail: str | None
) -> FollowedWork:
    detail = None if detail is None else services.redact(detail)
    return FollowedWork(
        agent=agent,
        message=message,
        state=state,
        detail=detail,
        is_over=state not in ("queued", "running"),
        end={"id": work_id, "agent": agent, "state": state, "detail": detail},
    )


async def _progress(services: RunServices, work: FollowedWork, reader: AnswerReader | None) -> list[str]:
    """Return what is worth a line now. A line that was told is not told again."""
    said = []
    if work.state == "queued" and work.detail:
        said.append(f"Waits: {markdown.gist(work.detail, services.redact, 200)}")
    if work.agent is None or work.is_over:
        return said
    if work.state == "running":
        said.append(f"{work.agent} has the prompt.")
    for tool in reader.tools if reader is not None else ():
        if tool.title:
            said.append(f"{work.agent}: {markdown.gist(tool.title, services.redact, 120)}")
    async with services.store.read() as tx:
        asking = await approvals.in_states(tx, ["pending"], agent=work.agent)
    for each in asking:
        allow, deny = command_line(f"approve {each.id}"), command_line(f"deny {each.id}")
        said.append(f"{work.agent} asks: {markdown.gist(each.title, services.redact, 120)} ({allow}, {deny})")
    return said
