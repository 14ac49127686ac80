"""Immediate start of work that limits or the pace hold: by `task now ID`, or by the button under the announcement.

An admin's request authorizes the missing amount for an hour. A task then goes first, with critical urgency.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.questions import QuestionChoice
from bot.auth.permissions import is_person
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.messaging.composer import MessagePlace
from bot.pacing import next_opening
from bot.pacing.services import PacingServices
from bot.pacing.window_status import PaceSnapshot
from bot.tasks import deferred_demand
from bot.tasks.lookup import find
from bot.text import markdown
from bot.text.errors import UserError
from budget import amounts
from budget.dispatch.next_task import TURN, lane_of
from budget.scope_names import shown_scope
from budget.windows import interactive_turns
from budget.windows.pace_admission import Cost, Leave, Waits, WindowState
from database.queries import tasks
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import questions
from database.queries.chat.questions import Question
from database.queries.spending import pacing_windows
from database.queries.spending.pacing_windows import AuthorizationRow
from database.queries.task_states import TaskEvent
from database.queries.tasks import SPENDING, Task

#: Kind of the questions about held work.
KIND: Final = "held"
NOW: Final = "now"
CHOICES: Final = (
    QuestionChoice(mark="▶️", word=NOW, label="run it now"),
    QuestionChoice(mark="🗑️", word="drop", label="drop it"),
)
#: Duration of the authorization in seconds.
LASTS_S: Final = 3600.0
#: Reasons for waiting that count as held. Messages behind a held one wait for fairness.
_HELD: Final = (*SPENDING, "fairness")


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """Authorizations that a task lacks to begin now."""

    leave: tuple[Leave, ...] = ()
    helpless: str | None = None
    """Why no authorization lets the task begin, as a sentence; None: one does, or none is needed."""


# --- asking ------------------------------------------------------------------------------------------------------


async def ask(
    tx: AsyncConnection, services: PacingServices, row: AgentRow | None, task: Task, text: str, place: MessagePlace
) -> None:
    """Announce that a held task waits, where it was requested, with buttons that run it or drop it."""
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


async def withdraw(tx: AsyncConnection, services: PacingServices, task: Task, why: str) -> None:
    """Remove the buttons, because the task is no longer held."""
    for question in await questions.pending(tx, kind=KIND):
        if question.task == task.id:
            await services.questions.withdraw(tx, question, why)


# --- what is missing ---------------------------------------------------------------------------------------------


async def missing(services: PacingServices, task: Task) -> Missing:
    """Return what must be authorized for a held task to begin now.

    Raises:
        RegisterError: the register cannot be read.
    """
    snapshot: PaceSnapshot = await services.pace.snapshot()
    async with services.store.read() as tx:
        row = None if task.agent is None else await agents.get(tx, task.agent)
    cost = await _cost(services, task, row)
    if task.kind == TURN and row is not None:
        standings = await services.assignment.draw(row, snapshot)
        # The turns before it begin as well. The demand already includes this turn, so its own cost is zero here.
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
        draws = await next_opening.draws(services, snapshot, role=task.role, runtime=None, model=None)
    # With critical urgency the task may pass the line, but the egress still enforces its own bound.
    found = [interactive_turns.decide(each, cost, snapshot.now, snapshot.policy) for each in draws]
    waits = [each for each in found if isinstance(each, Waits)]
    if len(waits) < len(found):
        return Missing()
    least = min(waits, key=lambda each: (not each.leave, len(each.leave)))
    return Missing(leave=least.leave, helpless=None if least.leave else least.text)


async def _cost(services: PacingServices, task: Task, row: AgentRow | None) -> Cost:
    if task.projected_tokens is not None:
        return Cost(tokens=task.projected_tokens, usd=task.projected_usd)
    runtime, model = (None, None) if row is None else (row.runtime, row.model)
    cost: Cost = await services.dispatcher.cost_of(role=task.role, runtime=runtime, model=model, kind=task.kind)
    return cost


# --- doing it ----------------------------------------------------------------------------------------------------


async def run_now(ctx: Context[PacingServices], wanted: str | None) -> Reply:
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
    # The lines are redrawn first: after a crash, use from here on still counts toward the authorization.
    for scope in {each.scope for each in found.leave}:
        await services.pace.redraw("authorization", scope=scope)

    async def act(tx: AsyncConnection) -> None:
        known = await find(tx, task.id)
        _check(known)
        await grant(tx, services, known, found.leave, by=ctx.identity)
        await withdraw(tx, services, known, f"{ctx.identity} runs it now.")

    await ctx.commit("now", act)
    await begun(services)
    text = f"▶️ Task {markdown.code(task.id)} goes first{authorized(found.leave)}."
    return Reply(text, {"id": task.id, "state": "queued", "authorized": [leave_json(each) for each in found.leave]})


def _check(task: Task) -> None:
    """Check that the task is held.

    Raises:
        UserError: it is not held.
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


async def grant(tx: AsyncConnection, services: PacingServices, task: Task, leave: Iterable[Leave], *, by: str) -> None:
    """Authorize what a task lacks, and move it to the front."""
    now = services.clock()
    await authorize(tx, f"task now {task.id} {task.attempt}", leave, by=by, now=now)
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


async def authorize(tx: AsyncConnection, cause: str, leave: Iterable[Leave], *, by: str, now: float) -> None:
    """Authorize for an hour what work lacks; `begun` follows the commit."""
    for each in leave:
        named = f"{cause} {each.scope} {each.unit} {now:.3f}"
        row = AuthorizationRow(
            id=hashlib.sha256(named.encode()).hexdigest()[:8],
            scope=each.scope,
            unit=each.unit,
            amount=each.amount,
            granted_by=by,
            granted_at=now,
            until=now + LASTS_S,
        )
        await pacing_windows.authorize(tx, row)


async def begun(services: PacingServices) -> None:
    """Apply a committed grant to the lines, the egress and the dispatcher."""
    await services.pace.redraw()
    services.pace.tell()
    if services.egress_client is not None:
        await services.egress_client.push()
    services.dispatcher.opened()


def authorized(leave: Sequence[Leave]) -> str:
    """Return what more may be used, as the end of a sentence; empty if nothing was authorized."""
    amounts_ = ", ".join(
        f"{amounts.amount(each.amount, each.unit)} of {markdown.code(shown_scope(each.scope))}" for each in leave
    )
    return f": {amounts_} more may be used in the next hour" if leave else ""


def leave_json(leave: Leave) -> dict[str, Any]:
    """Return an authorization for programs."""
    return {"scope": leave.scope, "unit": leave.unit, "amount": leave.amount}


# --- by button ---------------------------------------------------------------------------------------------------


class Cancel(Protocol):
    """Cancels a task that waits."""

    async def __call__(self, tx: AsyncConnection, task: Task, *, by: str) -> bool: ...


async def take(
    tx: AsyncConnection, services: PacingServices, question: Question, word: str, *, by: str, cancel: Cancel
) -> str:
    """Apply an answer, in the transaction that records it (bot.approvals.questions.AnswerHandler)."""
    task = None if question.task is None else await tasks.get(tx, question.task)
    if task is None or task.state != "queued":
        return "It no longer waits."
    if word != NOW:
        await cancel(tx, task, by=by)
        return f"Task {markdown.code(task.id)} is dropped."
    _check(task)
    found = await missing(services, task)
    if found.helpless is not None:
        raise UserError(f"No authorization lets it begin now: {found.helpless}", code="task.not_authorizable")
    await grant(tx, services, task, found.leave, by=by)
    return f"Task {markdown.code(task.id)} goes first{authorized(found.leave)}."
