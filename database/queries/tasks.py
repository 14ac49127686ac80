"""The dispatch queue: tasks, from what a person asked for to its end, and each step of the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, case, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import BATCH
from database.engine.id_batches import AT_ONCE, batches
from database.engine.store import insert_into, insert_once
from database.queries.record import Record
from database.queries.task_states import ENDED, LIVE, OPEN, TRANSITIONS, TaskEvent
from database.schema import fair_queues, task_events, tasks

#: Why a task waits, where what may be spent holds it.
SPENDING = ("pace", "limit", "unknown", "price")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task(Record):
    """One task. Tokens are weighted tokens, money is US dollars, times are seconds since the epoch."""

    id: str
    #: task, turn (an operator's words to an agent, held for a while), or a word of the operator's
    kind: str
    text: str
    role: str | None = None
    agent: str | None = None
    urgency: str = "normal"
    lane: str
    operator: str
    #: The operator whose queue it is in; None: who asked.
    charged_to: str | None = None
    deadline: float | None = None
    estimate: float | None = None
    parent: str | None = None
    #: As `database.queries.agents.agent_messages.AgentMessage` has them.
    attachments: Sequence[Mapping[str, Any]] = ()
    connector: str | None = None
    conversation: str | None = None
    event_id: str | None = None
    answer_in: str | None = None
    #: The outbox key of the message that opens its thread; None: it has none.
    thread_key: str | None = None
    #: queued, dispatched, running, waiting, done, failed or cancelled
    state: str = "queued"
    why: str | None = None
    reason: str | None = None
    look_at: float | None = None
    #: How often it was given to an agent.
    attempt: int = 0
    #: How often more it may be tried.
    retries: int = 0
    assigned: str | None = None
    runtime: str | None = None
    model: str | None = None
    account: str | None = None
    message: str | None = None
    projected_tokens: float | None = None
    projected_usd: float | None = None
    #: Of its queue when it was charged; None: nothing was charged.
    weight: float | None = None
    #: Since when it saves (budget.windows.large_task_accrual).
    saves_from: float | None = None
    actual_tokens: float | None = None
    actual_usd: float | None = None
    summary: str | None = None
    created_at: float
    dispatched_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    updated_at: float
    seq: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskStep(Record):
    """One step of a task."""

    task: str
    at: float
    state: str
    reason: str | None = None
    #: What it was decided on.
    decision: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCounts:
    """How many tasks are in each state that is not an end."""

    by_state: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, state: str) -> int:
        return self.by_state.get(state, 0)


# --- writing -----------------------------------------------------------------------------------------------------


async def add(tx: AsyncConnection, task: Task) -> bool:
    """Put a task into the queue; False when its id is known already, and then nothing is changed."""
    values = {name: getattr(task, name) for name in Task.__dataclass_fields__ if name != "seq"}
    new = await insert_once(tx, tasks, **values)
    if new:
        await _step(tx, TaskStep(task=task.id, at=task.created_at, state=task.state, reason=task.reason))
    return new


async def change(
    tx: AsyncConnection,
    task_id: str,
    event: TaskEvent,
    *,
    now: float,
    only: Sequence[str] | None = None,
    attempt_is: int | None = None,
    decision: Mapping[str, Any] | None = None,
    step: bool = True,
    **values: Any,
) -> bool:
    """Apply an event to a task, and record the step.

    Args:
        tx: the transaction to write in.
        task_id: the whole id.
        event: what happens. `task_states.TRANSITIONS` gives the state that follows.
        now: seconds since the epoch.
        only: the states to apply it in, if they are fewer than the event allows.
        attempt_is: apply it only if this is the latest attempt.
        decision: what the step was decided on, for the record.
        step: whether to record the step.
        values: other columns to set.

    Returns:
        False if the task is in another state or attempt. Nothing is changed then.
    """
    legal = TRANSITIONS[event]
    sources = legal.sources if only is None else [state for state in legal.sources if state in only]
    where = [tasks.c.id == task_id, tasks.c.state.in_(sources)]
    if attempt_is is not None:
        where.append(tasks.c.attempt == attempt_is)
    if legal.target is not None:
        values["state"] = legal.target
    changed = (await tx.execute(update(tasks).where(*where).values(updated_at=now, **values))).rowcount > 0
    if changed and step:
        state = values.get("state")
        if state is None:
            state = await tx.scalar(select(tasks.c.state).where(tasks.c.id == task_id))
        reason = values.get("reason") or values.get("summary")
        await _step(tx, TaskStep(task=task_id, at=now, state=str(state), reason=reason, decision=decision))
    return changed


async def _step(tx: AsyncConnection, step: TaskStep) -> None:
    values = step.columns()
    await tx.execute(insert(task_events).values(**values))


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete tasks that ended before `before`, a batch of them with their steps; return how many tasks."""
    old = select(tasks.c.id).where(tasks.c.state.in_(ENDED), tasks.c.ended_at < before).limit(BATCH)
    over = list(await tx.scalars(old))
    await tx.execute(delete(task_events).where(task_events.c.task.in_(over)))
    return (await tx.execute(delete(tasks).where(tasks.c.id.in_(over)))).rowcount


# --- looking -----------------------------------------------------------------------------------------------------


async def get(tx: AsyncConnection, task_id: str) -> Task | None:
    return await Task.one(tx, select(tasks).where(tasks.c.id == task_id))


async def find(tx: AsyncConnection, begins: str, *, limit: int = 10) -> list[Task]:
    """Return the tasks whose ids begin so, newest first."""
    found = select(tasks).where(tasks.c.id.startswith(begins, autoescape=True)).order_by(tasks.c.seq.desc())
    return await Task.every(tx, found.limit(limit))


async def lane_heads(tx: AsyncConnection, *, limit: int = 1000) -> list[Task]:
    """Return the first queued task of each lane. Each costs two looks into the index, however many wait behind it. Of
    very many the oldest, as many of each operator as of the others."""
    queued = tasks.c.state == "queued"
    first = select(func.min(tasks.c.lane).label("lane")).where(queued)
    lanes = first.cte("lanes", recursive=True)
    following = (
        select(func.min(tasks.c.lane)).where(queued, tasks.c.lane > lanes.c.lane).correlate(lanes).scalar_subquery()
    )
    lanes = lanes.union_all(select(following).where(lanes.c.lane.is_not(None)))
    head = tasks.alias("head")
    oldest = (
        select(func.min(head.c.seq))
        .where(head.c.state == "queued", head.c.lane == lanes.c.lane)
        .correlate(lanes)
        .scalar_subquery()
    )
    heads = select(oldest.label("seq")).where(lanes.c.lane.is_not(None)).cte("heads")
    payer = func.coalesce(tasks.c.charged_to, tasks.c.operator)
    place = func.row_number().over(partition_by=payer, order_by=tasks.c.seq)
    found = select(tasks).join(heads, tasks.c.seq == heads.c.seq).order_by(place, tasks.c.seq).limit(limit)
    return sorted(await Task.every(tx, found), key=lambda task: task.seq)


async def overdue(tx: AsyncConnection, now: float, *, limit: int = 100) -> list[Task]:
    """Queued tasks whose deadline is past, wherever in their lanes they stand."""
    found = select(tasks).where(tasks.c.state == "queued", tasks.c.deadline <= now).order_by(tasks.c.seq).limit(limit)
    return await Task.every(tx, found)


async def live(tx: AsyncConnection) -> list[Task]:
    """Return the tasks that agents have, oldest first."""
    return await in_states(tx, LIVE)


async def in_states(tx: AsyncConnection, states: Sequence[str], *, limit: int = 1000) -> list[Task]:
    """Tasks in these states, oldest first."""
    found = select(tasks).where(tasks.c.state.in_(states)).order_by(tasks.c.seq).limit(limit)
    return await Task.every(tx, found)


async def of_agent(tx: AsyncConnection, agent: str, *, states: Sequence[str] = LIVE) -> list[Task]:
    """Return the tasks that an agent has, the one that it was given last first."""
    where = (tasks.c.assigned == agent, tasks.c.state.in_(states))
    found = select(tasks).where(*where).order_by(tasks.c.dispatched_at.desc(), tasks.c.seq.desc())
    return await Task.every(tx, found)


async def named(tx: AsyncConnection, agent: str) -> list[Task]:
    """Return the tasks that are not over and that an agent has, or that wait for it alone, oldest first."""
    where = (tasks.c.state.in_(OPEN), or_(tasks.c.assigned == agent, tasks.c.agent == agent))
    return await Task.every(tx, select(tasks).where(*where).order_by(tasks.c.seq))


async def held_turns(tx: AsyncConnection, agent: str) -> list[Task]:
    """Return what was said to an agent that waits to be said, oldest first."""
    where = (tasks.c.state == "queued", tasks.c.kind == "turn", tasks.c.agent == agent)
    return await Task.every(tx, select(tasks).where(*where).order_by(tasks.c.seq))


async def held_costs(tx: AsyncConnection) -> dict[str, tuple[int, float, float | None]]:
    """By agent how many such words wait, and what they are projected to cost together, in weighted tokens and in US
    dollars; None: of some no price is known."""
    asked = (
        tasks.c.agent,
        func.count(),
        func.sum(tasks.c.projected_tokens),
        func.sum(tasks.c.projected_usd),
        func.count(tasks.c.projected_usd),
    )
    where = (tasks.c.state == "queued", tasks.c.kind == "turn", tasks.c.agent.is_not(None))
    rows = await tx.execute(select(*asked).where(*where).group_by(tasks.c.agent))
    return {
        name: (count, float(tokens or 0.0), float(usd) if usd is not None and priced == count else None)
        for name, count, tokens, usd, priced in rows
    }


async def held_back(tx: AsyncConnection, agent: str | None = None) -> dict[str, tuple[int, float | None]]:
    """By agent how many tasks of its own wait for what may be spent, and when that may be looked at again; for one
    agent, or for all."""
    where = [tasks.c.state == "queued", tasks.c.why.in_(SPENDING), tasks.c.agent.is_not(None)]
    if agent is not None:
        where.append(tasks.c.agent == agent)
    rows = await tx.execute(
        select(tasks.c.agent, func.count(), func.min(tasks.c.look_at)).where(*where).group_by(tasks.c.agent)
    )
    return {name: (count, look_at) for name, count, look_at in rows}


async def by_message(tx: AsyncConnection, message: str) -> Task | None:
    """Return the task that a message carries, if it is the latest that carries it."""
    return await Task.one(tx, select(tasks).where(tasks.c.message == message))


async def by_event(tx: AsyncConnection, connector: str, event_id: str) -> list[Task]:
    """Return the queued tasks that one chat event caused."""
    where = (tasks.c.state == "queued", tasks.c.connector == connector, tasks.c.event_id == event_id)
    return await Task.every(tx, select(tasks).where(*where))


async def ended(tx: AsyncConnection, *, role: str | None = None, since: float = 0.0, limit: int = 1000) -> list[Task]:
    """Tasks that ended since then and of which is known what they used, newest first; of a role, or of all."""
    where = [tasks.c.ended_at >= since, tasks.c.actual_tokens.is_not(None)]
    if role is not None:
        where.append(tasks.c.role == role)
    found = select(tasks).where(*where).order_by(tasks.c.ended_at.desc()).limit(limit)
    return await Task.every(tx, found)


async def unsettled(tx: AsyncConnection, *, since: float, limit: int = 500) -> list[Task]:
    """Tasks that an agent had, which ended since then, and of which no one said yet what they used; oldest first."""
    # Expressions: they are found by when they ended, and not among all that ever did.
    over, order = tasks.c.state.concat("").in_(ENDED), tasks.c.seq + 0
    where = (over, tasks.c.ended_at >= since, tasks.c.actual_tokens.is_(None), tasks.c.attempt > 0)
    found = select(tasks).where(*where).order_by(order).limit(limit)
    return await Task.every(tx, found)


async def with_threads(tx: AsyncConnection, *, since: float, limit: int = 500) -> list[Task]:
    """Tasks that have threads: those that are not over, and those that ended since then; the newest of very many."""
    shown = or_(tasks.c.state.in_(OPEN), and_(tasks.c.state.in_(ENDED), tasks.c.ended_at >= since))
    found = select(tasks).where(shown, tasks.c.thread_key.is_not(None)).order_by(tasks.c.seq.desc()).limit(limit)
    return await Task.every(tx, found)


async def listing(tx: AsyncConnection, *, limit: int = 200) -> list[Task]:
    """Return the tasks that are not over, oldest first."""
    # Those that agents have come before those that wait, however many wait.
    rank = case((tasks.c.state == "queued", 1), else_=0)
    found = select(tasks).where(tasks.c.state.in_(OPEN)).order_by(rank, tasks.c.seq).limit(limit)
    return await Task.every(tx, found)


async def last_ended(tx: AsyncConnection, *, limit: int, since: float = 0.0) -> list[Task]:
    """Return the tasks that ended last, at or after `since`, newest first."""
    where = (tasks.c.state.in_(ENDED), tasks.c.ended_at >= since)
    over = select(tasks).where(*where).order_by(tasks.c.ended_at.desc(), tasks.c.seq.desc())
    return await Task.every(tx, over.limit(limit))


async def counts(tx: AsyncConnection) -> TaskCounts:
    """Return how many tasks are in each state in which they are not over."""
    found = select(tasks.c.state, func.count()).where(tasks.c.state.in_(OPEN)).group_by(tasks.c.state)
    return TaskCounts(by_state={state: int(number) for state, number in await tx.execute(found)})


async def steps(tx: AsyncConnection, task_id: str, *, limit: int = 100) -> list[TaskStep]:
    """Return the steps of a task, oldest first; of very many the last."""
    table = task_events
    found = select(table).where(table.c.task == task_id).order_by(table.c.seq.desc()).limit(limit)
    return (await TaskStep.every(tx, found))[::-1]


async def ahead(tx: AsyncConnection, task: Task) -> int:
    """Return how many queued tasks of its lane come before a task that is queued."""
    if task.state != "queued":
        return 0
    where = (tasks.c.state == "queued", tasks.c.lane == task.lane, tasks.c.seq < task.seq)
    return int(await tx.scalar(select(func.count()).select_from(tasks).where(*where)) or 0)


async def queued_of(tx: AsyncConnection, operator: str) -> int:
    """Return how many tasks that this one asked for wait; words to agents are none."""
    where = (tasks.c.operator == operator, tasks.c.state == "queued", tasks.c.kind != "turn")
    return int(await tx.scalar(select(func.count()).select_from(tasks).where(*where)) or 0)


async def last_told(tx: AsyncConnection, task_id: str) -> TaskStep | None:
    """Return the last step of a task of which someone was told when it would begin."""
    table = task_events
    where = (table.c.task == task_id, table.c.state == "told")
    return await TaskStep.one(tx, select(table).where(*where).order_by(table.c.seq.desc()).limit(1))


async def tell(tx: AsyncConnection, step: TaskStep) -> None:
    """Write down that someone was told of a task."""
    await _step(tx, step)


# --- fairness ----------------------------------------------------------------------------------------------------


async def queues(tx: AsyncConnection) -> dict[str, float]:
    """Return how far each queue is ahead of the lowest busy one (budget.dispatch.fair_queueing); without a row it is
    not."""
    return {row[0]: float(row[1]) for row in await tx.execute(select(fair_queues.c.queue, fair_queues.c.ahead))}


async def keep_queues(tx: AsyncConnection, ahead: Mapping[str, float], *, now: float) -> None:
    """Store how far each queue is ahead; a queue that is missing, or at 0, loses its row."""
    before = await queues(tx)
    gone = [queue for queue in before if not ahead.get(queue)]
    if gone:
        await tx.execute(delete(fair_queues).where(fair_queues.c.queue.in_(gone)))
    new = {queue: each for queue, each in ahead.items() if each and before.get(queue) != each}
    rows = [{"queue": queue, "ahead": each, "updated_at": now} for queue, each in new.items()]
    if rows:
        put = insert_into(tx, fair_queues)
        changed = {name: put.excluded[name] for name in ("ahead", "updated_at")}
        await tx.execute(put.on_conflict_do_update(index_elements=["queue"], set_=changed), rows)


async def waiting(tx: AsyncConnection, urgency: str) -> set[tuple[str, str | None]]:
    """Return for whom tasks of this urgency wait: who asked, and in whose queue it is if that is another's."""
    asked = select(tasks.c.operator, tasks.c.charged_to).distinct()
    where = (tasks.c.state == "queued", tasks.c.lane.startswith(f"{urgency}/"), tasks.c.kind != "turn")
    return {(row[0], row[1]) for row in await tx.execute(asked.where(*where))}


async def given(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, tuple[str | None, int]]:
    """Of each of these tasks the agent that has it, or had it last, and how often it was given to one."""
    found: dict[str, tuple[str | None, int]] = {}
    query = select(tasks.c.id, tasks.c.assigned, tasks.c.attempt)
    for some in batches(ids):
        found |= {row[0]: (row[1], int(row[2])) for row in await tx.execute(query.where(tasks.c.id.in_(some)))}
    return found


async def ended_counts(tx: AsyncConnection, *, since: float) -> dict[str, int]:
    """Return how many tasks ended since then, by the state in which they did."""
    where = (tasks.c.state.in_(ENDED), tasks.c.ended_at >= since)
    found = select(tasks.c.state, func.count()).where(*where).group_by(tasks.c.state)
    return {state: int(number) for state, number in await tx.execute(found)}


async def assigned(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, str]:
    """Return the agent that each of these tasks was given to last; those of no one are missing."""
    wanted = sorted(set(ids))[:AT_ONCE]
    if not wanted:
        return {}
    found = select(tasks.c.id, tasks.c.assigned).where(tasks.c.id.in_(wanted), tasks.c.assigned.is_not(None))
    return {row[0]: row[1] for row in await tx.execute(found)}
