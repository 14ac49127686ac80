"""Which task is given to which agent now, and why the others wait. Pure; times are seconds since the epoch.

Tasks of one operator, target, urgency, kind and size form a lane and go in their order, so only the first of each is
looked at (its head), however many wait behind it. Among heads:

1. the more urgent goes first. A task that has waited for `Policy.aging_s` counts as one step more urgent, and so on, so
   that each comes first some day;
2. of equal ones, operators and the roles of an operator take turns by what their tasks cost (`budget.fairness`);
3. of one flow, the one that was asked for first.

A task begins when an agent is free for it, fewer than the limits allow are under way, and every window that it draws on
has room (`budget.pacing`). One that waits for room does not hold the others up, so that nothing stands idle; but once
it has waited for `Policy.aging_s`, what was asked for later does not begin on that window before it; or where it is
more than a day of the window gives, only with part of the pace (`budget.saving`). ``low`` yields: while anything more
urgent waits for a window, it does not begin on it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from budget import fairness, interactive, pacing
from budget.fairness import Share
from budget.lanes import aside, lane_of, size_of
from budget.precedence import Holder, behind, hold, kept
from budget.work import (
    AGENT,
    LONGEST_RETRY_S,
    TURN,
    URGENCIES,
    Agent,
    Assign,
    Decision,
    Head,
    Limits,
    Live,
    Policy,
    Readiness,
    Refuse,
    Start,
    View,
    Wait,
    Why,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from budget.pacing import Cost, Standing, Urgency
    from budget.precedence import Holders

__all__ = [
    "AGENT",
    "LONGEST_RETRY_S",
    "TURN",
    "URGENCIES",
    "Agent",
    "Assign",
    "Decision",
    "Head",
    "Limits",
    "Live",
    "Policy",
    "Readiness",
    "Refuse",
    "Start",
    "View",
    "Wait",
    "Why",
    "admitted_as",
    "aside",
    "decide",
    "lane_of",
    "rank",
    "size_of",
]


def rank(head: Head, now: float, policy: Policy) -> int:
    """How urgent it is by now: 0 for low to 3 for critical."""
    aged = int(head.waited(now) // policy.aging_s) if policy.aging_s > 0 else 0
    return min(len(URGENCIES) - 1, URGENCIES.index(head.urgency) + aged)


def admitted_as(head: Head, now: float, policy: Policy) -> Urgency:
    """By whose gate its cost is measured: having waited makes ``low`` normal, and gives nobody a right to borrow."""
    return "normal" if head.urgency == "low" and rank(head, now, policy) > 0 else head.urgency


def decide(view: View) -> Decision:
    """The next step. Do it, and ask again with what it changed, until there is none."""
    now = view.now
    known: pacing.Known = {}
    by_rank: dict[int, list[Head]] = {}
    for head in sorted(view.heads, key=lambda head: head.seq):
        by_rank.setdefault(rank(head, now, view.policy), []).append(head)
    use = Counter[str]()
    for each in view.live:
        use.update(_places(each.role, each.runtime, each.account))
    waits: list[Wait] = []
    # Windows for which somebody waits, and the earliest who have waited for so long that others let them go first.
    wanted: set[str] = set()
    holders: Holders = {}
    for level in sorted(by_rank, reverse=True):
        ready: list[tuple[Head, Assign | Start]] = []
        held: list[Wait] = []
        for head in by_rank[level]:
            found = _look(head, view, use, known)
            if isinstance(found, Refuse):
                return Decision(step=found, waits=waits)
            if not isinstance(found, Wait):
                ready.append((head, found))
                continue
            held.append(found)
            if found.why == "pace" and not found.never and head.waited(now) >= view.policy.aging_s:
                hold(holders, Holder(head=head, wait=found))
        free: list[tuple[Head, Assign | Start]] = []
        for head, step in ready:
            yields = behind(head, step, view, holders, wanted if level == 0 else frozenset())
            if yields is None:
                free.append((head, step))
            else:
                held.append(yields)
        waits += held
        if free:
            return Decision(step=_pick(free, held, by_rank[level], view), waits=waits)
        wanted.update(window for wait in held if wait.why == "pace" and not wait.never for window in wait.keeps)
    return Decision(step=None, waits=waits)


def _pick(
    free: Sequence[tuple[Head, Assign | Start]], held: Sequence[Wait], heads: Sequence[Head], view: View
) -> Assign | Start:
    """Of those that can begin the one whose turn it is."""
    first: dict[tuple[str, str], tuple[Head, Assign | Start]] = {}
    for head, step in free:
        first.setdefault(head.flow, (head, step))
    ready = [
        Share(operator=head.flow[0], role=head.flow[1], cost=_charge(head, step, view)) for head, step in first.values()
    ]
    waiting = {wait.task for wait in held}
    blocked = {head.flow for head in heads if head.id in waiting}
    share, deficits = fairness.next_share(ready, view.deficits, blocked=blocked)
    head, step = first[share.operator, share.role]
    if isinstance(step, Start):
        return step
    others = len(ready) - 1
    turn = f"it is the turn of {head.flow[0]}" if others else "nothing else could begin"
    return replace(step, deficits=deficits, why=f"{step.why}; {turn}")


def _charge(head: Head, step: Assign | Start, view: View) -> float:
    """What its flows are charged: what is written down as projected, against which it is corrected in the end."""
    return step.cost.tokens if isinstance(step, Assign) else view.cost(head, None).tokens


def _look(head: Head, view: View, use: Counter[str], known: pacing.Known) -> Assign | Start | Refuse | Wait:
    """What becomes of one head, as if it were the only one."""
    now = view.now
    if head.deadline is not None and now >= head.deadline:
        return Refuse(task=head.id, why="its deadline is past")
    found = _tried(head, view, use, known)
    if isinstance(found, Wait) and head.deadline is not None:
        if found.look_at is not None and found.look_at > head.deadline:
            if _may_begin(head, view, use):
                return replace(found, look_at=head.deadline)
            return Refuse(task=head.id, why=f"nothing lets it begin before its deadline: {found.text}")
        if found.never:
            return Refuse(task=head.id, why=found.text)
        if found.look_at is None:
            return replace(found, look_at=head.deadline)
    return found


def _may_begin(head: Head, view: View, use: Counter[str]) -> bool:
    """Whether it might begin before its deadline if what is under way used nothing more: tasks end early, too."""
    draws: dict[str, list[Standing]] = {}

    def free(agent: Agent) -> Sequence[Standing]:
        if agent.name not in draws:
            draws[agent.name] = [
                replace(standing, reserved=0.0, reserved_high=None, under_way=0) for standing in view.draw(agent)
            ]
        return draws[agent.name]

    found = _tried(head, replace(view, draw=free), use, {})
    if not isinstance(found, Wait):
        return True
    assert head.deadline is not None
    return not found.never and (found.look_at is None or found.look_at <= head.deadline)


def _tried(head: Head, view: View, use: Counter[str], known: pacing.Known) -> Assign | Start | Wait:
    if head.not_before is not None and 0 < head.not_before - view.now <= LONGEST_RETRY_S:
        return Wait(task=head.id, why="retry", text="It failed, and is tried again.", look_at=head.not_before)
    able = [agent for agent in view.agents if _fits(agent, head)]
    if head.kind == TURN:
        # Words wait in the agent's own queue as ever; only the pace holds them here.
        if not able:
            return Wait(task=head.id, why="nobody", text=f"There is no agent {head.agent} any more.")
        paced = _spoken(head, able[0], view) if head.is_of_person else _paced(head, able[0], view, known)
        return paced if isinstance(paced, Wait) else _assign(head, able[0], paced, "the pace allows it")
    idle = sorted(
        (agent for agent in able if agent.readiness == "idle"),
        key=lambda agent: (agent.name != head.prefers, agent.free_since, agent.name),
    )
    starting = any(agent.readiness == "starting" for agent in able)
    could_start = [] if starting or not view.policy.start_agents else [a for a in able if _may_start(a, head)]
    waits: list[Wait] = []
    # What held the one before, and for what cost: it holds the next at least as long, if that draws on it.
    holds: tuple[Cost, str] | None = None
    for agent in [*idle, *([] if idle else sorted(could_start, key=lambda agent: agent.name))]:
        full = _full(head, agent, view.limits, use)
        if full is not None:
            waits.append(full)
            continue
        if agent.readiness == "startable":
            tried = view.not_started(head, agent)
            if tried is None:
                return Start(
                    task=head.id, agent=agent.name, why=f"nobody who could do it is free, and {agent.name} can"
                )
            waits.append(replace(tried, task=head.id))
            continue
        if holds is not None and _is_held(head, agent, view, *holds):
            continue
        paced = _paced(head, agent, view, known)
        if not isinstance(paced, Wait):
            return _assign(head, agent, paced, f"{agent.name} is free")
        waits.append(paced)
        if paced.cost is not None:
            holds = paced.cost, paced.windows[0]
    if waits:
        # What opens first, and what opens at a time before what opens some day.
        return min(waits, key=lambda wait: (wait.never, wait.look_at is None, wait.look_at or 0.0))
    return _nobody_free(head, able)


def _assign(head: Head, agent: Agent, cost: Cost, why: str) -> Assign:
    return Assign(task=head.id, agent=agent.name, cost=cost, why=why, deficits={})


def _fits(agent: Agent, head: Head) -> bool:
    return agent.name == head.agent if head.agent is not None else agent.role == head.role


def _may_start(agent: Agent, head: Head) -> bool:
    return agent.readiness == "startable" and (agent.stopped_at is None or agent.stopped_at < head.created_at)


def _nobody_free(head: Head, able: Sequence[Agent]) -> Wait:
    states = {agent.readiness for agent in able}
    if "starting" in states:
        names = ", ".join(agent.name for agent in able if agent.readiness == "starting")
        return Wait(task=head.id, why="starting", text=f"{names} is starting.")
    if "busy" in states:
        held = [f"{agent.name} waits for your word on task {agent.holds}" for agent in able if agent.holds]
        said = f"{head.agent} is busy" if head.agent is not None else f"Every agent of the role {head.role} is busy"
        return Wait(task=head.id, why="busy", text=said + (f"; {held[0]}." if held else "."))
    if able:
        named = ", ".join(f"{agent.name} is {_WORDS[agent.readiness]}" for agent in able[:3])
        return Wait(task=head.id, why="nobody", text=f"Nobody who could do it runs: {named}.")
    said = f"There is no agent {head.agent}" if head.agent is not None else f"No agent has the role {head.role}"
    return Wait(task=head.id, why="nobody", text=f"{said}.")


_WORDS: Mapping[Readiness, str] = {
    "down": "not running",
    "startable": "not running",
    "away": "frozen or cut off",
    "idle": "idle",
    "busy": "busy",
    "starting": "starting",
}


def _places(role: str | None, runtime: str | None, account: str | None) -> list[str]:
    return ["host", f"role {role}", f"runtime {runtime}", f"account {account}"]


def _full(head: Head, agent: Agent, limits: Limits, use: Counter[str]) -> Wait | None:
    """That as many as may be are under way."""
    held: tuple[tuple[str, int | None, str], ...] = (
        ("host", limits.host, "on this host"),
        (f"role {agent.role}", limits.roles.get(agent.role), f"of the role {agent.role}"),
        (f"runtime {agent.runtime}", limits.runtimes.get(agent.runtime), f"with the runtime {agent.runtime}"),
        (f"account {agent.account}", limits.accounts.get(agent.account or ""), f"on the account {agent.account}"),
    )
    for place, most, words in held:
        if most is not None and use[place] >= most:
            text = f"{use[place]} tasks {words} are under way, and {most} may be at once."
            return Wait(task=head.id, why="concurrency", text=text)
    return None


def _paced(head: Head, agent: Agent, view: View, known: pacing.Known) -> Cost | Wait:
    """What it is projected to cost, if the windows have room for that."""
    cost = view.cost(head, agent)
    standings = view.draw(agent)
    urgency = admitted_as(head, view.now, view.policy)
    saves_from = head.created_at + view.policy.aging_s
    found = pacing.decide(standings, cost, urgency, view.now, view.pacing, known=known, saves_from=saves_from)
    if isinstance(found, pacing.Admitted):
        return cost
    return replace(Wait.of(found, task=head.id), keeps=kept(found, standings), cost=cost)


def _spoken(head: Head, agent: Agent, view: View) -> Cost | Wait:
    """What a person's words are projected to cost, if they begin now (`budget.interactive`)."""
    cost = view.cost(head, agent)
    found = interactive.decide(view.draw(agent), cost, view.now, view.pacing)
    if isinstance(found, interactive.Begins):
        return cost
    return replace(Wait.of(found, task=head.id), cost=cost)


def _is_held(head: Head, agent: Agent, view: View, cost: Cost, window: str) -> bool:
    """Whether a window that holds a task of this cost is one that the agent draws on."""
    return view.cost(head, agent) == cost and any(each.window.key == window for each in view.draw(agent))
