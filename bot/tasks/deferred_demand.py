"""Demand of turns that are already held. An authorization for one more turn must cover them, since they begin first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bot.pacing.services import PacingServices
from bot.pacing.window_status import PaceSnapshot
from budget.windows import interactive_turns
from budget.windows.pace_admission import Cost, Leave, PacePolicy, Waits, WindowState, decide, need
from database.queries import tasks
from database.queries.agents import agents


@dataclass(frozen=True, kw_only=True, slots=True)
class DeferredDemand:
    """The held turns of one agent."""

    cost: Cost
    """Total cost of these turns."""
    count: int
    windows: frozenset[str]
    """Keys of the windows that they draw on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needed:
    """Authorizations that a turn and the turns before it need."""

    leave: tuple[Leave, ...]
    before: int
    """Number of held turns that are covered as well."""
    critical: bool = False
    """Whether the turn exceeds a limit that only critical work may pass."""
    helpless: str | None = None
    """Why no authorization would help, as part of a sentence; None: one would, or none is needed."""


async def read(services: PacingServices, snapshot: PaceSnapshot) -> list[DeferredDemand]:
    """Return the held turns of each agent.

    Raises:
        RegisterError: the register cannot be read.
    """
    async with services.store.read() as tx:
        held = await tasks.held_costs(tx)
        rows = [row for row in await agents.every(tx) if row.name in held]
    found = []
    for row in rows:
        count, tokens, usd = held[row.name]
        draws = await services.assignment.draw(row, snapshot)
        keys = frozenset(standing.window.key for standing in draws)
        found.append(DeferredDemand(cost=Cost(tokens=tokens, usd=usd), count=count, windows=keys))
    return found


def needed(
    ahead: Sequence[DeferredDemand],
    standings: Sequence[WindowState],
    cost: Cost,
    now: float,
    policy: PacePolicy,
    *,
    person: bool = False,
) -> Needed:
    """Return what must be authorized for one more turn to begin now, after the turns before it. Pure.

    Args:
        ahead: the turns that are already held.
        standings: the windows that the turn draws on.
        cost: the projected cost of the turn itself.
        now: seconds since the epoch.
        policy: how strictly the pace is kept.
        person: whether a person wrote the message, so that `budget.windows.interactive_turns` decides.
    """
    # The turns before it count as begun: their cost is deducted from each window that both draw on.
    if person:
        used = [_used(standing, [each.cost for each in _on(ahead, standing)]) for standing in standings]
        found: Waits | object = interactive_turns.decide(used, cost, now, policy)
    else:
        promised = [_promised(standing, [each.cost for each in _on(ahead, standing)]) for standing in standings]
        found = decide(promised, cost, "normal", now, policy)
    keys = frozenset(standing.window.key for standing in standings)
    before = sum(each.count for each in ahead if each.windows & keys)
    if not isinstance(found, Waits):
        return Needed(leave=(), before=before)
    if found.leave:
        return Needed(leave=found.leave, before=before)
    others = f", with the {before} before it," if before else ""
    helpless = "it is unknown how much is left" if found.why in ("unknown", "price") else None
    helpless = helpless or f"it needs{others} more than is left of a limit that nothing may pass"
    return Needed(leave=(), before=before, critical=found.critical, helpless=helpless)


def _on(ahead: Sequence[DeferredDemand], standing: WindowState) -> list[DeferredDemand]:
    return [each for each in ahead if standing.window.key in each.windows]


def _used(standing: WindowState, costs: Sequence[Cost]) -> WindowState:
    more = sum(amount for each in costs if (amount := need(standing.window, each)) is not None)
    window = standing.window
    if more <= 0 or window.known_use is None:
        return standing
    return replace(standing, window=replace(window, used=window.known_use + more))


def _promised(standing: WindowState, costs: Sequence[Cost]) -> WindowState:
    amounts = [need(standing.window, cost) for cost in costs]
    more = sum(amount for amount in amounts if amount is not None)
    if more <= 0:
        return standing
    return replace(standing, reserved=standing.held + more, reserved_high=standing.held_high + more)
