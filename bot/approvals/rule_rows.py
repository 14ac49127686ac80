"""Approval rules that are added by command, in the register."""

from __future__ import annotations

import hashlib

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.text.errors import UserError
from database.queries.chat import approval_rules
from database.queries.chat.approval_rules import RuleRow
from fleet.approval_rules.rules import ApprovalRule
from fleet.control.rules_in_force import MOST_RULES

#: The longest and the shortest time of a rule that ends, in seconds.
LONGEST_S = 31 * 86_400.0
SHORTEST_S = 60.0
#: Rules that can be added by command. Agents have those of muster.yaml and of presets besides.
MOST_ADDED = MOST_RULES // 2


def rule_id(seed: str) -> str:
    """Return the id of the rule that a command or an answer adds."""
    return f"r{hashlib.blake2s(f'approval rule {seed}'.encode()).hexdigest()[:6]}"


async def check_room(tx: AsyncConnection, now: float) -> None:
    """Check that one more rule can be added.

    Raises:
        UserError: there are too many.
    """
    if len(await approval_rules.every(tx, now)) >= MOST_ADDED:
        raise UserError(
            f"No rule was added: there are {MOST_ADDED} already. {command_line('approvals rule remove ID')} removes "
            "one; rules that hold for good belong into muster.yaml.",
            code="approval_rule.too_many",
        )


async def keep(tx: AsyncConnection, rule: ApprovalRule, *, by: str, now: float) -> None:
    """Write a rule into the register."""
    row = RuleRow(
        id=rule.id,
        effect=rule.effect,
        kind=rule.kind,
        scope=rule.scope,
        command=rule.command,
        match=rule.match,
        paths=list(rule.paths),
        tool=rule.tool,
        url_host=rule.host,
        sandbox_only=rule.sandbox_only,
        until=rule.until,
        added_by=by,
        added_at=now,
    )
    await approval_rules.add(tx, row)
