"""Start forecast of `estimate`: whether work could begin now, or when. It decides like dispatch, without reserving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

from bot.config.accounts import ServesBlock
from bot.pacing import wait_text
from bot.pacing.services import PacingServices
from bot.pacing.snapshot import PaceSnapshot
from bot.text import markdown
from bot.text.timestamps import timestamp
from budget.dispatch.next_task import TaskWait
from budget.windows.pace_admission import Cost, Waits, WindowState, decide
from database.queries.agents import agents

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
    services: PacingServices, cost: Cost, *, role: str | None, runtime: str | None, model: str | None
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
    services: PacingServices, snapshot: PaceSnapshot, *, role: str | None, runtime: str | None, model: str | None
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
        snapshot.for_draw(role=role, runtime=runtime, model=model, provider=account.provider, account=name)
        for name, account in services.settings.accounts.items()
        if _fits(account.serves, role, runtime, model)
    ]
    return [*made] or [snapshot.for_draw(role=role, runtime=runtime, model=model)]


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
