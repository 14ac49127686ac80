"""Rules that would have answered a request."""

from __future__ import annotations

from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.rules import ApprovalRule


def suggestions(facts: RequestFacts) -> tuple[ApprovalRule, ...]:
    """Return rules that would allow a request: exactly it, then its prefix, where that adds no authority."""
    if facts.kind != "execute" or facts.command is None:
        return ()
    return (ApprovalRule(id="", effect="allow", kind="execute", command=facts.command),)
