"""A pace with sixty windows over any register, for benchmarks: four limits of each of fifteen agents."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

from bot.config.dispatch import Dispatch
from bot.config.limits import Budgets
from bot.config.pacing import Pacing
from bot.pacing.service import PaceService
from database.engine.store import Store

AGENTS, LENGTHS = 15, ("month", "7d", "day", "5h")
WINDOWS = AGENTS * len(LENGTHS)


def paced(store: Store, clock: Callable[[], float]) -> PaceService:
    """Return what the orchestrator has, without an egress and without a chat."""
    names = [f"agent{number}" for number in range(AGENTS)]
    limits = {name: [{"tokens": "240M", "window": length} for length in LENGTHS] for name in names}
    settings: Any = SimpleNamespace(
        timezone=ZoneInfo("UTC"),
        pacing=Pacing(),
        budgets=Budgets.model_validate({"agents": limits}),
        accounts={},
        sandboxes={},
        dispatch=Dispatch(),
        agents=SimpleNamespace(sandbox=None),
    )
    entries = [SimpleNamespace(name=name, role="coder", sandbox=None) for name in names]
    roster = SimpleNamespace(budgets={}, entries=entries, refresh=_nothing)
    services: Any = SimpleNamespace(
        store=store,
        settings=settings,
        clock=clock,
        lookout=SimpleNamespace(roster=roster),
        egress_client=None,
        agents=None,
        delivery=None,
    )
    return PaceService(services=services)


async def _nothing() -> None:
    """The roster is as it was."""
