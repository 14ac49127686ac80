"""Agents as the operator wants them and as they were last seen, and how far their journals have been read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once, upsert
from database.queries.record import Record
from database.schema import account_leases, agents, grants, introductions, journal_positions, results


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRow(Record):
    """One agent. A `launch_id` is one wish to have it run: the id of the command that said so."""

    name: str
    role: str
    runtime: str
    model: str | None
    sandbox: str
    workspace: str
    #: running, stopped or frozen
    wanted: str
    #: A stop or restart does not wait for the end of the turn.
    at_once: bool
    #: The next start goes on with the session; false after `kill`.
    keep_session: bool
    state: str
    detail: str | None
    launch_id: str
    launched_by: str
    connector: str
    room: str
    #: The outbox key of the message that opened the agent's thread.
    thread_key: str
    started_at: float | None
    stopped_at: float | None
    #: What the launch is on (fleet.roster.launch_overrides); None: not known.
    basis: Mapping[str, Any] | None = None
    #: How often it fell, and when it is tried again (fleet.supervision.restart_policy); None: it did not since someone
    #: launched it.
    revival: Mapping[str, Any] | None = None
    #: The installation that runs it; None: written before that was known, so any on its host.
    home: str | None = None
    #: The model that answered its last turn in place of `model`; None: none did.
    model_answering: str | None = None
    #: What it was launched for, as people read it: a topic, a run or an issue; None: it is an agent of the roster.
    purpose: str | None = None
    host: str = ""
    tenant_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionRow(Record):
    """Read up to (`incarnation`, `seq`); the turn that is being shown began after (`view_incarnation`, `view_seq`)."""

    agent: str
    incarnation: int = 0
    seq: int = 0
    view_incarnation: int = 0
    view_seq: int = 0


async def get(tx: AsyncConnection, name: str) -> AgentRow | None:
    return await AgentRow.one(tx, select(agents).where(agents.c.name == name))


async def every(tx: AsyncConnection) -> list[AgentRow]:
    return await AgentRow.every(tx, select(agents).order_by(agents.c.name))


async def add(tx: AsyncConnection, row: AgentRow) -> bool:
    """Add an agent; False, and nothing is changed, when the name is taken."""
    stamped = {"home", "host", "tenant_id"}
    values = {name: getattr(row, name) for name in AgentRow.__dataclass_fields__ if name not in stamped}
    return await insert_once(tx, agents, **values)


async def change(tx: AsyncConnection, name: str, *, under: str | None = None, **values: object) -> bool:
    """Set columns of an agent; with `under` only if that is still the id of the launch that it runs under."""
    statement = update(agents).where(agents.c.name == name)
    if under is not None:
        statement = statement.where(agents.c.launch_id == under)
    return (await tx.execute(statement.values(**values))).rowcount > 0


async def settle(tx: AsyncConnection, *, host: str, home: str) -> int:
    """Return those of this host that belong to no installation yet belong to `home` from now on; how many."""
    mine = (agents.c.host == host, agents.c.home.is_(None))
    return (await tx.execute(update(agents).where(*mine).values(home=home))).rowcount


async def remove(tx: AsyncConnection, name: str) -> None:
    await tx.execute(delete(agents).where(agents.c.name == name))


async def forget(tx: AsyncConnection, name: str) -> None:
    """Delete an agent that never comes back, with what is kept for it alone. Messages, tasks and requests have their
    own retention, and what it used stays in the ledger."""
    for each in (journal_positions, account_leases, grants, introductions, results):
        await tx.execute(delete(each).where(each.c.agent == name))
    await remove(tx, name)


async def position(tx: AsyncConnection, agent: str) -> PositionRow:
    query = select(journal_positions).where(journal_positions.c.agent == agent)
    return await PositionRow.one(tx, query) or PositionRow(agent=agent)


async def move(tx: AsyncConnection, row: PositionRow, now: float) -> None:
    """Write how far the journal has been read; in the transaction that writes what was read."""
    await upsert(tx, journal_positions, **row.columns(), read_at=now)
