"""What a launch is on: what it said itself, and what the roster said when it was given. Pure.

A restart takes up what the roster says by then. What the launch said itself stays, or an agent that was given another
model for the day would lose it by being restarted. What a launch wrote into the roster, as the first one of an agent
does, is the roster's from then on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from fleet.roster.schema import Common

#: What a launch can say itself.
FIELDS: Final = ("role", "runtime", "model", "sandbox", "workspace")
#: What it can say besides, which nothing in the roster stands for: how many tokens this launch may use, whether that
#: may be more than would hold without it, and when that was said (seconds since the epoch); and the conversation of the
#: person's that it goes on in.
LAUNCH_ALONE: Final = ("budget", "budget_may_raise", "budget_set_at", "session")
#: What else a start takes from the roster; only whether it changed is kept, not what it was.
_FURTHER: Final = ("prompt", "account", "command", "heartbeat", "clone", "context", "hosting", "tmux_socket")


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What one launch stands on."""

    said: Mapping[str, str]
    """What the launch said itself, of `FIELDS` over the roster, and of `LAUNCH_ALONE`."""
    roster: Mapping[str, str]
    """What the roster's entry said, as `described` has it; empty where there was none."""

    def to_json(self) -> dict[str, Any]:
        return {"said": dict(self.said), "roster": dict(self.roster)}

    @classmethod
    def from_json(cls, source: Any) -> Basis | None:
        """Return what `to_json` made; None where nothing is known, as of a launch by an older version."""
        if not isinstance(source, Mapping):
            return None
        return cls(said=dict(source.get("said") or {}), roster=dict(source.get("roster") or {}))


class LaunchedAgent(Protocol):
    """An agent as it was launched (database.queries.agents.agents.AgentRow), or would be
    (fleet.launch.launch_plan.LaunchPlan)."""

    @property
    def role(self) -> str: ...
    @property
    def runtime(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def sandbox(self) -> str: ...
    @property
    def workspace(self) -> Path | str: ...


@dataclass(frozen=True, slots=True)
class LaunchChange:
    """Something that a restart takes up."""

    field: str
    """One of `FIELDS`, another key of an agent's entry, or ``env NAME``."""
    before: str | None = None
    after: str | None = None
    """Both None where only the change itself is known."""


def described(*sources: Common) -> dict[str, str]:
    """Return what parts of a roster say about how an agent is started; later ones go before earlier ones.

    What can hold a text of any length, or something private, is there as a digest.
    """
    said: dict[str, str] = {}
    for source in sources:
        said |= {name: str(value) for name in FIELDS if (value := getattr(source, name, None)) is not None}
        said |= {name: _digest(value) for name in _FURTHER if (value := getattr(source, name, None)) is not None}
        said |= {f"env {name}": _digest(value) for name, value in source.env.items()}
    return said


def changes(
    before: LaunchedAgent, after: LaunchedAgent, stood: Basis | None, stands: Basis
) -> tuple[LaunchChange, ...]:
    """Return what a start takes up.

    Args:
        before: the agent as it was launched.
        after: as what it would be started now.
        stood: what that launch stands on; None: that is not known.
        stands: what the start would stand on.
    """
    found = []
    for name in FIELDS:
        old, new = _text(getattr(before, name)), _text(getattr(after, name))
        if old != new:
            found.append(LaunchChange(name, old, new))
    known = {} if stood is None else {**stood.roster, **stands.roster}
    for name in known:
        if stood is not None and name not in FIELDS and stood.roster.get(name) != stands.roster.get(name):
            found.append(LaunchChange(name))
    return tuple(found)


def overruled(basis: Basis) -> dict[str, tuple[str, str]]:
    """Return what a launch said itself where the roster says otherwise: both, by the field."""
    return {
        name: (said, basis.roster[name])
        for name, said in basis.said.items()
        if name in FIELDS and name in basis.roster and basis.roster[name] != said
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _digest(value: object) -> str:
    text = json.dumps(value, default=str, sort_keys=True)
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()
