"""What comparing a request with rules comes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from fleet.approval_rules.rules import ApprovalRule


class RuleMatch(IntEnum):
    """How sure it is that a rule is about a request."""

    NO = 0
    MAYBE = 1
    """The request cannot be known well enough to say."""
    YES = 2


@dataclass(frozen=True, slots=True)
class AllowingRules:
    """The rules that allow a request together, or why none do."""

    rules: tuple[ApprovalRule, ...] = ()
    reason: str = ""


def shown(words: str) -> str:
    """Return words of a request inside a sentence of ours, short and on one line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in words).split()).replace("`", "'")
    return f"`{line}`" if len(line) <= 80 else f"`{line[:80]}…`"
