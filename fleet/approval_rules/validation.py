"""Check an approval rule before it holds."""

from __future__ import annotations

from fleet.approval_rules.rules import ApprovalRule


def validate(rule: ApprovalRule) -> None:
    """Check a rule.

    Raises:
        ValueError: it would allow more than it says, or nothing; the message says what to write instead.
    """
    if rule.command is not None and not rule.command.strip():
        raise ValueError("the command is empty.")
