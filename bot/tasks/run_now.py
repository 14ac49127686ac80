"""Running now what limits or the pace hold: by `task now ID`, or by the button under the message that says so.

An admin's word authorizes what is missing, for an hour. A task goes before the others then, as one of critical urgency.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bot.approvals.questions import QuestionChoice
from bot.auth.permissions import is_person
from bot.commands.registry import Reply
from bot.pacing import start_forecast
from bot.tasks import deferred_demand
from bot.text import markdown
from bot.text.errors import UserError
from budget import amounts
from budget.dispatch.next_task import TURN, lane_of
from budget.windows import interactive_turns
from budget.windows.pace_admission import Cost, Waits
from database.queries import tasks
from database.queries.agents import agents
from database.queries.chat import questions
from database.queries.spending import pacing_windows
from database.queries.spending.pacing_windows import AuthorizationRow
from database.queries.task_states import TaskEvent
from database.queries.tasks import SPENDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.commands.context import Context
    from bot.messaging.composer import MessagePlace
    from bot.pacing.snapshot import PaceSnapshot
    from bot.tasks.services import TaskServices
    from budget.windows.pace_admission import Leave, WindowState
    from database.queries.agents.agents import AgentRow
    from database.queries.chat.questions import Question
    from database.queries.tasks import Task

#: The kind of the questions about what is held.
KIND: Final = "held"
NOW: Final = "now"
CHOICES: Final = (
    QuestionChoice(mark="▶️", word=NOW, label="run it now"),
    QuestionChoice(mark="🗑️", word="drop", label="drop it"),
)
#: What is authorized for it lasts so long, seconds.
LASTS_S: Final = 3600.0
#: Why words wait that come after held ones.
_HELD: Final = (*SPENDING, "fairness")


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """What has to be authorized for a task to begin now."""

    leave: tuple[Leave, ...] = ()
    helpless: str | None = None
    """Why no authorization lets it begin, as a sentence; None: one does, or none is needed."""


# --- asking ------------------------------------------------------------------------------------------------------


async def ask(
    tx: AsyncConnection, services: TaskServices, row: AgentRow | None, task: Task, text: str, place: MessagePlace
) -> None:
    """Say where a held task was asked for that it waits, with the buttons that end that."""
    await withdraw(tx, services, task, "It still waits, as said below.")
    await services.questions.ask(
        tx,
        row,
        kind=KIND,
        cause=f"{task.id}/{task.attempt}/{services.clock():.3f}",
        text=text,
        choices=CHOICES,
        task=task.id,
        place=place,
    )


async def withdraw(tx: AsyncConnection, services: TaskServices, task: Task, why: str) -> None:
    """Take the buttons away: the task is not held any more."""
    for question in await questions.pending(tx, kind=KIND):
        if question.task == task.id:
            await services.questions.withdraw(tx, question, why)


# --- what is missing ---------------------------------------------------------------------------------------------


async def missing(services: TaskServices, task: Task) -> Missing:
    """Return what has to be authorized for a held task to begin now.

    Raises:
        RegisterError: the register cannot be read.
    """
    snapshot: PaceSnapshot = await services.pace.snapshot()
    async with services.store.read() as tx:
        row = None if task.agent is None else await agents.get(tx, task.agent)
    cost = await _cost(services, task, row)
    if task.kind == TURN and row is not None:
        standings = await services.assignment.draw(row, snapshot)
        # Those that are before it go with it, and it is one of those that are read.
        needed = deferred_demand.needed(
            await deferred_demand.read(services, snapshot),
            standings,
            Cost(tokens=0.0, usd=0.0),
            snapshot.now,
            snapshot.policy,
            person=is_person(task.operator),
        )
        return Missing(leave=needed.leave, helpless=None if needed.leave else needed.helpless)
    if row is not None:
        draws: Sequence[Sequence[WindowState]] = [await services.assignment.draw(row, snapshot)]
    else:
        draws = await start_forecast.draws(services, snapshot, role=task.role, runtime=None, model=None)
    # As one of critical urgency it passes the line; the bound at the egress holds it all the same.
    found = [interactive_turns.decide(each, cost, snapshot.now, snapshot.policy) for each in draws]
    waits = [each for each in found if isinstance(each, Waits)]
    if len(waits) < len(found):
        return Missing()
    least = min(waits, key=lambda each: (not each.leave, len(each.leave)))
    return Missing(leave=least.leave, helpless=None if least.leave else least.text)


async def _cost(services: TaskServices, task: Task, row: AgentRow | None) -> Cost:
    if task.projected_tokens is not None:
        return Cost(tokens=task.projected_tokens, usd=task.projected_usd)
    runtime, model = (None, None) if row is None else (row.runtime, row.model)
    cost: Cost = await services.dispatcher.cost_of(role=task.role, runtime=runtime, model=model, kind=task.kind)
    return cost


# --- doing it ----------------------------------------------------------------------------------------------------


async def run_now(ctx: Context[TaskServices], wanted: str | None) -> Reply:
    from bot.tasks.service import find

    services = ctx.services
    async with services.store.read() as tx:
        task = await find(tx, wanted)
    _check(task)
    found = await missing(services, task)
    if found.helpless is not None:
        raise UserError(
            f"No authorization lets task {markdown.code(task.id)} begin now: {found.helpless}",
            code="task.not_authorizable",
        )
    # Whoever is killed right after leaves lines by which what is spent from then on counts for it.
    for scope in {each.scope for each in found.leave}:
        await services.pace.redraw("authorization", scope=scope)

    async def act(tx: AsyncConnection) -> None:
        known = await find(tx, task.id)
        _check(known)
        await grant(tx, services, known, found.leave, by=ctx.identity)
        await withdraw(tx, services, known, f"{ctx.identity} runs it now.")

    await ctx.commit("now", act)
    await begun(services)
    text = f"▶️ Task {markdown.code(task.id)} goes first{_authorized(found.leave)}."
    return Reply(text, {"id": task.id, "state": "queued", "authorized": [_json(each) for each in found.leave]})


def _check(task: Task) -> None:
    """Whether it is held.

    Raises:
        UserError: it is not.
    """
    if task.state != "queued":
        raise UserError(
            f"Task {markdown.code(task.id)} waits for nothing: it is {task.state}.", code="task.not_waiting"
        )
    if task.why not in _HELD:
        raise UserError(
            f"Task {markdown.code(task.id)} is not held by a limit or the pace: {task.reason or 'it is next in line'}.",
            code="task.not_held",
        )


async def grant(tx: AsyncConnection, services: TaskServices, task: Task, leave: Iterable[Leave], *, by: str) -> None:
    """Authorize what a task misses, and have it go first."""
    now = services.clock()
    for each in leave:
        cause = f"task now {task.id} {task.attempt} {each.scope} {each.unit} {now:.3f}"
        row = AuthorizationRow(
            id=hashlib.sha256(cause.encode()).hexdigest()[:8],
            scope=each.scope,
            unit=each.unit,
            amount=each.amount,
            granted_by=by,
            granted_at=now,
            until=now + LASTS_S,
        )
        await pacing_windows.authorize(tx, row)
    if task.kind != TURN:
        lane = lane_of(
            kind=task.kind,
            operator=task.operator,
            role=task.role,
            agent=task.agent,
            urgency="critical",
            estimate=task.estimate,
        )
        await tasks.change(tx, task.id, TaskEvent.EXPEDITE, now=now, urgency="critical", lane=lane)


async def begun(services: TaskServices) -> None:
    """What was granted is committed: lines, egress and dispatcher take it up."""
    await services.pace.redraw()
    services.pace.tell()
    if services.outlet is not None:
        await services.outlet.push()
    services.dispatcher.opened()


def _authorized(leave: Sequence[Leave]) -> str:
    amounts_ = ", ".join(f"{amounts.amount(each.amount, each.unit)} of {markdown.code(each.scope)}" for each in leave)
    return f": {amounts_} more may be used in the next hour" if leave else ""


def _json(leave: Leave) -> dict[str, Any]:
    return {"scope": leave.scope, "unit": leave.unit, "amount": leave.amount}


# --- by button ---------------------------------------------------------------------------------------------------


async def take(tx: AsyncConnection, services: TaskServices, question: Question, word: str, *, by: str) -> str:
    """Return what follows from an answer, in the transaction that takes it (bot.approvals.questions.Taker)."""
    task = None if question.task is None else await tasks.get(tx, question.task)
    if task is None or task.state != "queued":
        return "It waits no more."
    if word != NOW:
        await services.task_steps.cancel(tx, task, by=by)
        return f"Task {markdown.code(task.id)} is dropped."
    _check(task)
    found = await missing(services, task)
    if found.helpless is not None:
        raise UserError(f"No authorization lets it begin now: {found.helpless}", code="task.not_authorizable")
    await grant(tx, services, task, found.leave, by=by)
    return f"Task {markdown.code(task.id)} goes first{_authorized(found.leave)}."
