"""Messages to an agent that limits or the pace hold back: announced at once, and delivered when there is capacity.

A message is held only if the time of its delivery is known. Otherwise it goes to the agent as usual, and the egress
enforces the hard limits. Messages after a held one wait behind it, which preserves their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permissions import is_person
from bot.commands.syntax import command_line
from bot.pacing import wait_text
from bot.pacing.window_status import PaceSnapshot
from bot.tasks import deferred_demand, run_now, submission_policy
from bot.tasks.service import add_task
from bot.tasks.services import TaskServices
from bot.text import markdown, timestamps
from budget import amounts
from budget.dispatch.next_task import TURN, TaskWait
from budget.scope_names import shown_scope
from budget.windows import interactive_turns
from budget.windows.interactive_turns import Begins
from budget.windows.pace_admission import Cost, Waits, WindowState, decide
from core.errors import MusterError
from database.queries import tasks
from database.queries.agents import agent_messages, auto_resume, last_results
from database.queries.agents.agents import AgentRow
from database.queries.spending import pacing_windows
from database.queries.spending.pacing_windows import Befell
from database.queries.tasks import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnHold:
    """The reason why a turn does not begin now."""

    wait: TaskWait
    """The wait. Its authorizations also cover the turns before this one."""
    cost: Cost | None = None
    before: int = 0
    """Number of held turns that the authorizations also cover."""
    helpless: str | None = None
    """Why no authorization would help, as part of a sentence."""


async def look(services: TaskServices, row: AgentRow, by: str) -> TurnHold | Begins:
    """Decide whether a message to this agent waits or begins a turn at once.

    Limits hold a person's message. The pace holds it only if use is a day ahead (`budget.windows.interactive_turns`).
    An agent's message is held by the pace like a task.

    Args:
        services: the services to use.
        row: the agent.
        by: the identity of the sender.

    Raises:
        RegisterError: the register cannot be read.
    """
    person = is_person(by)
    async with services.store.read() as tx:
        before = await tasks.held_turns(tx, row.name)
    if person:
        # Messages between agents must not keep a person's message waiting.
        before = [each for each in before if is_person(each.operator)]
    try:
        snapshot = await services.pace.snapshot()
        if not snapshot.standings and not before:
            return Begins()
        standings = await services.assignment.draw(row, snapshot)
        cost = await services.dispatcher.cost_of(role=row.role, runtime=row.runtime, model=row.model, kind=TURN)
    except (MusterError, OSError):
        if not before:
            return Begins()
        raise
    found = _decide(standings, cost, snapshot, person=person)
    if isinstance(found, Waits) and found.why in ("pace", "limit") and found.at is not None:
        wait = TaskWait.of(found)
    elif before:
        first = before[0]
        text = f"An earlier message to {row.name} waits: {first.reason or 'task ' + first.id}"
        wait = TaskWait(task="", why="fairness", text=text, look_at=first.look_at)
    else:
        return found if isinstance(found, Begins) else Begins()
    return await with_those_before(services, TurnHold(wait=wait, cost=cost), standings, snapshot, person=person)


def _decide(standings: Sequence[WindowState], cost: Cost, snapshot: PaceSnapshot, *, person: bool) -> Waits | Begins:
    if person:
        return interactive_turns.decide(standings, cost, snapshot.now, snapshot.policy)
    found = decide(standings, cost, "normal", snapshot.now, snapshot.policy)
    return found if isinstance(found, Waits) else Begins()


async def with_those_before(
    services: TaskServices, hold: TurnHold, standings: Sequence[WindowState], snapshot: PaceSnapshot, *, person: bool
) -> TurnHold:
    """Return the hold with authorizations that also cover the turns before it, which would otherwise use them up."""
    if hold.cost is None:
        return hold
    try:
        ahead = await deferred_demand.read(services, snapshot)
    except (MusterError, OSError):
        return hold
    needed = deferred_demand.needed(ahead, standings, hold.cost, snapshot.now, snapshot.policy, person=person)
    wait = replace(hold.wait, leave=needed.leave, critical=needed.critical)
    return replace(hold, wait=wait, before=needed.before, helpless=needed.helpless)


async def note_ahead(
    tx: AsyncConnection, services: TaskServices, row: AgentRow, begins: Begins | TurnHold, by: str
) -> str | None:
    """Record that a person's message begins ahead of the pace, in the transaction that sends it.

    Returns:
        The text for the person. None: the message is not ahead, or a turn that was requested before reads it.
    """
    if isinstance(begins, TurnHold) or not begins.ahead:
        return None
    now = services.clock()
    for each in begins.ahead:
        detail = {"agent": row.name, "by": by, "ahead": each.amount}
        await pacing_windows.log(
            tx, Befell(window=each.standing.window.key, at=now, kind=pacing_windows.WORDS, detail=detail)
        )
    if await agent_messages.in_states(tx, ["pending", "journaled", "accepted"], agent=row.name):
        return None
    first = begins.ahead[0]
    window = first.standing.window
    scope = markdown.code(shown_scope(window.scope))
    return f"⏩ About {amounts.amount(first.amount, window.unit)} ahead of today's pace ({scope})."


async def add(
    tx: AsyncConnection,
    services: TaskServices,
    row: AgentRow,
    hold: TurnHold,
    text: str,
    *,
    cause: str,
    by: str,
    attachments: Sequence[Mapping[str, Any]] = (),
    connector: str | None,
    conversation: str | None,
    event_id: str | None,
    answer_in: str | None,
) -> Task:
    """Put the message into the queue, in the transaction that handles the sender's request."""
    cost = hold.cost
    if is_person(by):
        # The message shows that a person looked at the agent.
        await auto_resume.drop(tx, row.name, f"{by} wrote to it")
        await last_results.note(tx, row.name, "answer", services.clock())
    return await add_task(
        tx,
        cause=cause,
        text=text,
        operator=by,
        charged_to=submission_policy.as_one(services.settings.people, by),
        now=services.clock(),
        role=row.role,
        agent=row.name,
        kind=TURN,
        connector=connector,
        conversation=conversation,
        event_id=event_id,
        answer_in=answer_in,
        attachments=attachments,
        why=hold.wait.why,
        reason=hold.wait.text,
        look_at=hold.wait.look_at,
        projected_tokens=None if cost is None else cost.tokens,
        projected_usd=None if cost is None else cost.usd,
    )


async def offer(tx: AsyncConnection, services: TaskServices, row: AgentRow, task: Task, told: str) -> bool:
    """Announce a held message in the agent's thread, with buttons that run it now or drop it.

    Returns:
        Whether the message was written in this thread, so that nothing more has to be said there.
    """
    journal_effects = services.agents.journal_effects
    await run_now.ask(tx, services, row, task, told, journal_effects.thread(row))
    return bool(await journal_effects.conversation(tx, row, "") == (task.connector, task.conversation))


def told(services: TaskServices, row: AgentRow, task: Task, hold: TurnHold) -> str:
    """Return the text that the sender gets at once."""
    now, zone = services.clock(), services.settings.timezone
    rest = wait_text.when(hold.wait, now, zone, before=hold.before)
    if hold.wait.why == "fairness" and hold.wait.look_at is not None:
        rest = (
            f"It runs after that, at about {timestamps.shown(hold.wait.look_at, zone, now)} ({zone}). {rest}".rstrip()
        )
    if hold.helpless is not None and not hold.wait.critical:
        rest += f" No authorization lets it begin now: {hold.helpless}."
    drop = command_line(f"task cancel {task.id}")
    by = "a limit" if hold.wait.why == "limit" else "the pace of spending"
    what = f"{row.name} reads this later (task {markdown.code(task.id)})"
    ways = f"{command_line(f'task now {task.id}')} runs it now, and {drop} drops it."
    return f"⏳ {what}: {by} holds it. {hold.wait.text} {rest} {ways}"
