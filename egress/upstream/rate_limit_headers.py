"""An account's quota, read passively from response headers.

Header names and formats: Anthropic documentation, "Rate limits"; the ``unified`` headers as subscriptions get them;
OpenAI documentation, "Rate limits in headers"; ``x-codex-`` as Codex reads them. Unreadable values are omitted: missing
means unknown, never zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from egress.ledger.model import Observation
from egress.provider_endpoints import Provider

_UNIFIED = "anthropic-ratelimit-unified-"
_KEYED = "anthropic-ratelimit-"
_OPENAI = "x-ratelimit-"
_PREFIXES = (_KEYED, _OPENAI, "x-codex-")
_CODEX_FAMILY = re.compile(r"x-(codex(?:-[a-z0-9-]{1,40})?)-(primary|secondary)-used-percent")
_LENGTHS = {"5h": 5 * 3_600.0, "7d": 7 * 86_400.0}
_NAMES_BY_MINUTES = {300: "5h", 10_080: "7d"}
_WINDOW = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_DURATION = re.compile(r"(?:(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d))")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_FARTHEST_S = 400 * 86_400.0
"""The longest window; a reset beyond it is garbage."""
_MOST_WINDOWS = 24


def observe(provider: Provider, account: str, headers: Mapping[str, str], now: float) -> tuple[Observation, ...]:
    """Return the state of the account's windows after this response.

    Args:
        provider: the provider that answered.
        account: the account's name.
        headers: the headers of the response; their names in any case.
        now: seconds since the epoch.
    """
    low = {low: value.strip() for name, value in headers.items() if (low := name.lower()).startswith(_PREFIXES)}
    if not low:
        return ()
    windows = _anthropic(low, now) if provider == "anthropic" else {**_openai(low, now), **_codex(low, now)}
    return tuple(
        Observation(account=account, provider=provider, window=window, seen_at=now, **found)  # type: ignore[arg-type]
        for window, found in list(windows.items())[:_MOST_WINDOWS]
        if any(value is not None for key, value in found.items() if key != "window_s")
    )


_Found = dict[str, "float | str | None"]


def _anthropic(headers: Mapping[str, str], now: float) -> dict[str, _Found]:
    windows: dict[str, _Found] = {}
    for name, value in headers.items():
        if name.startswith(_UNIFIED):
            rest = name.removeprefix(_UNIFIED)
            window, _, what = rest.rpartition("-")
            if rest == "status":
                windows.setdefault("unified", {})["status"] = _word(value)
            elif rest == "reset":
                windows.setdefault("unified", {})["reset_at"] = _epoch(value, now)
            elif rest == "overage-status":
                windows.setdefault("overage", {})["status"] = _word(value)
            elif rest == "overage-reset":
                windows.setdefault("overage", {})["reset_at"] = _epoch(value, now)
            elif window in {"", "fallback", "representative", "overage"} or not _WINDOW.fullmatch(window):
                continue
            elif what == "utilization":
                windows.setdefault(window, {})["used"] = _number(value)
            elif what == "status":
                windows.setdefault(window, {})["status"] = _word(value)
            elif what == "reset":
                windows.setdefault(window, {})["reset_at"] = _epoch(value, now)
        elif name.startswith(_KEYED):
            window, _, what = name.removeprefix(_KEYED).rpartition("-")
            if window and _WINDOW.fullmatch(window) and what in {"limit", "remaining"}:
                windows.setdefault(window, {})[what] = _number(value)
            elif window and _WINDOW.fullmatch(window) and what == "reset":
                windows.setdefault(window, {})["reset_at"] = _epoch(value, now)
    for window, found in windows.items():
        length = _LENGTHS.get(window.partition("_")[0])
        if length is not None:
            found["window_s"] = length
        _share(found)
    return windows


def _openai(headers: Mapping[str, str], now: float) -> dict[str, _Found]:
    windows: dict[str, _Found] = {}
    for name, value in headers.items():
        if not name.startswith(_OPENAI):
            continue
        what, _, window = name.removeprefix(_OPENAI).partition("-")
        if not _WINDOW.fullmatch(window):
            continue
        if what in {"limit", "remaining"}:
            windows.setdefault(window, {})[what] = _number(value)
        elif what == "reset":
            wait = _duration(value)
            windows.setdefault(window, {})["reset_at"] = None if wait is None else now + wait
    for found in windows.values():
        _share(found)
    return windows


def _codex(headers: Mapping[str, str], now: float) -> dict[str, _Found]:
    windows: dict[str, _Found] = {}
    for name in headers:
        family = _CODEX_FAMILY.fullmatch(name)
        if family is None:
            continue
        limit, which = family.groups()
        found = _codex_window(headers, f"x-{limit}-{which}-", now)
        if found is None:
            continue
        length = found["window_s"]
        window = _name_by(int(length // 60)) if isinstance(length, float) else which
        # Some models have a limit in addition to the plan's.
        windows[window if limit == "codex" else f"{window}_{limit.removeprefix('codex-')}"] = found
    return windows


def _codex_window(headers: Mapping[str, str], prefix: str, now: float) -> _Found | None:
    """Return one window, or None if it is absent; all zeros also mean absent."""
    used = _number(headers.get(f"{prefix}used-percent", ""))
    minutes = _number(headers.get(f"{prefix}window-minutes", ""))
    at = _number(headers.get(f"{prefix}reset-at", ""))
    after = _number(headers.get(f"{prefix}reset-after-seconds", ""))
    if used is None or not (used or minutes or at or after):
        return None
    length = None
    if minutes and minutes.is_integer() and minutes * 60 <= _FARTHEST_S:
        length = minutes * 60
    reset = _epoch(str(at), now) if at else None
    if reset is None and after is not None and after <= _FARTHEST_S:
        reset = now + after
    return {"used": used / 100, "reset_at": reset, "window_s": length}


def _name_by(minutes: int) -> str:
    """Return the name of a window of this length. Codex also reports 299 and 10,079 minutes."""
    for length, name in _NAMES_BY_MINUTES.items():
        if abs(length - minutes) <= 1:
            return name
    for size, sign in ((1_440, "d"), (60, "h")):
        if minutes % size == 0:
            return f"{minutes // size}{sign}"
    return f"{minutes}m"


def _share(found: _Found) -> None:
    limit, remaining = found.get("limit"), found.get("remaining")
    if isinstance(limit, float) and isinstance(remaining, float) and limit > 0 and found.get("used") is None:
        found["used"] = max(0.0, 1 - remaining / limit)


def _number(value: str) -> float | None:
    """Return a number of at least 0, or None."""
    if not 0 < len(value) <= 40 or "_" in value or not value.isascii():
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 <= number <= 1e15 else None


def _word(value: str) -> str | None:
    return value if 0 < len(value) <= 60 and value.isprintable() else None


def _epoch(value: str, now: float) -> float | None:
    """Return seconds since the epoch, from the same, from milliseconds, or from RFC 3339; None if unreadable."""
    at = _number(value)
    if at is None:
        try:
            when = datetime.fromisoformat(value) if len(value) <= 40 else None
            if when is None or when.tzinfo is None:
                return None
            at = when.astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            # OverflowError: in UTC, the time is before the first year or after the last.
            return None
    return at if abs(at - now) <= _FARTHEST_S else None


def _duration(value: str) -> float | None:
    """Return seconds from ``6m0s``, ``1.5s``, ``12ms``, or a bare number of seconds; None if unreadable."""
    if (bare := _number(value)) is not None:
        return bare if bare <= _FARTHEST_S else None
    if not value or len(value) > 40 or _DURATION.sub("", value):
        return None
    total = sum(float(amount) * _SECONDS[unit] for amount, unit in _DURATION.findall(value))
    return total if total <= _FARTHEST_S else None
