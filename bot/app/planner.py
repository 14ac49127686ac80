"""The assembly of an installation's agents, created from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bot.agents.messages import onboarding_prompt
from bot.app import pane_commands
from bot.commands.registry import CommandTable
from bot.config.paths import Paths
from bot.interfaces.mcp.server import tools_for
from bot.issue_runs.agent_tools.instructions import instructions as issue_instructions
from bot.issue_runs.agent_tools.offers import TOOLS as ISSUE_TOOLS
from bot.setup.runtime_login import login_home
from database.engine.store import Store
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.forge import issue_runs
from fleet.approval_rules.rules import ApprovalRule
from fleet.launch.host_spec_builder import Assembly, Introduction
from fleet.launch.launch_plan import DesiredAgent, Planner
from fleet.roles import library
from fleet.sandbox.egress_grant import OpenWay


def assembly(
    planner: Planner,
    paths: Paths,
    environ: Mapping[str, str],
    *,
    store: Store,
    table: CommandTable,
    open_way: OpenWay | None,
    ends_with: str = "",
    accounts_of: Callable[[AgentRow], Awaitable[Mapping[str, str]]] | None = None,
    rules_of: Callable[[DesiredAgent], Awaitable[Sequence[ApprovalRule]]] | None = None,
) -> Assembly:
    """Return the assembly that starts an installation's agents.

    Args:
        planner: the planner of the agents.
        paths: the installation.
        environ: the environment in which references to secrets are resolved.
        store: the register, for the fleet's introduction to an agent.
        table: the commands, some of which agents use as tools.
        open_way: opens outbound access; None if agents get none.
        ends_with: the process with which agent hosts end (fleet.supervision.owner_process); empty: they outlive all.
        accounts_of: returns the account per provider for an agent's row, and selects one if necessary.
        rules_of: returns the approval rules whose scopes hold for an agent.
    """

    async def introduce(name: str) -> Introduction:
        async with store.read() as tx:
            row, rows = await agents.get(tx, name), await agents.every(tx)
            run = await issue_runs.of_agent(tx, name)
        if row is None:
            return Introduction()
        roles = await asyncio.to_thread(library, paths.roles)
        text, tools = onboarding_prompt.introduction(row, rows), tools_for(row.role, roles, table)
        if run is None or run.state == "destroyed":
            return Introduction(text=text, tools=tools)
        own = () if run.pull_request is None else (run.pull_request,)
        return Introduction(text=f"{text}\n\n{issue_instructions(run.number, own)}", tools=(*tools, *ISSUE_TOOLS))

    async def leased(wanted: DesiredAgent) -> Mapping[str, str]:
        if accounts_of is None:
            return {}
        async with store.read() as tx:
            row = await agents.get(tx, wanted.name)
        return {} if row is None else await accounts_of(row)

    return Assembly(
        planner=planner,
        socket_of=paths.agent_socket,
        login_of=lambda runtime: login_home(paths, runtime),
        environ=environ,
        tools_socket_of=paths.tools_socket,
        introduce=introduce,
        viewer_of=lambda name: pane_commands.agent(paths, name),
        ends_with=ends_with,
        installation=paths.label,
        open_way=open_way,
        accounts_of=leased,
        rules_of=rules_of,
    )
