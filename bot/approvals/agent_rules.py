"""The approval rules of an agent: those of its preset, those of muster.yaml, and those that were added by command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from bot.commands.services import CommandServices
from bot.config.approvals import DEFAULT_PRESET, Approvals, PresetName
from database.queries.chat import approval_rules
from database.queries.chat.approval_rules import RuleRow
from fleet.approval_rules import presets
from fleet.approval_rules.rules import ApprovalRule, CommandMatch, Effect, Kind
from bot.approvals.rule_scopes import RuledAgent, holds, of_agent

#: Where a rule is from that was added by command.
COMMAND = "operator"


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
        origin=COMMAND,
        until=row.until,
    )


def agent_of(row: RuledRow) -> RuledAgent:
    """Return what decides which rules hold for the agent."""
    return RuledAgent(name=row.name, role=row.role, workspace=Path(row.workspace))


def preset_of(settings: Approvals, agent: RuledAgent) -> PresetName:
    """Return the preset of an agent: that of the narrowest scope that names one."""
    named = [block.preset for scope, block in settings.scopes().items() if holds(scope, agent) and block.preset]
    return named[-1] if named else DEFAULT_PRESET


def combined(
    settings: Approvals, added: Sequence[ApprovalRule], agent: RuledAgent, *, sandboxed: bool
) -> tuple[ApprovalRule, ...]:
    """Return the rules that hold for an agent. A narrower scope lifts no rule that denies.

    Args:
        settings: the approvals of muster.yaml.
        added: the rules that were added by command.
        agent: the agent.
        sandboxed: whether it runs in a sandbox.
    """
    rules = list(presets.rules_of(preset_of(settings, agent), sandboxed=sandboxed))
    for scope, block in settings.scopes().items():
        if not holds(scope, agent):
            continue
        if block.preset is not None:
            # The narrowest preset replaces the wider ones, all but what they deny.
            wider = presets.rules_of(block.preset, sandboxed=sandboxed)
            rules += [rule for rule in wider if rule.effect == "deny"]
        rules += block.rules.rules(scope)
    rules += of_agent(added, agent)
    return tuple({rule.id: rule for rule in rules}.values())


async def added_rules(services: CommandServices) -> list[ApprovalRule]:
    """Return the rules that were added by command and have not ended."""
    async with services.store.read() as tx:
        return [rule_of(row) for row in await approval_rules.every(tx, services.clock())]


def is_sandboxed(services: CommandServices, sandbox: str) -> bool:
    """Return whether the profile of this name is a sandbox now."""
    return services.planner.sandbox_kind(sandbox) not in (None, "none")


async def rules_of(services: CommandServices, row: RuledRow) -> tuple[ApprovalRule, ...]:
    """Return the rules that hold for an agent now."""
    sandboxed = is_sandboxed(services, row.sandbox)
    return combined(services.settings.approvals, await added_rules(services), agent_of(row), sandboxed=sandboxed)
