"""Judge a permission request by the rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleet.approval_rules.requests import RequestFacts, Verdict
from fleet.approval_rules.rules import ApprovalRule


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
    return Verdict(effect="ask", rule=None, reason="No rule matches.")
