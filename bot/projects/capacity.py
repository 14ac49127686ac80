"""Which topics may run: bounded per project and for the fleet, in the order in which they were asked for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.config.projects import ProjectBlock
from database.queries.chat.topics import Topic

#: States in which the agent of a topic has a place: it runs, or what it did is being taken over.
RUNNING: Final = frozenset({"open", "ending"})
#: Seconds for which a topic must be idle before it makes room for one that waits.
MAKES_ROOM_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicLimits:
    projects: Mapping[str, ProjectBlock]
    at_once: int
    """How many topics of all projects may run at a time."""

    def of(self, project: str) -> int:
        """Return how many topics of a project may run at a time.

        Those of a project that was removed are not held back: when they begin, it is said that it is gone.
        """
        found = self.projects.get(project)
        return self.at_once if found is None else found.topics


def can_begin(topics: Sequence[Topic], limits: TopicLimits, *, not_now: Collection[str] = ()) -> list[Topic]:
    """Return the waiting topics for which there is room, in their order.

    Args:
        topics: all topics that have not ended, those that have waited longest first.
        limits: how many may run.
        not_now: ids of topics that cannot begin for another reason; they keep nobody else waiting.
    """
    running = Counter(each.project for each in topics if each.state in RUNNING)
    found = []
    for each in topics:
        if each.state not in ("waiting", "waking") or each.id in not_now:
            continue
        if running.total() < limits.at_once and running[each.project] < limits.of(each.project):
            running[each.project] += 1
            found.append(each)
    return found


def wait_for_agents(topics: Sequence[Topic], begin: Collection[Topic]) -> bool:
    """Return whether a topic goes on as soon as an agent ends: it ends with its agent, or waits for a place.

    Args:
        topics: all topics that have not ended.
        begin: the ones of them that begin now.
    """
    return any(each.state == "ending" or (each.state in ("waiting", "waking") and each not in begin) for each in topics)


def place_in_line(topics: Sequence[Topic], limits: TopicLimits, topic: Topic) -> int | None:
    """Return how many topics are before a waiting one, or None if it can begin now."""
    if topic.id in {each.id for each in can_begin(topics, limits)}:
        return None
    whole = sum(each.state in RUNNING for each in topics) >= limits.at_once
    before = [
        each
        for each in topics
        if each.state in ("waiting", "waking") and (whole or each.project == topic.project) and each.id != topic.id
    ]
    return sum(each.queued_at <= topic.queued_at for each in before)


def idle_ones(
    topics: Sequence[Topic], limits: TopicLimits, idle_since: Callable[[Topic], float | None], now: float
) -> list[Topic]:
    """Return the open topics whose agents are to be frozen, the longest idle first.

    Args:
        topics: all topics that have not ended.
        limits: how many may run, and how long a topic of each project may be idle.
        idle_since: returns since when a topic's agent has had nothing to do, or None if it has, or nobody knows.
        now: seconds since the epoch.
    """
    since = {each.id: at for each in topics if each.state == "open" and (at := idle_since(each)) is not None}
    found = []
    for each in sorted((each for each in topics if each.id in since), key=lambda each: since[each.id]):
        project = limits.projects.get(each.project)
        patience = MAKES_ROOM_S if project is None else project.idle
        if now - since[each.id] >= patience:
            found.append(each)
    starting = {each.id for each in can_begin(topics, limits)}
    waiting = [each for each in topics if each.state in ("waiting", "waking") and each.id not in starting]
    for one in waiting:
        full = sum(each.state in RUNNING for each in topics) >= limits.at_once
        for each in sorted((each for each in topics if each.id in since), key=lambda each: since[each.id]):
            fits = each.project == one.project or full
            if fits and each not in found and now - since[each.id] >= MAKES_ROOM_S:
                found.append(each)
                break
    return found
