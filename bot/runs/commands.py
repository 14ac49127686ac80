"""Commands of the section *runs*: one prompt for one agent, until its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import ADMIN, OPERATOR
from bot.commands.argument_types import AgentName, ColorName, Duration, RoleName, RunId, RuntimeName, SandboxName
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.commands.context import Context
    from bot.runs.services import RunServices


@command("run", permission=OPERATOR, help_section="runs")
async def run(
    ctx: Context[RunServices],
    role_or_agent: RoleName | None = None,
    *,
    prompt: str,
    resume: AgentName | None = None,
    name: AgentName | None = None,
    color: ColorName | None = None,
    runtime: RuntimeName | None = None,
    model: str | None = None,
    sandbox: SandboxName | None = None,
    workspace: str | None = None,
    budget: str | None = None,
    timeout: Duration | None = None,
) -> Reply:
    """Run one prompt with an agent of its own, until its outcome is known. Nothing is ever asked.

    In a shell it prints the answer as it grows, and its exit status is the outcome. Afterwards the agent is frozen.

    Args:
        role_or_agent: a role, or an agent of the roster that does not run.
        prompt: what the agent is to do, passed on as it is. In a shell, - reads it from standard input.
        resume: a frozen agent that goes on with its conversation, in place of a new one.
        name: what the agent is called; NAME-2, NAME-3 and so on if the name is taken. Default: the role or agent.
        color: a color by which the run can be told from others: one of the 16 of terminals, such as cyan or bright-red.
        runtime: the agent program to run: claude, codex, opencode, pi, sim or custom.
        model: the model for the runtime.
        sandbox: bubblewrap, none (admins only), a profile from muster.yaml, or several joined by + (admins only).
        workspace: the folder it works in, or the repository that it gets a clone of (admins only, unless the roster
            names it).
        budget: tokens that it may use at most, such as 500k or 2M. It only lowers other limits.
        timeout: when it is cancelled, such as 30m, counted from now.
    """
    from bot.runs.request import begin_run

    return await begin_run(
        ctx,
        role_or_agent,
        prompt=prompt,
        resume=resume,
        name=name,
        color=color,
        asked={"runtime": runtime, "model": model, "sandbox": sandbox, "workspace": workspace},
        budget=budget,
        timeout=timeout,
    )


@command("runs", permission=OPERATOR, help_section="runs", audited=False, effects=False)
async def runs(ctx: Context[RunServices], id: RunId | None = None) -> Reply:
    """Show the runs that go on and the last that ended, or everything about one.

    Args:
        id: the run's id or the beginning of it, such as 5e7a; of an issue's run also owner/repo#17.
    """
    from bot.runs.request import show

    return await show(ctx, id)


@command("runs retry", permission=OPERATOR, help_section="runs")
async def runs_retry(ctx: Context[RunServices], id: RunId) -> Reply:
    """Repeat a run that has ended, with the same prompt and settings, or put an issue back into the queue.

    A resumed agent is resumed once more.

    Args:
        id: the run's id or the beginning of it, such as 5e7a; of an issue's run also owner/repo#17.
    """
    from bot.runs.request import retry

    return await retry(ctx, id)


@command("runs now", permission=ADMIN, help_section="runs")
async def runs_now(ctx: Context[RunServices], id: RunId) -> Reply:
    """Begin a run now that waits. What the pace holds is authorized for an hour; an issue needs no free place.

    Args:
        id: the run's id, or the beginning of it.
    """
    from bot.runs.begin_now import begin_now

    return await begin_now(ctx, id)


@command("runs stop", permission=OPERATOR, help_section="runs")
async def runs_stop(ctx: Context[RunServices], id: RunId) -> Reply:
    """End a run at once: its turn is cancelled, and its agent frozen. An issue that waits is taken off the queue.

    Args:
        id: the run's id or the beginning of it, such as 5e7a; of an issue's run also owner/repo#17.
    """
    from bot.runs.request import stop

    return await stop(ctx, id)
