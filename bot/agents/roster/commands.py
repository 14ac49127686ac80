"""Commands of the section *fleet* about the roster: showing, applying and changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import OPERATOR, VIEWER
from bot.commands.argument_types import AccountName, AgentName, RoleName, RoleWords, RuntimeName, SandboxName
from bot.commands.registry import Reply, command
from bot.commands.syntax import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bot.agents.services import AgentServices
    from bot.commands.context import Context


@command("roster", permission=VIEWER, help_section="fleet", audited=False, effects=False)
async def roster(ctx: Context[AgentServices]) -> Reply:
    """Show the roster: its agents, its problems, and the changes that are not applied yet."""
    from bot.agents.roster.service import look

    return await look(ctx)


@command("roster apply", permission=OPERATOR, help_section="fleet")
async def roster_apply(ctx: Context[AgentServices]) -> Reply:
    """Apply the current roster.yaml and muster.yaml, and report what changed.

    From muster.yaml, accounts, budgets, sandbox profiles and schedules apply at once; the rest waits for a restart of
    Muster. Agents whose settings changed restart at the end of their turn, in their session. Agents that are no longer
    in the roster stop. Persistent agents that never ran are launched. Agents that a person stopped stay stopped.
    """
    from bot.agents.roster.service import apply

    return await apply(ctx)


@command("roles", permission=VIEWER, help_section="fleet", audited=False, effects=False)
async def roles(ctx: Context[AgentServices], name: RoleWords | None = None) -> Reply:
    """List the roles with their mandates, or show one role's page.

    Args:
        name: the role to show.
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
    """Add an agent to the roster without starting it.

    The rest of roster.yaml stays as it is. Settings that are not given come from the roster's defaults.

    Args:
        name: the agent's name: lower-case letters, digits and dashes.
        role: its role; `roles` lists them.
        runtime: the agent program to run: claude, codex, opencode, pi or sim.
        model: the model for the runtime.
        sandbox: bubblewrap, none (admins only), or a profile from muster.yaml.
        workspace: the folder it works in (admins only).
        account: the account from muster.yaml that it uses.
        alias: the name that chat shows beside its own.
        prompt: instructions that come before its first message.
        hosting: where it runs: process, tmux (`attach NAME` in a shell shows it) or systemd (it survives a reboot).
        persistent: start it whenever Muster starts.
        instead_of: the agent that it replaces, which stops and leaves the roster.
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


@command(
    "remove",
    permission=OPERATOR,
    help_section="fleet",
    confirm=True,
    undo=f"{command_line('add')} adds it again.",
    check=_can_go,
)
async def remove(ctx: Context[AgentServices], name: AgentName, *, now: bool = False) -> Reply:
    """Remove an agent from the roster, and stop it when its turn ends. Its workspace and its session stay.

    The only orchestrator and the only enhancer cannot be removed, unless the roster is minimal.

    Args:
        name: the agent.
        now: cancel the turn instead of waiting for its end.
    """
    from bot.agents.roster.service import remove_agent

    return await remove_agent(ctx, name, now=now)
