"""Runs of agents: one prompt each, from its request to its outcome."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.id_batches import batches
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import runs as table

RunState = Literal["queued", "running", "done", "failed", "stopped", "timed_out", "limit"]
RunEnding = Literal["done", "failed", "stopped", "timed_out", "limit"]
#: States of a run that has not ended.
OPEN: Final[tuple[RunState, ...]] = ("queued", "running")
#: Only ids of rounds of issues' runs have a hyphen.
_IS_ROUND: Final = table.c.id.like("%-%")
#: In `AgentRun.settings`: what is expected of it.
_FORECAST: Final = "forecast"
#: The kind of work of an issue's first round.
ISSUE: Final = "issue"
#: Launches for runs begin with this, and the run's id follows.
LAUNCH: Final = "run-"


def is_round(run_id: str) -> bool:
    """Return whether a run is a round of an issue's run."""
    return "-" in run_id


def kind_of(run_id: str) -> str:
    """Return as what kind of work the cost of a run is learned and projected.

    An issue's first round begins with an empty conversation, and later ones go on in it. Any other run is a prompt.
    """
    head, _, number = run_id.rpartition("-")
    return "turn" if not head else ISSUE if number == "1" else "issue-round"


def run_of(launch_id: str) -> str | None:
    """Return the run that a launch was for, or None."""
    return launch_id.removeprefix(LAUNCH)[:8] if launch_id.startswith(LAUNCH) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunForecast:
    """What was expected of a run when it was last about to begin."""

    tokens: float
    """Weighted tokens."""
    usd: float | None
    runtime: str
    model: str | None
    opens_at: float | None = None
    """When what holds it will likely let it begin; None: nothing holds it, or that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRun(Record):
    """One run.

    It is *queued* until its agent is launched, and *running* until its outcome and its use are known. `ending` tells
    the outcome in between: the turn is over, or is to be cancelled.
    """

    id: str
    source: str
    reference: str | None = None
    agent: str
    role: str
    prompt: str
    settings: Mapping[str, Any]
    color: str | None = None
    resumes: bool = False
    asked_by: str
    connector: str
    room: str
    state: RunState
    ending: RunEnding | None = None
    detail: str | None = None
    message: str
    answer: str | None = None
    timeout_s: float | None = None
    deadline: float | None = None
    look_at: float | None = None
    tokens: float | None = None
    usd: float | None = None
    created_at: float
    started_at: float | None = None
    turn_ended_at: float | None = None
    ended_at: float | None = None

    @property
    def forecast(self) -> RunForecast | None:
        """What was expected of it; None: it was not about to begin yet."""
        return forecast_of(self.settings)


def forecast_of(settings: Mapping[str, Any]) -> RunForecast | None:
    """Return the forecast in the settings of a run; None if there is none."""
    found = settings.get(_FORECAST)
    return None if found is None else RunForecast(**found)


def with_forecast(settings: Mapping[str, Any], forecast: RunForecast) -> dict[str, Any]:
    """Return the settings of a run with what is expected of it."""
    return {**settings, _FORECAST: asdict(forecast)}


async def add(tx: AsyncConnection, run: AgentRun) -> bool:
    """Add a run; False, and nothing is changed, if there is one of this id or about this reference."""
    return await insert_once(tx, table, **run.columns())


async def get(tx: AsyncConnection, run_id: str) -> AgentRun | None:
    return await AgentRun.one(tx, select(table).where(table.c.id == run_id))


async def begins_with(tx: AsyncConnection, prefix: str, *, limit: int, rounds: bool = True) -> Sequence[AgentRun]:
    """Return runs whose ids begin so, the newest first; without `rounds`, those that are no rounds of issues' runs."""
    query = select(table).where(table.c.id.startswith(prefix, autoescape=True))
    if not rounds:
        query = query.where(~_IS_ROUND)
    return await AgentRun.every(tx, query.order_by(table.c.created_at.desc(), table.c.id).limit(limit))


async def of_message(tx: AsyncConnection, message_id: str) -> AgentRun | None:
    """Return the run whose prompt this message carries."""
    return await AgentRun.one(tx, select(table).where(table.c.message == message_id).limit(1))


async def open_ones(tx: AsyncConnection, *, agent: str | None = None) -> Sequence[AgentRun]:
    """Return the runs that have not ended, the oldest first."""
    query = select(table).where(table.c.state.in_(OPEN))
    if agent is not None:
        query = query.where(table.c.agent == agent)
    return await AgentRun.every(tx, query.order_by(table.c.created_at, table.c.id))


async def last_of(tx: AsyncConnection, agent: str) -> AgentRun | None:
    """Return the newest run of an agent; one that has not ended before all others."""
    query = select(table).where(table.c.agent == agent)
    order = (table.c.ended_at.is_not(None), table.c.ended_at.desc(), table.c.id)
    return await AgentRun.one(tx, query.order_by(*order).limit(1))


async def last_ended(tx: AsyncConnection, *, limit: int, rounds: bool = True) -> Sequence[AgentRun]:
    """Return the runs that ended last, newest first; without `rounds`, those that are no rounds of an issue's run."""
    query = select(table).where(table.c.state.not_in(OPEN))
    if not rounds:
        query = query.where(~_IS_ROUND)
    return await AgentRun.every(tx, query.order_by(table.c.ended_at.desc(), table.c.id).limit(limit))


async def colors(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, str]:
    """Return the colors of those of these runs that have one."""
    found: dict[str, str] = {}
    query = select(table.c.id, table.c.color).where(table.c.color.is_not(None))
    for some in batches(ids):
        found |= {run_id: color for run_id, color in await tx.execute(query.where(table.c.id.in_(some)))}
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRound(Record):
    """A run that is a round of an issue's run, without its texts."""

    id: str
    agent: str
    role: str
    settings: Mapping[str, Any]
    state: RunState
    detail: str | None = None
    tokens: float | None = None
    usd: float | None = None
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None


async def rounds_of(tx: AsyncConnection, agents: Iterable[str]) -> Sequence[AgentRound]:
    """Return the rounds that these agents worked in, the oldest first."""
    columns = [table.c[name] for name in AgentRound.__dataclass_fields__]
    found: list[AgentRound] = []
    for some in batches(agents):
        query = select(*columns).where(table.c.agent.in_(some), _IS_ROUND)
        found += await AgentRound.every(tx, query.order_by(table.c.created_at, table.c.id))
    return found


async def ended_rounds(tx: AsyncConnection, role: str | None, *, limit: int) -> Sequence[AgentRound]:
    """Return the rounds whose use is known, of agents of a role or of all, and that ran to their end; newest first."""
    columns = [table.c[name] for name in AgentRound.__dataclass_fields__]
    query = select(*columns).where(_IS_ROUND, table.c.state.in_(("done", "failed", "limit")), table.c.tokens > 0)
    if role is not None:
        query = query.where(table.c.role == role)
    return await AgentRound.every(tx, query.order_by(table.c.ended_at.desc(), table.c.id).limit(limit))


async def change(tx: AsyncConnection, run_id: str, *, only: Collection[RunState], **values: object) -> bool:
    """Set columns of a run if it is in one of the states `only`. Return whether it was."""
    statement = update(table).where(table.c.id == run_id, table.c.state.in_(only))
    return (await tx.execute(statement.values(**values))).rowcount > 0


async def end_begun(tx: AsyncConnection, run_id: str, ending: RunEnding, **values: object) -> bool:
    """Record how a run ends. False, and nothing is changed, if it has ended or its end is known."""
    where = (table.c.id == run_id, table.c.state.in_(OPEN), table.c.ending.is_(None))
    return (await tx.execute(update(table).where(*where).values(ending=ending, **values))).rowcount > 0


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete some of the runs that ended before `before`; return how many."""
    return await delete_some(tx, table, table.c.state.not_in(OPEN), table.c.ended_at < before)
