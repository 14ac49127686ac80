"""The lanes that tasks wait in. What waits for room holds up only what is like it, so that of each lane only the first
task has to be looked at. Pure."""

from __future__ import annotations


def lane_of(
    *, kind: str, operator: str, role: str | None, agent: str | None, urgency: str, estimate: float | None = None
) -> str:
    """Return the lane that a task waits in. What waits for room holds up only what needs as much: tasks of another
    kind, or that are said to be of another size, have a lane of their own. So have words to an agent."""
    target = f"agent:{agent}" if agent is not None else f"role:{role}"
    return f"{urgency}/{kind}/{size_of(estimate)}/{target}/{operator}"


def size_of(estimate: float | None) -> str:
    """About how large a task is said to be: powers of four of a thousand tokens, of which there are few."""
    if estimate is None:
        return "-"
    size, within = 0, _SMALLEST
    while size < _SIZES and estimate > within:
        size, within = size + 1, within * 4
    return str(size)


#: The smallest size of a task: up to so many tokens. Each is four times the one before, and the last has no end.
_SMALLEST = 1000.0
_SIZES = 9


def aside(lane: str) -> str:
    """Return the lane of those that would block theirs, because nothing but another limit lets them begin."""
    return lane if lane.endswith("/aside") else f"{lane}/aside"
