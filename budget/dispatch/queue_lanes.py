"""The lanes of waiting tasks. Pure.

A waiting task blocks only similar tasks, so a decision needs only the first task of each lane.
"""

from __future__ import annotations


def lane_of(
    *, kind: str, operator: str, role: str | None, agent: str | None, urgency: str, estimate: float | None = None
) -> str:
    """Return the lane in which a task waits.

    A task that waits for room blocks only tasks with the same need. So tasks of another kind or estimated size have a
    lane of their own, and so do messages to an agent.
    """
    target = f"agent:{agent}" if agent is not None else f"role:{role}"
    return f"{urgency}/{kind}/{size_of(estimate)}/{target}/{operator}"


def size_of(estimate: float | None) -> str:
    """Return the size class of an estimate: one of a few steps, each four times the one before."""
    if estimate is None:
        return "-"
    size, within = 0, _SMALLEST
    while size < _SIZES and estimate > within:
        size, within = size + 1, within * 4
    return str(size)


#: The maximum tokens of the smallest size class. Each class is four times the one before; the last is unbounded.
_SMALLEST = 1000.0
_SIZES = 9


def aside(lane: str) -> str:
    """Return the lane for tasks that would block their own lane, because only another limit lets them begin."""
    return lane if lane.endswith("/aside") else f"{lane}/aside"
