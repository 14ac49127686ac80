"""The agents that can take a task now, and the reason if none can. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from budget.dispatch.model import (
    LONGEST_RETRY_S,
    DispatchAgent,
    DispatchLimits,
    LaneHead,
    QueueView,
    Readiness,
    TaskWait,
)


def takers(head: LaneHead, view: QueueView, use: Counter[str]) -> list[DispatchAgent] | TaskWait:
    """Return the agents that can take a task now, the preferred one first, or why there is none.

    These are the idle agents, or if none is idle, the agents that can be started for the task.
    """
    if head.not_before is not None and 0 < head.not_before - view.now <= LONGEST_RETRY_S:
        return TaskWait(task=head.id, why="retry", text="It failed, and is tried again.", look_at=head.not_before)
    able = [agent for agent in view.agents if fits(agent, head)]
    idle = sorted(
        (agent for agent in able if agent.readiness == "idle"),
        key=lambda agent: (agent.name != head.prefers, agent.free_since, agent.name),
    )
    starting = any(agent.readiness == "starting" for agent in able)
    could_start = [] if starting or not view.policy.start_agents else [a for a in able if may_start(a, head)]
    found: list[DispatchAgent] = []
    waits: list[TaskWait] = []
    for agent in [*idle, *([] if idle else sorted(could_start, key=lambda agent: agent.name))]:
        why = _full(head, agent, view.limits, use)
        if why is None and agent.readiness == "startable":
            why = view.not_started(head, agent)
        if why is None:
            found.append(agent)
        else:
            waits.append(replace(why, task=head.id))
    return found or (soonest(waits) if waits else _nobody_free(head, able))


def soonest(waits: Sequence[TaskWait]) -> TaskWait:
    """Return the wait that ends first: a known time precedes an unknown one, and an unknown one precedes never."""
    return min(waits, key=lambda wait: (wait.never, wait.look_at is None, wait.look_at or 0.0))


def present(head: LaneHead, view: QueueView) -> DispatchAgent | None:
    """Return an agent that could take a task, now or once it is free, or None."""
    ready = [agent for agent in view.agents if fits(agent, head) and agent.readiness not in ("down", "away")]
    return next((agent for agent in ready if agent.readiness != "startable" or may_start(agent, head)), None)


def fits(agent: DispatchAgent, head: LaneHead) -> bool:
    if head.agent is not None:
        return agent.name == head.agent
    return agent.role == head.role and not agent.has_purpose


def may_start(agent: DispatchAgent, head: LaneHead) -> bool:
    return agent.readiness == "startable" and (agent.stopped_at is None or agent.stopped_at < head.created_at)


def _nobody_free(head: LaneHead, able: Sequence[DispatchAgent]) -> TaskWait:
    states = {agent.readiness for agent in able}
    if "starting" in states:
        names = ", ".join(agent.name for agent in able if agent.readiness == "starting")
        return TaskWait(task=head.id, why="starting", text=f"{names} is starting.")
    if "busy" in states:
        held = [f"{agent.name} waits for your word on task {agent.holds}" for agent in able if agent.holds]
        said = f"{head.agent} is busy" if head.agent is not None else f"Every agent of the role {head.role} is busy"
        return TaskWait(task=head.id, why="busy", text=said + (f"; {held[0]}." if held else "."))
    if able:
        named = ", ".join(f"{agent.name} is {_WORDS[agent.readiness]}" for agent in able[:3])
        return TaskWait(task=head.id, why="nobody", text=f"No agent that could do it runs: {named}.")
    said = f"There is no agent {head.agent}" if head.agent is not None else f"No agent has the role {head.role}"
    return TaskWait(task=head.id, why="nobody", text=f"{said}.")


_WORDS: Mapping[Readiness, str] = {
    "down": "not running",
    "startable": "not running",
    "away": "frozen or cut off",
    "idle": "idle",
    "busy": "busy",
    "starting": "starting",
}


def places(role: str | None, runtime: str | None, account: str | None) -> list[str]:
    return ["host", f"role {role}", f"runtime {runtime}", f"account {account}"]


def _full(head: LaneHead, agent: DispatchAgent, limits: DispatchLimits, use: Counter[str]) -> TaskWait | None:
    """Return a wait if the maximum number of tasks is running, or None."""
    held: tuple[tuple[str, int | None, str], ...] = (
        ("host", limits.host, "on this host"),
        (f"role {agent.role}", limits.roles.get(agent.role), f"of the role {agent.role}"),
        (f"runtime {agent.runtime}", limits.runtimes.get(agent.runtime), f"with the runtime {agent.runtime}"),
        (f"account {agent.account}", limits.accounts.get(agent.account or ""), f"on the account {agent.account}"),
    )
    for place, most, words in held:
        if most is not None and use[place] >= most:
            text = f"{use[place]} tasks {words} are under way, and {most} may be at once."
            return TaskWait(task=head.id, why="concurrency", text=text)
    return None
