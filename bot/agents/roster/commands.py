"""Commands of the section *fleet* about the roster: who is in it, what differs, and changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR, VIEWER
from bot.commands.argument_types import AccountName, AgentName, RoleName, RoleWords, RuntimeName, SandboxName
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bot.agents.services import AgentServices
    from bot.commands.context import Context


@command("roster", permission=VIEWER, help_section="fleet", audited=False, effects=False)
async def roster(ctx: Context[AgentServices]) -> Reply:
    """The roster: who is in it, what is wrong with it, and what of it is not applied yet."""
    from bot.agents.roster.service import look

    return await look(ctx)


@command("roster apply", permission=OPERATOR, help_section="fleet")
async def roster_apply(ctx: Context[AgentServices]) -> Reply:
    """Do what roster.yaml and muster.yaml say by now, and say what that was.

    Of muster.yaml, accounts, budgets, sandbox profiles and schedules are taken up at once; the rest waits for a restart
    of Muster.
    Agents whose settings changed start again at the end of their turn, in their session. Those that are no longer in
    the roster stop. Persistent ones that never ran are launched. Agents that somebody stopped stay stopped.
    """
    from bot.agents.roster.service import apply

    return await apply(ctx)


@command("roles", permission=VIEWER, help_section="fleet", audited=False, effects=False)
async def roles(ctx: Context[AgentServices], name: RoleWords | None = None) -> Reply:
    """What agents can be for: each role's mandate, or all of one role's page.

    Args:
        name: the role to show whole.
    """
    from bot.agents.roster.service import show_roles

    return await show_roles(ctx, name)


@command("add", permission=OPERATOR, help_section="fleet")
async def add(
    ctx: Context[AgentServices],
    name: AgentName,
    *,
    role: RoleName | None = None,
    runtime: RuntimeName | None = None,
    model: str | None = None,
    sandbox: SandboxName | None = None,
    workspace: str | None = None,
    account: AccountName | None = None,
    alias: str | None = None,
    prompt: str | None = None,
    hosting: str | None = None,
    persistent: bool = False,
    instead_of: AgentName | None = None,
) -> Reply:
    """Write an agent into the roster without starting it.

    Everything else in roster.yaml stays as it is. What is not said here comes from the roster's defaults.

    Args:
        name: how it is called: lower-case letters, digits and dashes.
        role: what it is for; `roles` lists the roles.
        runtime: the program that is its mind: claude, codex, opencode, pi or sim.
        model: the model that the runtime is to use.
        sandbox: bubblewrap, none (an admin's decision), or a profile of muster.yaml.
        workspace: the folder it works in (an admin's decision).
        account: the account of muster.yaml that it uses.
        alias: what chat shows beside the name.
        prompt: what it is told before its first message.
        hosting: where it runs: process, tmux (`attach NAME` in a shell looks in) or systemd (it survives a reboot).
        persistent: have it brought up whenever Muster starts.
        instead_of: an agent whose place it takes; that one stops, and leaves the roster.
    """
    from bot.agents.roster.service import add_agent

    entry = {
        "role": role,
        "runtime": runtime,
        "model": model,
        "alias": alias,
        "persistent": persistent or None,
        "workspace": workspace,
        "sandbox": sandbox,
        "account": account,
        "prompt": prompt,
        "hosting": hosting,
    }
    return await add_agent(ctx, name, entry, instead_of=instead_of)


async def _can_go(services: AgentServices, arguments: Mapping[str, Any]) -> None:
    from bot.agents.roster.service import check_known

    await check_known(services, arguments["name"])


@command("remove", permission=OPERATOR, help_section="fleet", confirm=True, check=_can_go)
async def remove(ctx: Context[AgentServices], name: AgentName, *, now: bool = False) -> Reply:
    """Take an agent out of the roster and stop it when its turn ends. Its workspace and its session stay.

    The only orchestrator cannot be removed, nor the only enhancer, unless the roster is a minimal one.

    Args:
        name: the agent.
        now: cancel the turn instead of waiting for its end.
    """
    from bot.agents.roster.service import remove_agent

    return await remove_agent(ctx, name, now=now)
