"""Runs of commands, and the steps that each has done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import BATCH
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import command_runs, command_steps

#: States in which nothing more will happen to a run.
ENDED = ("done", "refused", "failed", "lapsed")


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandRun(Record):
    id: str
    name: str
    arguments: Mapping[str, Any]
    identity: str
    #: none, viewer, operator or admin, as it was when the run began
    permission: str
    #: the group by which they had it; null where it was said of themselves
    through: str | None
    door: str
    connector: str | None
    conversation: str | None
    parent: str | None
    event_id: str | None
    #: running, confirming, done, refused, failed or lapsed
    state: str
    confirm_until: float | None
    #: ``text`` and ``data`` of the answer; null until it has ended
    reply: Mapping[str, Any] | None
    started_at: float
    ended_at: float | None


async def add(tx: AsyncConnection, run: CommandRun) -> bool:
    """Begin a run; False, and nothing is changed, when its id is known."""
    return await insert_once(tx, command_runs, **run.columns())


async def get(tx: AsyncConnection, run_id: str) -> CommandRun | None:
    return await CommandRun.one(tx, select(command_runs).where(command_runs.c.id == run_id))


async def in_states(tx: AsyncConnection, states: Sequence[str]) -> list[CommandRun]:
    found = select(command_runs).where(command_runs.c.state.in_(states)).order_by(command_runs.c.started_at)
    return await CommandRun.every(tx, found)


async def change(tx: AsyncConnection, run_id: str, *, only: Sequence[str], **values: object) -> bool:
    """Set columns of a run that is in one of the states `only`; False when it is in none of them."""
    where = (command_runs.c.id == run_id, command_runs.c.state.in_(only))
    return (await tx.execute(update(command_runs).where(*where).values(**values))).rowcount > 0


async def step(tx: AsyncConnection, run_id: str, name: str) -> tuple[bool, Any]:
    """Return whether the run has done the step, and its result."""
    where = (command_steps.c.command_id == run_id, command_steps.c.step == name)
    row = (await tx.execute(select(command_steps.c.result).where(*where))).one_or_none()
    return (False, None) if row is None else (True, row.result)


async def add_step(tx: AsyncConnection, run_id: str, name: str, result: Any, at: float) -> bool:
    """Record that the run has done the step; False when that was recorded before."""
    return await insert_once(tx, command_steps, command_id=run_id, step=name, result=result, at=at)


async def with_step(tx: AsyncConnection, name: str) -> str | None:
    """Return the run that has done a step of this name, where only one can."""
    found: str | None = await tx.scalar(select(command_steps.c.command_id).where(command_steps.c.step == name))
    return found


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete runs that ended before `before`, a batch of them with their steps; return how many runs."""
    over = command_runs.c.state.in_(ENDED), command_runs.c.ended_at < before
    old = list(await tx.scalars(select(command_runs.c.id).where(*over).limit(BATCH)))
    await tx.execute(delete(command_steps).where(command_steps.c.command_id.in_(old)))
    return (await tx.execute(delete(command_runs).where(command_runs.c.id.in_(old)))).rowcount
