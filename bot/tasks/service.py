"""Implementation of `task add`, `tasks` and the commands about one task."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.messaging.thread_owners import agent_of
from bot.pacing import wait_text
from bot.read_models import codec
from bot.tasks import queue_loader, state_machine, submission_policy, wait_reasons
from bot.tasks import text as task_words
from bot.tasks.lookup import find
from bot.tasks.step_services import TaskStepServices
from bot.tasks.text import AGENT
from bot.tasks.threads import TaskThreads
from bot.text import markdown, timestamps
from bot.text.errors import NotPermitted, UsageError, UserError
from budget.amounts import read_tokens
from budget.costs.task_cost import expected, learn
from budget.dispatch.next_task import TURN, lane_of
from budget.windows.pace_admission import Urgency
from core import durations
from core.validation_errors import suggestion, there_are
from database.queries import tasks
from database.queries.agents import agent_messages, agents
from database.queries.agents.agents import AgentRow
from database.queries.spending import usage_queries
from database.queries.task_states import ENDED, LIVE
from database.queries.tasks import SPENDING, Task, TaskStep
from fleet import roles
from fleet.launch.launch_plan import DEFAULT_ROLE
from scheduler.dispatch.task_history import pasts

#: Maximum number of characters of a task. A longer text belongs in a file in the agent's workspace.
LONGEST = 100_000
#: Period in seconds that `tasks --all` covers.
LOOK_BACK_S = 7 * 86_400.0
#: Maximum number of ended tasks that it shows.
_MOST_ENDED = 200
_KIND = re.compile(r"[a-z][a-z0-9-]{0,29}")


# --- adding ------------------------------------------------------------------------------------------------------


async def new_id(tx: AsyncConnection, cause: str) -> str:
    """Return an unused task id, derived from the id of the request."""
    salt = 0
    while True:
        found = hashlib.blake2s(f"task\0{cause}\0{salt}".encode(), digest_size=4).hexdigest()
        if await tasks.get(tx, found) is None:
            return found
        salt += 1


async def add_task(
    tx: AsyncConnection,
    *,
    cause: str,
    text: str,
    operator: str,
    charged_to: str | None = None,
    now: float,
    role: str | None,
    agent: str | None = None,
    kind: str = "task",
    urgency: Urgency = "normal",
    deadline: float | None = None,
    estimate: float | None = None,
    parent: str | None = None,
    retries: int = 0,
    connector: str | None = None,
    conversation: str | None = None,
    event_id: str | None = None,
    answer_in: str | None = None,
    thread_key: str | None = None,
    attachments: Sequence[Mapping[str, Any]] = (),
    why: str | None = None,
    reason: str | None = None,
    look_at: float | None = None,
    projected_tokens: float | None = None,
    projected_usd: float | None = None,
) -> Task:
    """Put a task into the queue, in a transaction that happens exactly once. Wake the dispatcher after the commit.

    Args:
        tx: the transaction, which also records that the request was handled.
        cause: the id of the request.
        text: the work to do.
        operator: the identity of the requester.
        charged_to: the identity whose fair share is charged; None: the requester's.
        now: seconds since the epoch.
        role: the role for the task; for a given agent, the agent's role.
        agent: the only agent that may get the task.
        kind: the kind of work for which costs are learned.
        urgency: low, normal, high or critical.
        deadline: the latest time to begin.
        estimate: a person's estimate in weighted tokens.
        parent: the id of the task that this one is a part of.
        retries: how often the task is retried if its agent dies.
        connector: the connector of the request, as for `conversation` and `event_id`.
        conversation: the conversation of the request, for announcements while the task waits.
        event_id: the message of the request; for a message to an agent, the one that shows the receipts.
        answer_in: for a message to an agent, where it answers; None: in its thread.
        thread_key: the outbox key of the message that will open the task's thread; None: it has none.
        attachments: pictures that came with a message to an agent.
        why: the key of the reason for waiting, if known; the next arguments belong to it.
        reason: the reason for waiting as text.
        look_at: the earliest time at which the task may begin.
        projected_tokens: the projected cost in weighted tokens.
        projected_usd: the projected cost in USD.
    """
    task = Task(
        id=await new_id(tx, cause),
        kind=kind,
        text=text,
        role=role,
        agent=agent,
        urgency=urgency,
        lane=lane_of(kind=kind, operator=operator, role=role, agent=agent, urgency=urgency, estimate=estimate),
        operator=operator,
        charged_to=charged_to,
        deadline=deadline,
        estimate=estimate,
        parent=parent,
        attachments=attachments,
        connector=connector,
        conversation=conversation,
        event_id=event_id,
        answer_in=answer_in,
        thread_key=thread_key,
        why=why,
        reason=reason,
        look_at=look_at,
        retries=retries,
        projected_tokens=projected_tokens,
        projected_usd=projected_usd,
        created_at=now,
        updated_at=now,
    )
    await tasks.add(tx, task)
    return task


async def add(
    ctx: Context[TaskStepServices],
    text: str,
    *,
    role: str | None,
    agent: str | None,
    urgency: Urgency,
    deadline: str | None,
    estimate: str | None,
    kind: str,
    parent: str | None,
    retries: int | None,
) -> Reply:
    services = ctx.services
    zone = services.settings.timezone
    if len(text) > LONGEST:
        raise UserError(
            f"The task is too long: it has {len(text):,} characters, and {LONGEST:,} are allowed. Put it in a file in "
            "the agent's workspace and name the file.",
            code="task.too_long",
        )
    if ctx.identity.startswith(AGENT) and urgency == "critical":
        raise NotPermitted("only people say that a task is critical. Nothing was queued.")
    if not _KIND.fullmatch(kind) or kind == TURN:
        raise UsageError(f"--kind {kind[:40]!r}: expected a word like task, review or fix (a to z, 0 to 9, -).")
    if retries is not None and not 0 <= retries <= 20:
        raise UsageError(f"--retries {retries}: 0 to 20 are allowed.")
    due = None if deadline is None else read_deadline(deadline, now=ctx.asked_at, zone=zone)
    tokens = None if estimate is None else _tokens(estimate)
    role, agent = await _target(ctx, role, agent)
    origin, threads = ctx.origin, TaskThreads(services)

    wanted = urgency
    if ctx.identity.startswith(AGENT):
        urgency = await submission_policy.urgency_of_agent(ctx, wanted)

    async def act(tx: AsyncConnection) -> str:
        await submission_policy.check_room(tx, ctx)
        part_of = None if parent is None else (await find(tx, parent)).id
        task = await add_task(
            tx,
            cause=ctx.run_id,
            text=text,
            operator=ctx.identity,
            charged_to=await submission_policy.payer_of(tx, ctx.identity, services.settings.people),
            now=services.clock(),
            role=role,
            agent=agent,
            kind=kind,
            urgency=urgency,
            deadline=due,
            estimate=tokens,
            parent=part_of,
            retries=services.settings.dispatch.retries if retries is None else retries,
            connector=origin.connector if origin is not None else None,
            conversation=origin.conversation if origin is not None else None,
            event_id=origin.event_id if origin is not None else None,
            thread_key=threads.key_for(ctx),
            # The command's answer reports this reason, so it is not announced again.
            why=IN_LINE,
        )
        await threads.open(tx, task)
        return task.id

    task_id = await ctx.commit("add", act)
    await services.dispatcher.look_once()
    async with services.store.read() as tx:
        task = await tasks.get(tx, task_id)
        ahead = 0 if task is None else await tasks.ahead(tx, task)
        told = await tasks.last_told(tx, task_id)
        projected = None if task is None else await _projected(tx, task, services.clock())
    if task is None:
        return Reply(f"Task {markdown.code(task_id)} was queued.", {"id": task_id, "state": "queued"})
    said = _queued(services, task, ahead, told)
    if task.state not in ENDED and (other := task_words.projected_otherwise(task, projected)) is not None:
        said += f" {other}"
    if task.urgency != wanted:
        said += (
            f" You asked for the urgency {wanted}; what an agent of your role asks for is {task.urgency} at most, so "
            f"it is {task.urgency}. If it cannot wait, ask your operator, who can say that it is {wanted}."
        )
    return Reply(said, task_words.task_json(codec.masked(queue_loader.line_of(task), services.redact)))


#: Reason for waiting of a task that was not examined yet, because it is new or others are before it.
IN_LINE = "in line"


def _queued(services: TaskStepServices, task: Task, ahead: int, told: TaskStep | None) -> str:
    name = markdown.code(task.id)
    if task.state != "queued":
        words = {"done": "is done", "failed": f"is refused: {(task.summary or '').rstrip('.')}"}.get(
            task.state, f"goes to {task.assigned}"
        )
        return f"Task {name} {words}."
    said = f"Task {name} is queued for {task_words.target(task)}."
    if ahead:
        return f"{said} {ahead} of yours {'is' if ahead == 1 else 'are'} before it."
    if task.reason:
        said += f" {task.reason}"
    wait = wait_reasons.wait_of(task, told)
    if task.why == "fairness" and task.look_at is not None:
        zone = services.settings.timezone
        begins = timestamps.shown(task.look_at, zone, services.clock())
        now = command_line(f"task now {task.id}")
        said += f" It will likely begin about {begins} ({zone}); {now} lets it begin now."
    if wait is not None and wait.why in SPENDING:
        said += f" {wait_text.when(wait, services.clock(), services.settings.timezone)}"
    return said.rstrip()


async def _projected(tx: AsyncConnection, task: Task, now: float) -> float | None:
    """Return the projected cost in weighted tokens, or None. An estimate is projected here if that was not done yet."""
    if task.estimate is None or task.projected_tokens is not None:
        return task.projected_tokens
    # The dispatcher has not examined a task that waits behind others.
    learned = learn(await pasts(tx, task.role), role=task.role, kind=task.kind, now=now)
    return expected(learned, task.estimate, by_agent=task.operator.startswith(AGENT)).tokens


def _tokens(text: str) -> float:
    try:
        return float(read_tokens(re.sub(r"\s*tokens?$", "", text.strip(), flags=re.IGNORECASE)))
    except ValueError as error:
        raise UsageError(f"--estimate: {error}") from None


def read_deadline(text: str, *, now: float, zone: tzinfo) -> float:
    """Return the time that a text means: a duration from now, or a time with or without its zone.

    Raises:
        UsageError: the text is neither, or the time is past.
    """
    try:
        at = now + durations.read(text)
    except ValueError:
        try:
            there = datetime.fromisoformat(text.strip())
        except ValueError:
            raise UsageError(
                f"--deadline: found {text[:40]!r}; write a length of time such as 2h or 3d, or a time such as "
                f'"2026-11-25 09:00" ({zone}) or 2026-11-25T09:00:00Z.'
            ) from None
        at = (there if there.tzinfo is not None else there.replace(tzinfo=zone)).timestamp()
    if at <= now:
        raise UsageError(f"--deadline: {timestamps.shown(at, zone, now)} ({zone}) is past.")
    return at


async def _target(ctx: Context[TaskStepServices], role: str | None, agent: str | None) -> tuple[str | None, str | None]:
    """Return the role and the agent for the task.

    Raises:
        UserError: there is no such agent or role, or none was given and none can be inferred.
    """
    services = ctx.services
    async with services.store.read() as tx:
        rows = await agents.every(tx)
    entries = await asyncio.to_thread(_rostered, services)
    of_agents = {**entries, **{row.name: row.role for row in rows}}
    if agent is not None:
        if agent not in of_agents:
            near = suggestion(agent, sorted(of_agents))
            known = f"{there_are(sorted(of_agents))}." if of_agents else "There are none yet."
            raise UserError(f"No agent is called {markdown.one_line(agent)!r}.{near} {known}", code="agent.unknown")
        if role is not None and of_agents[agent] != role:
            raise UsageError(f"{agent} has the role {of_agents[agent]}, not {role[:40]}; one of the two is enough.")
        return of_agents[agent], agent
    if role is not None:
        known_roles = sorted({*(await asyncio.to_thread(services.planner.roles)).names, *of_agents.values()})
        if role not in known_roles:
            raise UsageError(f"{roles.unknown(role, known_roles)}.")
        return role, None
    here = await _here(ctx, rows)
    if here is not None:
        return here.role, here.name
    found = set(of_agents.values())
    if roles.ORCHESTRATOR in found:
        return roles.ORCHESTRATOR, None
    if len(found) == 1:
        return found.pop(), None
    listed = f"Roles of the fleet: {', '.join(sorted(found))}." if found else "There are no agents yet."
    raise UsageError(f"the task has no target. Add --role ROLE or --agent NAME. {listed}")


def _rostered(services: TaskStepServices) -> dict[str, str]:
    try:
        return {entry.name: entry.role or DEFAULT_ROLE for entry in services.planner.read_roster().agents}
    except Exception:  # what is wrong with it is told elsewhere
        return {}


async def _here(ctx: Context[TaskStepServices], rows: Sequence[AgentRow]) -> AgentRow | None:
    """Return the agent in whose thread the command was written, or None."""
    origin = ctx.origin
    if origin is None or origin.parent is None:
        return None
    async with ctx.services.store.read() as tx:
        name = await agent_of(tx, origin.connector, origin.conversation)
    return next((row for row in rows if row.name == name), None)


# --- looking -----------------------------------------------------------------------------------------------------


async def listing(ctx: Context[TaskStepServices], *, all: bool) -> Reply:
    services = ctx.services
    now, zone = services.clock(), services.settings.timezone
    most = _MOST_ENDED if all else 0
    # Agents see no names of a forge, and the titles of issues are strangers' words.
    is_agent = ctx.identity.startswith(AGENT)
    model = await queue_loader.load(services, ended_since=now - LOOK_BACK_S, most_ended=most, runs=not is_agent)
    model = codec.masked(model, services.redact)
    text = task_words.queue_text(model, now, zone, ended=all)
    return Reply(text, [task_words.task_json(each) for each in (*model.open, *model.ended)])


async def show(ctx: Context[TaskStepServices], wanted: str | None) -> Reply:
    services = ctx.services
    async with services.store.read() as tx:
        task = await find(tx, wanted)
        steps = await tasks.steps(tx, task.id)
        ahead = await tasks.ahead(tx, task)
        used = await usage_queries.by_task(tx, [task.id])
    now, zone = services.clock(), services.settings.timezone
    line = queue_loader.line_of(task, used.get(task.id), services.settings)
    text = task_words.whole(task, services.redact, steps, ahead, now, zone)
    if line.used_tokens is not None:
        text += f"\n\nUsed so far: {task_words.cost(line.used_tokens, line.used_usd)}."
    data = task_words.task_json(codec.masked(line, services.redact))
    data["steps"] = [
        {
            "at": services.timestamp(step.at),
            "state": step.state,
            "reason": None if step.reason is None else services.redact(step.reason),
            "decision": step.decision,
        }
        for step in steps
    ]
    return Reply(services.redact(text), data)


# --- ending ------------------------------------------------------------------------------------------------------


async def cancel(ctx: Context[TaskStepServices], wanted: str | None) -> Reply:
    services = ctx.services

    async def act(tx: AsyncConnection) -> dict[str, Any]:
        task = await find(tx, wanted)
        _check_own(ctx, task, "cancel")
        if task.state in ENDED:
            raise UserError(
                f"Task {markdown.code(task.id)} is over: it is {task.state}. Nothing was changed.", code="task.over"
            )
        if not await services.task_steps.cancel(tx, task, by=ctx.identity):
            raise UserError(
                f"Task {markdown.code(task.id)} went on just now, and is not cancelled. Cancel it again.",
                code="task.changed",
            )
        turn = None
        if task.state in LIVE and task.message is not None:
            message = await agent_messages.get(tx, task.message)
            if message is not None:
                await services.agents.withdraw(tx, message, end=True)
                turn = message.turn if message.state == "accepted" else None
        return {"id": task.id, "was": task.state, "agent": task.assigned, "turn": turn}

    done = await ctx.commit("cancel", act)
    note = ""
    if done["agent"] is not None and done["was"] in LIVE:
        services.agents.bring_mail(done["agent"])
        if done["turn"] is not None:
            note = await _end_turn(ctx, done["agent"], done["turn"])
    services.dispatcher.wake()
    text = f"Task {markdown.code(done['id'])} is cancelled.{note}"
    return Reply(text, {"id": done["id"], "state": "cancelled"})


async def _end_turn(ctx: Context[TaskStepServices], name: str, turn: str) -> str:
    agents_ = ctx.services.agents

    async def act() -> bool:
        ended: bool = await agents_.cancel(await agents_.get(name), turn)
        return ended

    try:
        ended = await ctx.once("cancel turn", act)
    except UserError as error:
        return f" Its turn could not be ended: {error}"
    return f" The turn of {name} was ended." if ended else ""


async def close(ctx: Context[TaskStepServices], wanted: str | None, *, failed: bool) -> Reply:
    services = ctx.services

    async def act(tx: AsyncConnection) -> dict[str, str]:
        task = await find(tx, wanted)
        await _check_close(ctx, tx, task)
        if task.state not in state_machine.closes(task):
            how = f"{command_line(f'task cancel {task.id}')} ends it." if task.state not in ENDED else ""
            raise UserError(
                f"Task {markdown.code(task.id)} is {task.state}, and does not wait for an answer. {how}".strip(),
                code="task.not_waiting",
            )
        state = "failed" if failed else "done"
        await services.task_steps.close(tx, task, state, by=ctx.identity)
        return {"id": task.id, "state": state}

    done = await ctx.commit("close", act)
    services.dispatcher.wake()
    return Reply(f"Task {markdown.code(done['id'])} is {done['state']}.", done)


async def _check_close(ctx: Context[TaskStepServices], tx: AsyncConnection, task: Task) -> None:
    """Let an agent close its own requests, and the orchestrator also tasks of agents without `task_done`."""
    row = await agents.get(tx, ctx.identity.removeprefix(AGENT)) if ctx.identity.startswith(AGENT) else None
    if row is None or row.role != roles.ORCHESTRATOR or state_machine.has_task_done(task.runtime):
        _check_own(ctx, task, "close")


def _check_own(ctx: Context[TaskStepServices], task: Task, what: str) -> None:
    if ctx.identity.startswith(AGENT) and task.operator != ctx.identity:
        raise NotPermitted(f"an agent may {what} only tasks that it requested itself.")
