"""What happens to a register that comes out of a backup: nothing in it is done or said a second time.

Between the backup and now its fleet went on: commands were run, messages were read by agents, answers were sent, of
which this register knows nothing. So whatever was under way in it is ended, in the one transaction with the row that
says when it was restored; what may have been sent since is looked for in the chat before it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import case, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.agents.agents import PositionRow, move
from database.schema import (
    account_leases,
    agent_messages,
    agents,
    approvals,
    authorizations,
    command_runs,
    continuations,
    inbox,
    issue_runs,
    leases,
    outbox,
    questions,
    restores,
    runs,
    task_events,
    tasks,
    tool_calls,
    topic_words,
    topics,
    trace_positions,
    trace_waiting,
    web_sessions,
)

#: No chat system has a scope of this name, so that whatever carries it is looked for before it is sent.
SCOPE = "before a restore"

_WHY = "it was under way when the backup was made from which Muster was restored"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedByRestore:
    """How many things a restore ended, by what they were."""

    events: int
    """Chat events that nobody had dealt with."""
    commands: int
    messages: int
    """To agents: they may have been read, and are *uncertain* now."""
    approvals: int
    runs: int
    """Of issues, and of single prompts."""
    tasks: int
    """In the queue or with an agent: they may have been done, and are failed now."""
    questions: int
    """Other than approvals."""
    authorizations: int
    """To spend faster: they may have been used up."""
    looked_for: int
    """Messages to chat that are sent only if they do not stand there yet."""
    agents: tuple[str, ...]
    """Who was wanted running, and is stopped now."""


async def settle(
    tx: AsyncConnection, restore_id: str, *, now: float, backup_at: float, places: Mapping[str, int]
) -> EndedByRestore:
    """End what was under way when the backup was made.

    Args:
        tx: the transaction.
        restore_id: names this restore.
        now: the moment of the restore; events that were sent before it are not acted on.
        backup_at: when the backup was made.
        places: up to which incarnation each agent's journal counts as told. New incarnations are above it, so that no
            key that is made of one was ever used in the chat.
    """
    await tx.execute(insert(restores).values(id=restore_id, restored_at=now, backup_at=backup_at))
    events = (
        await tx.execute(update(inbox).where(inbox.c.state == "new").values(state="done", detail=_WHY, handled_at=now))
    ).rowcount
    reply = {"text": f"This was not done, or it is not known whether it was: {_WHY}.", "data": None, "reason": "failed"}
    commands = (
        await tx.execute(
            update(command_runs)
            .where(command_runs.c.state.in_(("running", "confirming")))
            .values(
                state=case((command_runs.c.state == "confirming", "lapsed"), else_="failed"), reply=reply, ended_at=now
            )
        )
    ).rowcount
    messages = (
        await tx.execute(
            update(agent_messages)
            .where(agent_messages.c.state.in_(("pending", "journaled", "accepted", "withdrawing")))
            .values(
                state=case((agent_messages.c.state == "withdrawing", "withdrawn"), else_="uncertain"),
                detail=_WHY,
                updated_at=now,
            )
        )
    ).rowcount
    asked = (
        await tx.execute(
            update(approvals)
            .where(approvals.c.state.in_(("pending", "answering")))
            .values(state="withdrawn", answered_at=now, outcome=_WHY)
        )
    ).rowcount
    await tx.execute(
        update(tool_calls).where(tool_calls.c.state != "over").values(state="over", arguments={}, updated_at=now)
    )
    of_issues = (
        await tx.execute(
            update(issue_runs)
            .where(issue_runs.c.state.in_(("queued", "running", "checking")))
            .values(state="failed", detail=_WHY, active_at=now)
        )
    ).rowcount
    failed, withdrawn, taken = await _settle_pacing(tx, now)
    looked_for = (
        await tx.execute(
            update(outbox)
            .where(outbox.c.state == "pending")
            .values(
                # Their time to be delivered starts again.
                created_at=now,
                not_before=0.0,
                attempts=outbox.c.attempts + 1,
                first_attempt_at=func.coalesce(outbox.c.first_attempt_at, now),
                attempt_scope=SCOPE,
            )
        )
    ).rowcount
    query = select(agents.c.name).where(agents.c.wanted == "running").order_by(agents.c.name)
    wanted = tuple((await tx.execute(query)).scalars())
    await tx.execute(
        update(agents)
        .where(agents.c.wanted == "running")
        .values(wanted="stopped", at_once=False, state="stopped", detail="restored from a backup", stopped_at=now)
    )
    for agent, incarnation in places.items():
        # Also of an agent that this register does not know yet: its journal was begun while the backup was made.
        told = PositionRow(agent=agent, incarnation=incarnation, seq=1, view_incarnation=incarnation, view_seq=1)
        await move(tx, told, now)
    await _settle_topics(tx, now)
    ended = update(runs).values(state="failed", detail=_WHY, ended_at=now)
    ended = ended.where(runs.c.state.in_(("queued", "running")))
    # Rounds are counted with the run of their issue. Only their ids have a hyphen.
    await tx.execute(ended.where(runs.c.id.like("%-%")))
    alone = (await tx.execute(ended)).rowcount
    # A session may have been ended since.
    await tx.execute(delete(web_sessions))
    # Traces begin anew, with other ids: what ended here ended otherwise in those that were sent.
    await tx.execute(delete(trace_positions))
    await tx.execute(delete(trace_waiting))
    await tx.execute(update(leases).values(until=0.0))
    return EndedByRestore(
        events=events,
        commands=commands,
        messages=messages,
        approvals=asked,
        runs=of_issues + alone,
        tasks=failed,
        questions=withdrawn,
        authorizations=taken,
        looked_for=looked_for,
        agents=wanted,
    )


async def _settle_pacing(tx: AsyncConnection, now: float) -> tuple[int, int, int]:
    """End tasks, questions and leave to spend; agents go on by themselves no more, and are on no account yet.

    Schedules stay, and so do lines and sums: the egress goes on copying where the backup left off.
    """
    # Also one in the queue may have been handed over since.
    under_way = tasks.c.state.in_(("queued", "dispatched", "running", "waiting"))
    why = f"{_WHY[0].upper()}{_WHY[1:]}; nobody knows whether it was done since."
    columns = ("task", "at", "state", "reason", "tenant_id", "host")
    steps = select(tasks.c.id, literal(now), literal("failed"), literal(why), tasks.c.tenant_id, tasks.c.host).where(
        under_way
    )
    await tx.execute(insert(task_events).from_select(columns, steps, include_defaults=False))
    ended = {"state": "failed", "why": None, "reason": None, "look_at": None, "summary": why, "retries": 0}
    failed = await tx.execute(update(tasks).where(under_way).values(**ended, ended_at=now, updated_at=now))
    withdrawn = await tx.execute(
        update(questions).where(questions.c.state == "pending").values(state="withdrawn", answered_at=now)
    )
    await tx.execute(
        update(continuations).where(continuations.c.state == "waiting").values(state="dropped", detail=_WHY)
    )
    taken = await tx.execute(
        update(authorizations).where(authorizations.c.ended_at.is_(None)).values(ended_at=now, ended="taken back")
    )
    await tx.execute(delete(account_leases))
    return failed.rowcount, withdrawn.rowcount, taken.rowcount


async def _settle_topics(tx: AsyncConnection, now: float) -> None:
    """End topics that have not begun, as they may have since; all others wait for somebody to go on with them."""
    waiting, going = topics.c.state == "waiting", topics.c.state.in_(("open", "waking", "ending"))
    await tx.execute(update(topics).where(waiting).values(state="ended", detail=_WHY, ended_at=now))
    await tx.execute(update(topics).where(going).values(state="idle", outcome=None, detail="by hand"))
    await tx.execute(delete(topic_words))


async def last(tx: AsyncConnection) -> float | None:
    """Return when the register was restored last, seconds since the epoch; None: never."""
    found: float | None = await tx.scalar(select(func.max(restores.c.restored_at)))
    return found
