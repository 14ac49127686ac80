"""The approval rules of an agent: those of its preset, those of muster.yaml, and those that were added by command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, cast

from bot.approvals.rule_scopes import RuledAgent, holds, of_agent
from bot.commands.services import CommandServices
from bot.config.approvals import DEFAULT_PRESET, PresetName, ScopeApprovals
from bot.config.projects import presets as presets_of_projects
from bot.config.schema import Settings
from database.queries.chat import approval_rules
from database.queries.chat.approval_rules import RuleRow
from fleet.approval_rules import presets
from fleet.approval_rules.rules import ApprovalRule, CommandMatch, Effect, Kind
from fleet.sandbox.profiles import named

#: Where a rule is from that was added by command.
COMMAND = "operator"

Scopes: TypeAlias = Mapping[str, ScopeApprovals]
"""Scopes with their presets and rules, the widest first."""


class RuledRow(Protocol):
    """An agent in the register (database.queries.agents.agents.AgentRow)."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def sandbox(self) -> str: ...
    @property
    def workspace(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What holds an agent besides the rules."""

    sandboxed: bool
    open_network: bool
    """Whether it gets out of its sandbox in another way than through the egress."""


def rule_of(row: RuleRow) -> ApprovalRule:
    """Return the rule of a row."""
    return ApprovalRule(
        id=row.id,
        effect=cast("Effect", row.effect),
        kind=cast("Kind", row.kind),
        scope=row.scope,
        command=row.command,
        match=cast("CommandMatch", row.match),
        paths=tuple(row.paths),
        tool=row.tool,
        host=row.url_host,
        sandbox_only=row.sandbox_only,
        origin=COMMAND,
        until=row.until,
    )


def agent_of(row: RuledRow) -> RuledAgent:
    """Return what decides which rules hold for the agent."""
    return RuledAgent(name=row.name, role=row.role, workspace=Path(row.workspace), sandbox=row.sandbox)


def scopes_of(settings: Settings) -> Scopes:
    """Return every scope of muster.yaml with its preset and rules, the widest first."""
    return settings.approvals.scopes(presets_of_projects(settings.projects))


def preset_of(scopes: Scopes, agent: RuledAgent) -> PresetName:
    """Return the preset of an agent: that of the narrowest scope that names one."""
    named = [block.preset for scope, block in scopes.items() if holds(scope, agent) and block.preset]
    return named[-1] if named else DEFAULT_PRESET


def combined(
    scopes: Scopes, added: Sequence[ApprovalRule], agent: RuledAgent, isolation: Isolation
) -> tuple[ApprovalRule, ...]:
    """Return the rules that hold for an agent. A narrower scope lifts no rule that denies.

    Args:
        scopes: the scopes of muster.yaml, the widest first.
        added: the rules that were added by command.
        agent: the agent.
        isolation: what holds it.
    """

    def of_preset(name: PresetName) -> tuple[ApprovalRule, ...]:
        return presets.rules_of(name, sandboxed=isolation.sandboxed, open_network=isolation.open_network)

    rules = list(of_preset(preset_of(scopes, agent)))
    for scope, block in scopes.items():
        if not holds(scope, agent):
            continue
        if block.preset is not None:
            # The narrowest preset replaces the wider ones, all but what they deny.
            rules += [rule for rule in of_preset(block.preset) if rule.effect == "deny"]
        rules += block.rules.rules(scope)
    rules += of_agent(added, agent)
    return tuple({rule.id: rule for rule in rules}.values())


async def added_rules(services: CommandServices) -> list[ApprovalRule]:
    """Return the rules that were added by command and have not ended."""
    async with services.store.read() as tx:
        return [rule_of(row) for row in await approval_rules.every(tx, services.clock())]


def isolation_of(services: CommandServices, sandbox: str) -> Isolation:
    """Return how the sandbox profile of this name isolates agents now."""
    planner = services.planner
    profile = named(sandbox, planner.profiles)
    if profile is None or profile.kind == "none":
        return Isolation(sandboxed=False, open_network=True)
    # A folder that it can write is a way out as well.
    leaves = not planner.with_way or bool(profile.routes) or any(each.writable for each in profile.mounts)
    return Isolation(sandboxed=True, open_network=leaves)


async def rules_of(services: CommandServices, row: RuledRow) -> tuple[ApprovalRule, ...]:
    """Return the rules that hold for an agent now."""
    isolation = isolation_of(services, row.sandbox)
    return combined(scopes_of(services.settings), await added_rules(services), agent_of(row), isolation)
