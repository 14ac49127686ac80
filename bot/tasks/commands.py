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
    """Queue a task. A free agent gets it as soon as the pace of spending allows.

    Without --role or --agent it is for the agent whose thread it is written in, or else for the orchestrator.

    Args:
        text: the task.
        role: for any agent with this role.
        agent: for this agent only.
        urgency: low yields to others, high may borrow from the next day, critical may exceed a limit within an
            authorization.
        deadline: when it must have started: 2h, 3d, "2026-11-25 09:00". It is refused if it cannot start before.
        estimate: what it will use, such as 200k. Default: what similar tasks used.
        kind: what it is, such as task, review or fix. Costs are learned per kind.
        parent: the task that it is a part of. The same agent is preferred.
        retries: how often to try again when its agent crashes or its turn fails.
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
    """Show what agents work on and what waits, with why, and the projected and actual cost: tasks, issues and runs.

    Args:
        all: include what ended in the last seven days.
    """
    from bot.tasks.service import listing

    return await listing(ctx, all=all)


@command("task show", permission=OPERATOR, help_section="tasks", audited=False, effects=False)
@command("task", permission=OPERATOR, help_section="tasks", audited=False, effects=False)
async def task(ctx: Context[TaskServices], id: TaskId | None = None) -> Reply:
    """Show a task with each of its steps.

    Args:
        id: the task's id, or the beginning of it, from `tasks`. In a task's thread it can be left out.
    """
    from bot.tasks.service import show

    return await show(ctx, id)


@command("task cancel", permission=OPERATOR, help_section="tasks")
async def task_cancel(ctx: Context[TaskServices], id: TaskId | None = None) -> Reply:
    """Cancel a task. If an agent works on it, its turn ends.

    Args:
        id: the task's id, or the beginning of it, from `tasks`. In a task's thread it can be left out.
    """
    from bot.tasks.service import cancel

    return await cancel(ctx, id)


@command("task now", permission=ADMIN, help_section="tasks")
async def task_now(ctx: Context[TaskServices], id: TaskId | None = None) -> Reply:
    """Start a task now that a limit or the pace holds. What it needs is authorized for an hour.

    Args:
        id: the task's id, or the beginning of it, from `tasks`. In a task's thread it can be left out.
    """
    from bot.tasks.run_now import run_now

    return await run_now(ctx, id)


@command("task close", permission=OPERATOR, help_section="tasks")
async def task_close(ctx: Context[TaskServices], id: TaskId | None = None, *, failed: bool = False) -> Reply:
    """Close a task whose agent ended its turn without a result.

    Args:
        id: the task's id, or the beginning of it, from `tasks`. In a task's thread it can be left out.
        failed: it failed.
    """
    from bot.tasks.service import close

    return await close(ctx, id, failed=failed)
