"""Capacity for an agent that was stopped: whether its windows have any, and when they will."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.pacing.session_admission import drawn_on
from bot.pacing.snapshot import PaceSnapshot
from bot.pacing.window_services import WindowServices
from budget.dispatch.next_task import TURN
from budget.windows.pace_admission import Cost, Waits, WindowState, decide
from database.queries.agents import session_accounts
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
        agent=row.name,
        role=row.role,
        runtime=row.runtime,
        model=row.model,
        profiles=_profiles(services, row),
        provider=provider,
        account=account,
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
