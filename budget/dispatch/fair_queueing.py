"""Weighted fair queueing by virtual time: the order of the queues. Pure, without a clock.

A queue holds the tasks of one operator at one urgency. Each urgency has a weight, divided equally among its operators
with waiting work. A queue stores one number: the tokens that were charged to it, divided by its weight. The queue with
the lowest number, plus its next task's projected cost over its weight, is next (self-clocked fair queueing, Golestani
1994; stride scheduling, Waldspurger 1995).

The number is kept relative to the lowest number of the busy queues: how far this queue is ahead of it. So a queue that
becomes busy starts at 0, no lower than the lowest busy one. A queue that waits for an agent, or for a limit of its own,
keeps its distance: it neither gains nor loses. An idle queue keeps what it owes, and pays it off while others are
served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: The relative share of the tokens for each urgency.
WEIGHTS: Mapping[str, float] = {"high": 8.0, "normal": 4.0, "low": 1.0}
#: The urgency that precedes all others. The same rules order the critical tasks among themselves.
CRITICAL = "critical"
#: The operator whose share all agents use that act without a person's request.
AGENTS = "agents"
#: A task is charged at least this many tokens, so that tasks that cost nothing do not go on forever.
LEAST_COST = 1.0
#: Distances below this are 0.
_NOTHING = 1e-6


def queue_of(urgency: str, operator: str) -> str:
    """Return the key of the queue of this operator's tasks at this urgency."""
    payer = AGENTS if operator.startswith(("agent:", "role:")) else operator
    return f"{urgency} {payer}"


def urgency_of(queue: str) -> str:
    """Return the urgency of a queue."""
    return queue.partition(" ")[0]


def weights(busy: Iterable[str]) -> dict[str, float]:
    """Return the weight of each queue with waiting work."""
    queues = sorted(set(busy))
    count = Counter(urgency_of(queue) for queue in queues)
    return {queue: WEIGHTS.get(urgency_of(queue), 1.0) / count[urgency_of(queue)] for queue in queues}


def finish(ahead: float, cost: float, weight: float) -> float:
    """Return the number of a queue after the charge of this cost. The queue with the lowest one is next."""
    return ahead + max(LEAST_COST, cost) / weight


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """The charge of a queue for a task that begins."""

    queue: str
    cost: float
    """The projected cost of the task, in tokens."""
    weight: float
    """The weight of the queue."""
    busy: frozenset[str] = frozenset()
    """Queues with a task that could begin now on its turn."""
    held: frozenset[str] = frozenset()
    """Queues that only wait for an agent or for a limit of their own."""

    def on(self, ahead: Mapping[str, float]) -> dict[str, float]:
        """Return the distance of each queue to the lowest busy one after the charge, from the distance before."""
        busy = {*self.busy, self.queue}
        is_critical = urgency_of(self.queue) == CRITICAL
        # Critical queues have a virtual time of their own.
        space = {each for each in {*ahead, *busy} if (urgency_of(each) == CRITICAL) == is_critical}
        lowest = min(ahead.get(each, 0.0) for each in busy & space)
        after = dict(ahead)
        for each in space:
            distance = ahead.get(each, 0.0)
            if each in busy:
                after[each] = distance - lowest
            elif each not in self.held:
                after[each] = max(0.0, distance - lowest)
        after[self.queue] = finish(after[self.queue], self.cost, self.weight)
        return {each: distance for each, distance in after.items() if abs(distance) > _NOTHING}


def settled(ahead: float, *, weight: float, charged: float, actual: float, waits: bool) -> float:
    """Return a queue's distance after the actual cost of a task replaces the charge.

    Args:
        ahead: the distance before.
        weight: the weight that divided the charge.
        charged: the charge in tokens.
        actual: the actual cost in tokens.
        waits: whether the queue has waiting work. Without it, a refund gives no credit for later.
    """
    after = ahead + (max(LEAST_COST, actual) - max(LEAST_COST, charged)) / weight
    return after if waits else max(min(ahead, 0.0), after)
