"""The floor under every fleet: exactly one orchestrator, who leads, and at least one enhancer, who mends.

Only rosters of the preset *minimal*, and those with no one in them, go without. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.roles import ENHANCER, ORCHESTRATOR

_WAY_OUT = "or write `preset: minimal` at the top, for a fleet without this rule"


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleBreach:
    """A way in which a fleet does not be on the floor."""

    subject: str
    """Which: the same for the same breach, whatever else changes."""
    agent: int | None
    """Whose doing it is, by its place in the list; None when somebody is missing."""
    message: str


def breaches(agents: Sequence[tuple[str, str | None]]) -> list[RoleBreach]:
    """Return what a fleet lacks, or has too much of.

    Args:
        agents: name and role of each.
    """
    if not agents:
        return []
    found = []
    leads = [index for index, (_, role) in enumerate(agents) if role == ORCHESTRATOR]
    if not leads:
        found.append(
            RoleBreach(
                subject="no orchestrator",
                agent=None,
                message="no agent has the role orchestrator, and a fleet has exactly one. Add one, like `muster add "
                f"lead --role orchestrator`, {_WAY_OUT}.",
            )
        )
    for index in leads[1:]:
        found.append(
            RoleBreach(
                subject=f"another orchestrator {agents[index][0]}",
                agent=index,
                message=f"a second orchestrator beside {agents[leads[0]][0]}, and a fleet has exactly one. Give it "
                f"another role, {_WAY_OUT}.",
            )
        )
    if not any(role == ENHANCER for _, role in agents):
        found.append(
            RoleBreach(
                subject="no enhancer",
                agent=None,
                message="no agent has the role enhancer, and a fleet has at least one. Add one, like `muster add "
                f"polisher --role enhancer`, {_WAY_OUT}.",
            )
        )
    return found
