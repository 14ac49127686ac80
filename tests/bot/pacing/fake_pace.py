"""A pace whose windows a test sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from bot.pacing.service import PaceService
from bot.pacing.window_status import PaceSnapshot
from budget.windows.pace_admission import EvenSpreadLine, PacePolicy, Window, WindowState
from tests.bot.orchestrator import House


@dataclass(slots=True)
class SetPace:
    """Windows as they are put here (bot.pacing.service.PaceService)."""

    clock: Callable[[], float]
    real: Any = None
    """The one whose place it takes, for all but the windows."""
    standings: dict[str, WindowState] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def snapshot(self) -> PaceSnapshot:
        return PaceSnapshot(now=self.clock(), policy=PacePolicy(), standings=dict(self.standings))

    def put(self, key: str, used: float | None, **said: Any) -> None:
        """A window in shares of its account, of which so much is used, and whose line allows all of it."""
        now = self.clock()
        plain: dict[str, Any] = {
            "key": key, "scope": key.rpartition("/")[0], "unit": "share", "limit": 1.0, "begins_at": now - 3_600.0,
            "resets_at": now + 3_600.0, "length_s": 7_200.0, "certainty": "provider", "used": used, "used_at": now,
            "per_token": 1e-7,
        }  # fmt: skip
        window = Window(**plain | said)
        line = EvenSpreadLine(
            window=key,
            drawn_at=now - 1e9,
            drawn_used=0.0,
            limit=window.limit,
            resets_at=window.resets_at,
            cause="first",
        )
        self.standings[key] = WindowState(window=window, line=line)


def paced(home: House) -> SetPace:
    """Have a house know the windows that are put there, and no others."""
    services = home.orchestrator.services
    pace = SetPace(services.clock, services.pace)
    services.pace = cast("PaceService", pace)
    services.dispatcher.snapshot = pace.snapshot
    return pace
