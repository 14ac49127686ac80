"""Whether such work could begin now, and otherwise when: what `estimate` says of it. It decides as dispatch does, and
reserves nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bot.pacing import wait_text
from bot.text import markdown
from bot.text.timestamps import timestamp
from budget.dispatch.next_task import TaskWait
from budget.windows.pace_admission import Waits, decide
from database.queries.agents import agents

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from bot.config.accounts import ServesBlock
    from bot.pacing.services import PacingServices
    from bot.pacing.snapshot import PaceSnapshot
    from budget.windows.pace_admission import Cost, WindowState

#: So many agents are asked for what they draw on; the windows of more are hardly others.
_ASKED: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Prospect:
    """How such work stands with what may be spent."""

    paced: bool
    """Whether anything bounds it."""
    waits: Waits | None
    """Why it may not begin now, where it could soonest; None: it may."""


async def prospect(
    services: PacingServices, cost: Cost, *, role: str | None, runtime: str | None, model: str | None
) -> Prospect:
    """Return whether work of normal urgency fits under what may be spent now, with any of those who could do it.

    Raises:
        RegisterError: the register cannot be read.
    """
    snapshot: PaceSnapshot = await services.pace.snapshot()
    drawn = await draws(services, snapshot, role=role, runtime=runtime, model=model)
    found = [decide(draw, cost, "normal", snapshot.now, snapshot.policy) for draw in drawn]
    waits = [each for each in found if isinstance(each, Waits)]
    soonest = min(waits, key=lambda each: float("inf") if each.at is None else each.at, default=None)
    return Prospect(paced=any(drawn), waits=soonest if len(waits) == len(found) else None)


async def draws(
    services: PacingServices, snapshot: PaceSnapshot, *, role: str | None, runtime: str | None, model: str | None
) -> list[Sequence[WindowState]]:
    """Return the windows that it would draw on: of each agent that runs and could do it, or else of each account."""
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
    # What was not said of the work bounds nothing.
    unsaid = {name: None for name, value in (("roles", role), ("runtimes", runtime)) if value is None}
    return serves.model_copy(update=unsaid).fits(role=role or "", runtime=runtime or "", model=model)


def in_words(found: Prospect, now: float, zone: tzinfo) -> str:
    """Return a sentence or two, for people."""
    if not found.paced:
        return "Nothing that is known bounds it: it would begin as soon as somebody is free."
    if found.waits is None:
        return "What may be spent now has room for it: it would begin as soon as somebody is free."
    rest = wait_text.when(TaskWait.of(found.waits), now, zone)
    return f"⏳ It would wait. {markdown.shown(found.waits.text)} {rest}".rstrip()


def as_json(found: Prospect) -> dict[str, Any]:
    """For programs."""
    waits = found.waits
    return {
        "fits": waits is None,
        "paced": found.paced,
        "why": None if waits is None else waits.why,
        "reason": None if waits is None else waits.text,
        "window": None if waits is None else waits.window,
        "at": None if waits is None else timestamp(waits.at),
    }
