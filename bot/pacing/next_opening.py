"""The next opening: whether windows have capacity for work, and when they will.

The start forecast of `estimate` decides like dispatch, without reserving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.config.accounts import ServesBlock
from bot.pacing import wait_text
from bot.pacing.account_leases import drawn_on
from bot.pacing.window_services import WindowServices
from bot.pacing.window_status import PaceSnapshot
from bot.text import markdown
from bot.text.timestamps import timestamp
from budget.dispatch.next_task import TURN, TaskWait
from budget.windows.pace_admission import Cost, Waits, WindowState, decide
from budget.windows.work_draw import WorkDraw
from database.queries.agents import agents, session_accounts
from database.queries.agents.agents import AgentRow
from fleet.errors import FleetError

#: Cost of nothing: it fits if there is any capacity.
NOTHING = Cost(tokens=0.0, usd=0.0)


async def windows_of(
    services: WindowServices, tx: AsyncConnection, row: AgentRow, snapshot: PaceSnapshot
) -> Sequence[WindowState]:
    """Return the windows that an agent draws on."""
    provider, account = await drawn_on(services, row, await session_accounts.of_agent(tx, row.name))
    return snapshot.for_draw(
        WorkDraw(
            agent=row.name,
            role=row.role,
            model=row.model,
            profiles=_profiles(services, row),
            provider=provider,
            account=account,
        )
    )


def spent_until(standings: Sequence[WindowState], scope: str) -> float | None:
    """Return when the used-up windows of a scope reset. Return None if none is used up, or no reset is known."""
    spent = [each.window.resets_at for each in standings if each.window.scope == scope and each.window.is_used_up]
    return max((at for at in spent if at is not None), default=None)


def in_the_way(standings: Sequence[WindowState], snapshot: PaceSnapshot, cost: Cost = NOTHING) -> Waits | None:
    """Return what such work waits for, or None if there is capacity or nothing known prevents it."""
    found = decide(standings, cost, "normal", snapshot.now, snapshot.policy)
    return found if isinstance(found, Waits) and found.why not in ("unknown", "price") else None


async def of_a_turn(
    services: WindowServices, row: AgentRow, standings: Sequence[WindowState], snapshot: PaceSnapshot
) -> Waits | None:
    """Return what a typical turn of the agent waits for, or None if it may begin.

    The cost of a whole turn counts, so that the agent is not stopped again at its first request.

    Raises:
        RegisterError: the register cannot be read.
    """
    cost = await services.dispatcher.cost_of(role=row.role, runtime=row.runtime, model=row.model, kind=TURN)
    found = in_the_way(standings, snapshot, cost)
    # A turn that is larger than its window never fits. In this case any capacity suffices.
    return found if found is None or found.at is not None else in_the_way(standings, snapshot)


def _profiles(services: WindowServices, row: AgentRow) -> Sequence[str]:
    try:
        lineage: Sequence[str] = services.planner.profile(row.sandbox).lineage
    except FleetError:  # muster.yaml has it no more
        return ()
    return lineage


#: Maximum number of agents whose windows are examined; further agents rarely draw on other windows.
_ASKED: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class StartForecast:
    """A forecast of when work may begin."""

    paced: bool
    """Whether any window bounds the work."""
    waits: Waits | None
    """Why the work may not begin now, for the window choice with the earliest opening; None if it may."""


async def prospect(
    services: WindowServices, cost: Cost, *, role: str | None, runtime: str | None, model: str | None
) -> StartForecast:
    """Return whether work of normal urgency may begin now, with any agent or account that could do it.

    Raises:
        RegisterError: the register cannot be read.
    """
    snapshot: PaceSnapshot = await services.pace.snapshot()
    drawn = await draws(services, snapshot, role=role, runtime=runtime, model=model)
    found = [decide(draw, cost, "normal", snapshot.now, snapshot.policy) for draw in drawn]
    waits = [each for each in found if isinstance(each, Waits)]
    soonest = min(waits, key=lambda each: float("inf") if each.at is None else each.at, default=None)
    return StartForecast(paced=any(drawn), waits=soonest if len(waits) == len(found) else None)


async def draws(
    services: WindowServices, snapshot: PaceSnapshot, *, role: str | None, runtime: str | None, model: str | None
) -> list[Sequence[WindowState]]:
    """Return the windows that the work would draw on: per suitable running agent, or else per account."""
    async with services.store.read() as tx:
        every = await agents.every(tx)
    able = [
        row
        for row in every
        if row.wanted == "running"
        and role in (None, row.role)
        and runtime in (None, row.runtime)
        and model in (None, row.model)
    ]
    if able:
        return [await services.assignment.draw(row, snapshot) for row in able[:_ASKED]]
    made = [
        snapshot.for_draw(WorkDraw(role=role, model=model, provider=account.provider, account=name))
        for name, account in services.settings.accounts.items()
        if _fits(account.serves, role, runtime, model)
    ]
    return [*made] or [snapshot.for_draw(WorkDraw(role=role, model=model))]


def _fits(serves: ServesBlock, role: str | None, runtime: str | None, model: str | None) -> bool:
    # Unspecified properties of the work restrict nothing.
    unsaid = {name: None for name, value in (("roles", role), ("runtimes", runtime)) if value is None}
    return serves.model_copy(update=unsaid).fits(role=role or "", runtime=runtime or "", model=model)


def in_words(found: StartForecast, now: float, zone: tzinfo) -> str:
    """Return one or two sentences for people."""
    if not found.paced:
        return "No known limit applies to it: it would begin as soon as an agent is free."
    if found.waits is None:
        return "There is room for it now: it would begin as soon as an agent is free."
    rest = wait_text.when(TaskWait.of(found.waits), now, zone)
    return f"⏳ It would wait. {markdown.shown(found.waits.text)} {rest}".rstrip()


def as_json(found: StartForecast) -> dict[str, Any]:
    """Return the forecast as JSON."""
    waits = found.waits
    return {
        "fits": waits is None,
        "paced": found.paced,
        "why": None if waits is None else waits.why,
        "reason": None if waits is None else waits.text,
        "window": None if waits is None else waits.window,
        "at": None if waits is None else timestamp(waits.at),
    }
