"""Commands of the section *tasks*: the dispatch queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.auth.permission import ADMIN, OPERATOR
from bot.commands.argument_types import AgentName, RoleName, TaskId
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.commands.context import Context
    from bot.tasks.services import TaskServices


@command("task add", permission=OPERATOR, help_section="tasks")
async def task_add(
    ctx: Context[TaskServices],
    text: str,
    *,
    role: RoleName | None = None,
    agent: AgentName | None = None,
    urgency: Literal["low", "normal", "high", "critical"] = "normal",
    deadline: str | None = None,
    estimate: str | None = None,
    kind: str = "task",
    parent: TaskId | None = None,
    retries: int | None = None,
) -> Reply:
    """Put a task into the queue. An agent gets it as soon as one is free and the pace of spending allows it.

    Without --role and --agent it is for the agent in whose thread it is written, and elsewhere for the orchestrator.

    Args:
        text: what is to be done.
        role: any agent of this role.
        agent: this agent and no other.
        urgency: low yields to others, high may borrow from the next day, critical may pass a limit within what is
            authorized.
        deadline: when it must have begun: 2h, 3d, "2026-11-25 09:00". It is refused if nothing lets it begin before.
        estimate: what it will use, such as 200k; otherwise what such tasks used before.
        kind: a word for what it is, by which its cost is learned: task, review, fix.
        parent: the task that it is a part of; whoever did that is preferred.
        retries: how often it is tried again when its agent dies or its turn fails.
    """
    from bot.tasks.service import add

    return await add(
        ctx,
        text,
        role=role,
        agent=agent,
        urgency=urgency,
        deadline=deadline,
        estimate=estimate,
        kind=kind,
        parent=parent,
        retries=retries,
    )


@command("tasks", permission=OPERATOR, help_section="tasks", audited=False, effects=False)
async def tasks(ctx: Context[TaskServices], *, all: bool = False) -> Reply:
    """The queue: what agents have, what waits and why, and what each was projected to cost and cost.

    Args:
        all: those of the last seven days that are over, too.
    """
    from bot.tasks.service import listing

    return await listing(ctx, all=all)


@command("task", permission=OPERATOR, help_section="tasks", audited=False, effects=False)
async def task(ctx: Context[TaskServices], id: TaskId | None = None) -> Reply:
    """One task, with each of its steps.

    Args:
        id: as `tasks` shows it; its beginning is enough. In a task's thread it is that one, when left out.
    """
    from bot.tasks.service import show

    return await show(ctx, id)


@command("task show", permission=OPERATOR, help_section="tasks", audited=False, effects=False)
async def task_show(ctx: Context[TaskServices], id: TaskId | None = None) -> Reply:
    """One task, with each of its steps.

    Args:
        id: as `tasks` shows it; its beginning is enough. In a task's thread it is that one, when left out.
    """
    from bot.tasks.service import show

    return await show(ctx, id)


@command("task cancel", permission=OPERATOR, help_section="tasks")
async def task_cancel(ctx: Context[TaskServices], id: TaskId | None = None) -> Reply:
    """End a task: one that waits is dropped, and of one that runs the turn is ended.

    Args:
        id: as `tasks` shows it; its beginning is enough. In a task's thread it is that one, when left out.
    """
    from bot.tasks.service import cancel

    return await cancel(ctx, id)


@command("task now", permission=ADMIN, help_section="tasks")
async def task_now(ctx: Context[TaskServices], id: TaskId | None = None) -> Reply:
    """Run at once what a limit or the pace holds: what it misses is authorized for an hour, and it goes first.

    Args:
        id: as `tasks` shows it; its beginning is enough. In a task's thread it is that one, when left out.
    """
    from bot.tasks.run_now import run_now

    return await run_now(ctx, id)


@command("task close", permission=OPERATOR, help_section="tasks")
async def task_close(ctx: Context[TaskServices], id: TaskId | None = None, *, failed: bool = False) -> Reply:
    """Say that a task is done whose agent ended its turn without saying so.

    Args:
        id: as `tasks` shows it; its beginning is enough. In a task's thread it is that one, when left out.
        failed: it failed.
    """
    from bot.tasks.service import close

    return await close(ctx, id, failed=failed)
