"""Windows to try the pacing law on."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from budget.amounts import Unit
from budget.windows.pace_admission import (
    EvenSpreadLine,
    PaceAuthorization,
    PacePolicy,
    Urgency,
    Window,
    WindowState,
    redrawn,
)

HOUR, DAY = 3_600.0, 86_400.0
#: A Monday at midnight in UTC.
BEGINS = 1_795_996_800.0
POLICY = PacePolicy(zone=ZoneInfo("UTC"))
URGENCIES: tuple[Urgency, ...] = ("low", "normal", "high", "critical")


def at(text: str, zone: str = "UTC") -> float:
    """A moment as the clock on a wall shows it."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def week(used: float | None = 0.0, **others: Any) -> Window:
    """Seven days of a subscription, of which a million weighted tokens are ten percent."""
    given: dict[str, Any] = {
        "key": "account:main/7d", "scope": "account:main", "unit": "share", "limit": 1.0, "begins_at": BEGINS,
        "resets_at": BEGINS + 7 * DAY, "length_s": 7 * DAY, "certainty": "provider", "per_token": 1e-7,
    }  # fmt: skip
    return Window(used=used, **given | others)


def day(used: float | None = 0.0, **others: Any) -> Window:
    """A day's budget of a million tokens."""
    given: dict[str, Any] = {
        "key": "host/tokens/day", "scope": "host", "unit": "tokens", "limit": 1e6, "begins_at": BEGINS,
        "resets_at": BEGINS + DAY, "length_s": DAY, "certainty": "provider",
    }  # fmt: skip
    return Window(used=used, **given | others)


def drawn(window: Window, now: float = BEGINS, policy: PacePolicy = POLICY) -> EvenSpreadLine:
    """Its first line."""
    line = redrawn(window, None, now, policy)
    assert line is not None
    return line


def standing(window: Window, now: float = BEGINS, **others: Any) -> WindowState:
    """With a line that was drawn then, by what was used then: nothing."""
    begun = Window(**{name: getattr(window, name) for name in Window.__slots__} | {"used": 0.0})
    return WindowState(window=window, line=others.pop("line", None) or drawn(begun, now), **others)


def leave(amount: float, unit: Unit = "share", **others: Any) -> PaceAuthorization:
    """An authorization that holds all week."""
    given: dict[str, Any] = {
        "id": "a1",
        "scope": "account:main",
        "granted_at": BEGINS,
        "until": BEGINS + 7 * DAY,
    }
    return PaceAuthorization(amount=amount, unit=unit, **given | others)
