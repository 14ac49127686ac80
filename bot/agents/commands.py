"""Commands of the section *fleet*: listing, starting, stopping and inspecting agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR, VIEWER
from bot.commands.argument_types import AgentName, RoleName, RuntimeName, SandboxName
from bot.commands.doors import AT_HOME
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bot.agents.services import AgentServices
    from bot.commands.context import Context


@command("ps", permission=VIEWER, help_section="fleet", audited=False, effects=False)
async def ps(ctx: Context[AgentServices], *, all: bool = False) -> Reply:
    """Show each agent's state, how it is known and since when, and what the agent does.

    Args:
        all: include stopped agents and differences between the roster and what runs.
    """
    from bot.agents import fleet_loader, status_view

    fleet = await fleet_loader.load(ctx.services, drift=ctx.services.drift if all else None)
    now = ctx.services.clock()
    return Reply(status_view.fleet_text(fleet, now, everybody=all), status_view.fleet_json(fleet, now, everybody=all))


@command("launch", permission=OPERATOR, help_section="fleet", argument_doors={"session": AT_HOME})
async def launch(
    ctx: Context[AgentServices],
    name: AgentName,
    *,
    role: RoleName | None = None,
    runtime: RuntimeName | None = None,
    model: str | None = None,
    sandbox: SandboxName | None = None,
    workspace: str | None = None,
    task: str | None = None,
    budget: str | None = None,
    session: str | None = None,
) -> Reply:
    """Start an agent in its own thread, and add it to the roster if it is new.

    A running agent keeps its settings. It gets the task as a message, and the answer says so.

    Args:
        name: the agent's name: lower-case letters, digits and dashes.
        role: its role, such as coder or orchestrator; `roles` lists them.
        runtime: the agent program to run: claude, codex, opencode, pi, sim or custom.
        model: the model for the runtime.
        sandbox: bubblewrap, none (admins only), or a profile from muster.yaml.
        workspace: the folder it works in, or the repository that it gets a clone of (admins only, unless the roster
            names
            it).
        task: its first message.
        budget: tokens that this launch may use, such as 500k or 2M. Only admins can raise an existing limit.
        session: a conversation of yours that it goes on in, from `sessions` (admins only).
    """
    from bot.agents.launch import launch_agent
    from bot.commands.agent_lock import custody

    async with custody(ctx, name, "launch") as held:
        return await launch_agent(
            held,
            name,
            role=role,
            runtime=runtime,
            model=model,
            sandbox=sandbox,
            workspace=workspace,
            task=task,
            budget=budget,
            session=session,
        )


@command("stop", permission=OPERATOR, help_section="fleet")
async def stop(ctx: Context[AgentServices], name: AgentName, *, now: bool = False) -> Reply:
    """Stop an agent when its turn ends. It keeps its session and its queued messages.

    In a shell, this works while Muster does not run, too.

    Args:
        name: the agent.
        now: cancel the turn instead of waiting for its end.
    """
    from bot.agents.stop import stop_agent
    from bot.commands.agent_lock import custody

    async with custody(ctx, name, "stop") as held:
        return await stop_agent(held, name, now=now)


@command("restart", permission=OPERATOR, help_section="fleet")
async def restart(ctx: Context[AgentServices], name: AgentName, *, now: bool = False) -> Reply:
    """Stop an agent when its turn ends, and start it again in the same session with the roster's current settings.

    Settings given to `launch` stay.

    Args:
        name: the agent.
        now: cancel the turn instead of waiting for its end.
    """
    from bot.agents.restart import restart_agent
    from bot.commands.agent_lock import custody

    async with custody(ctx, name, "restart") as held:
        return await restart_agent(held, name, now=now)


@command("freeze", permission=OPERATOR, help_section="fleet")
async def freeze(ctx: Context[AgentServices], name: AgentName, *, now: bool = False) -> Reply:
    """End an agent's process when its turn ends, and keep its workspace, conversation and queue.

    In a shell, this works while Muster does not run, too.

    Args:
        name: the agent.
        now: cancel the turn instead of waiting for its end.
    """
    from bot.agents.freeze import freeze_agent
    from bot.commands.agent_lock import custody

    async with custody(ctx, name, "freeze") as held:
        return await freeze_agent(held, name, now=now)


@command("resume", permission=OPERATOR, help_section="fleet")
async def resume(ctx: Context[AgentServices], name: AgentName, *, prompt: str | None = None) -> Reply:
    """Bring back a frozen agent with its workspace and, if its runtime kept it, its conversation.

    In a shell, an agent that was frozen while Muster did not run comes back without Muster, too.

    Args:
        name: the agent.
        prompt: a message for it, after those in its queue.
    """
    from bot.agents.freeze import resume_agent
    from bot.commands.agent_lock import custody

    async with custody(ctx, name, "resume") as held:
        return await resume_agent(held, name, prompt=prompt)


async def _is_known(services: AgentServices, arguments: Mapping[str, Any]) -> None:
    await services.agents.get(arguments["name"])


@command("kill", permission=OPERATOR, help_section="fleet", confirm=True, check=_is_known)
async def kill(ctx: Context[AgentServices], name: AgentName, *, discard: bool = False) -> Reply:
    """Stop an agent and all its processes at once, and give up its session.

    In a shell, this works while Muster does not run, too.

    Args:
        name: the agent.
        discard: also delete its workspace, with any work that was not fetched or pushed.
    """
    from bot.agents.stop import kill_agent
    from bot.commands.agent_lock import custody

    async with custody(ctx, name, "kill") as held:
        return await kill_agent(held, name, discard=discard)


@command("tail", permission=VIEWER, help_section="fleet", audited=False, effects=False)
async def tail(ctx: Context[AgentServices], name: AgentName, entries: int = 20) -> Reply:
    """Show the last entries of an agent's journal.

    Args:
        name: the agent.
        entries: how many, at most 200. Default: 20.
    """
    from bot.agents import status_view
    from bot.text.errors import UsageError
    from bot.text.timestamps import timestamp

    if not 1 <= entries <= 200:
        raise UsageError(f"ENTRIES must be from 1 to 200, not {entries}.")
    found = status_view.unsplit(await ctx.services.agents.tail(name, entries), ctx.services.redact)
    return Reply(
        status_view.journal_text(found, ctx.services.settings.timezone, ctx.services.redact),
        [{**entry.to_json(), "at": timestamp(entry.at)} for entry in found],
    )


@command("watch", permission=VIEWER, help_section="fleet", audited=False, effects=False)
async def watch(ctx: Context[AgentServices], name: AgentName) -> Reply:
    """Keep one message with an agent's state up to date for half an hour.

    Args:
        name: the agent.
    """
    from bot.agents import fleet_loader, status_view

    agent = await fleet_loader.load_agent(ctx.services, name)
    ctx.services.watches.add(ctx, name)
    now = ctx.services.clock()
    return Reply(status_view.agent_text(agent, now), status_view.agent_json(agent, now))
