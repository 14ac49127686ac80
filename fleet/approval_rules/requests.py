"""What a rule may see of one permission request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fleet.approval_rules.rules import ApprovalRule, Effect, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What a runtime's request is about, as its adapter says."""

    kind: Kind | None
    """None: the runtime does not say, or we do not understand it; such a request is asked."""
    command: str | None = None
    """Of kind ``execute``: the exact shell command, the runtime's own wrapper removed; None: unknown."""
    paths: tuple[str, ...] = ()
    """Of kinds ``read`` and ``edit``: the paths as the runtime sees them; empty: unknown."""
    tool: str | None = None
    """Of kind ``mcp``: ``SERVER/TOOL``."""
    url: str | None = None
    """Of kind ``fetch``."""
    cwd: str | None = None
    """Of kind ``execute``: the folder in which the command would run; None: the runtime does not say."""
    cwd_unknown: bool = False
    """Whether the runtime may run the command in another folder than the workspace without saying so."""

    def to_json(self) -> dict[str, Any]:
        """Return what is known of the request as JSON; empty if nothing is."""
        return {name: list(value) if name == "paths" else value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RequestFacts:
        """Return the facts that `to_json` gave. Fields of a newer version are dropped."""
        known = {name: raw[name] for name in cls.__slots__ if raw.get(name)}
        return cls(**{"kind": None, **known, "paths": tuple(raw.get("paths", ()))})


#: The facts of a request of which nothing is known.
UNKNOWN = RequestFacts(kind=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdict:
    """What the rules say of one request."""

    effect: Effect
    rule: ApprovalRule | None
    """The rule that decided; None: none matched, or the request could not be judged."""
    reason: str
    """One sentence for the audit."""
