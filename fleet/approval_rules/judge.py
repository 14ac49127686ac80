"""Judge a permission request by the rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleet.approval_rules.requests import RequestFacts, Verdict
from fleet.approval_rules.rules import EFFECTS, ApprovalRule


def judge(
    facts: RequestFacts, rules: Sequence[ApprovalRule], *, workspace: Path, sandboxed: bool, now: float
) -> Verdict:
    """Return the verdict of the rules that hold for an agent.

    Args:
        facts: the request.
        rules: all rules whose scopes hold for the agent, presets' included.
        workspace: the folder that holds the agent's work, on this machine.
        sandboxed: whether the agent runs in a sandbox.
        now: Unix time, for rules that end.
    """
    matching = [
        rule
        for rule in rules
        if (rule.until is None or now < rule.until)
        and rule.kind in (facts.kind, "any")
        and rule.command in (None, facts.command)
        and facts.kind is not None
    ]
    for effect in EFFECTS:
        for rule in matching:
            if rule.effect == effect:
                return Verdict(effect=effect, rule=rule, reason=f"Rule {rule.id}: {effect} {rule.kind} {rule.command}.")
    return Verdict(effect="ask", rule=None, reason="No rule matches.")
