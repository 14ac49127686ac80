"""One approval rule, and its form in JSON, in which an agent host is told it.

A rule says what happens with requests of one kind. Each rule has a scope, but a narrower scope has no precedence: of
all rules that match a request, any ``deny`` wins, then any ``ask``, then any ``allow``. A request that no rule matches
is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

Effect = Literal["deny", "ask", "allow"]
Kind = Literal["read", "edit", "execute", "fetch", "mcp", "any"]
CommandMatch = Literal["exact", "prefix"]
#: Effects, the strongest first.
EFFECTS: Final[tuple[Effect, ...]] = get_args(Effect)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRule:
    """One rule. Of `command`, `paths` and `tool`, those that are given must all match."""

    id: str
    """Names the rule in the audit, in replies and for its removal."""
    effect: Effect
    kind: Kind
    scope: str = "fleet"
    """``fleet``, ``role:NAME``, ``agent:NAME`` or ``workspace:PATH``."""
    command: str | None = None
    """Of kind ``execute``: one simple command, as it would be typed."""
    match: CommandMatch = "exact"
    """Whether a command must be `command`, or begin with its words."""
    paths: tuple[str, ...] = ()
    """Of kinds ``read`` and ``edit``: globs, relative to the workspace; one of them must match each path."""
    tool: str | None = None
    """Of kind ``mcp``: ``SERVER/TOOL``, or ``SERVER/*``."""
    origin: str = "operator"
    """Where the rule is from: ``preset:NAME``, ``muster.yaml`` or ``operator`` (a command)."""
    until: float | None = None
    """Unix time at which the rule ends; None: it does not end."""

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON."""
        return {**asdict(self), "paths": list(self.paths)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ApprovalRule:
        """Return the rule that `to_json` gave."""
        return cls(**{**raw, "paths": tuple(raw.get("paths", ()))})
