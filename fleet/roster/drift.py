"""Where a roster and the agents that run differ. Pure.

An agent runs as the roster said when it was launched (`fleet.roster.launch_overrides`); what the roster says later does
nothing to it before it is started again. What its launch said itself goes before the roster, and is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from fleet.roster.launch_overrides import FIELDS, Basis, described
from fleet.roster.schema import AgentEntry

#: States in which an agent does not run, and could be started.
ENDED: Final = frozenset({"failed", "stopped"})


class RunningAgent(Protocol):
    """An agent of the register (database.queries.agents.agents.AgentRow)."""

    @property
    def name(self) -> str: ...
    @property
    def wanted(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def basis(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyDifference:
    """A key that says something else than when the agent was launched."""

    key: str
    """Of an environment variable ``env NAME``."""
    before: str | None = None
    after: str | None = None
    """Both None where only that it changed is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RosterChange:
    """What applying the roster would do to one agent."""

    agent: str
    kind: Literal["start", "restart", "stop"]
    """Start a persistent one that never ran; start again what changed; stop who is no longer in the roster."""
    differences: tuple[KeyDifference, ...] = ()


def changes(agents: Iterable[RunningAgent], wanted: Mapping[str, AgentEntry]) -> list[RosterChange]:
    """Return what applying a roster would do, in its order; who is no longer in it comes last.

    Args:
        agents: those of the register.
        wanted: the entries of the roster, by name, defaults filled in.
    """
    known = {agent.name: agent for agent in agents}
    found: list[RosterChange] = []
    for name, entry in wanted.items():
        agent = known.get(name)
        if agent is None:
            if entry.persistent:
                found.append(RosterChange(agent=name, kind="start"))
        elif runs(agent) and (differences := _differences(Basis.from_json(agent.basis), entry)):
            found.append(RosterChange(agent=name, kind="restart", differences=differences))
    return [
        *found,
        *(RosterChange(agent=name, kind="stop") for name, agent in known.items() if runs(agent) and name not in wanted),
    ]


def runs(agent: RunningAgent) -> bool:
    """Return whether it runs, or is about to."""
    return agent.wanted == "running" and agent.state not in ENDED


def _differences(basis: Basis | None, entry: AgentEntry) -> tuple[KeyDifference, ...]:
    if basis is None:
        return ()
    now = described(entry)
    changed = [
        key for key in {**now, **basis.roster} if key not in basis.said and basis.roster.get(key) != now.get(key)
    ]
    return tuple(
        KeyDifference(key=key, before=basis.roster.get(key), after=now.get(key))
        if key in FIELDS
        else KeyDifference(key=key)
        for key in changed
    )
