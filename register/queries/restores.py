"""What becomes of a register that comes out of a backup: nothing in it is done or said a second time.

Between the backup and now its fleet went on: commands were run, messages were read by agents, answers were sent, of
which this register knows nothing. So whatever was under way in it is ended, in the one transaction with the row that
says when it was restored; what may have been sent since is looked for in the chat before it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, func, insert, select, update

from register.queries.agents import PositionRow, move
from register.schema import (
    agent_messages,
    agents,
    approvals,
    command_runs,
    inbox,
    leases,
    outbox,
    restores,
    tool_calls,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

#: No chat system has a scope of this name, so that whatever carries it is looked for before it is sent.
SCOPE = "before a restore"

_WHY = "it was under way when the backup was made from which Muster was restored"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """How many things a restore ended, by what they were."""

    events: int
    """Chat events that nobody had dealt with."""
    commands: int
    messages: int
    """To agents: they may have been read, and are *uncertain* now."""
    approvals: int
    looked_for: int
    """Messages to chat that are sent only if they do not stand there yet."""
    agents: tuple[str, ...]
    """Who was wanted running, and is stopped now."""


async def settle(
    tx: AsyncConnection, restore_id: str, *, now: float, backup_at: float, places: Mapping[str, int]
) -> Settled:
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
    looked_for = (
        await tx.execute(
            update(outbox)
            .where(outbox.c.state == "pending")
            .values(
                # Their time to be delivered begins anew.
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
    await tx.execute(update(leases).values(until=0.0))
    return Settled(
        events=events, commands=commands, messages=messages, approvals=asked, looked_for=looked_for, agents=wanted
    )


async def last(tx: AsyncConnection) -> float | None:
    """When the register was restored last, seconds since the epoch; None: never."""
    found: float | None = await tx.scalar(select(func.max(restores.c.restored_at)))
    return found
