"""When a request to a forge is repeated, and how long Muster waits before (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

#: Seconds to wait where a forge limits requests without saying for how long (GitHub: "wait for at least one minute").
UNTOLD_WAIT_S = 60.0
#: Nobody waits less than this, whatever a forge says.
SHORTEST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How long and how much a forge may take. Times are in seconds, sizes in bytes."""

    request_s: float = 30.0
    attempts: int = 4
    """Of what is safe to repeat."""
    first_pause_s: float = 1.0
    longest_pause_s: float = 15.0
    longest_wait_s: float = 120.0
    """For which a request waits in all where the forge limits requests; for more, the caller comes again."""
    response_bytes: int = 10_000_000
    diff_bytes: int = 1_000_000
    pages: int = 500
    list_bytes: int = 100_000_000
    """Of what is kept of a list; about what its entries take in the responses."""


DEFAULT_LIMITS = HttpLimits()


def said_at(headers: Mapping[str, str]) -> float | None:
    """Return when a response was made by the clock of the server, in seconds since 1970; None: it does not say.

    Source: RFC 9110 section 6.6.1.
    """
    try:
        return max(0.0, parsedate_to_datetime(headers.get("Date", "")).timestamp())
    except (ValueError, OverflowError):
        return None


def wait_asked(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that a rate limit asks to wait, or None if the response is no rate limit.

    Sources: RFC 9110 section 10.2.3; GitHub, "Rate limits for the REST API", where 403 and 429 mean the same, and
    ``x-ratelimit-reset`` is in seconds since 1970.

    Args:
        status: the HTTP status.
        headers: those of the response, whatever their case.
        now: seconds since 1970.
    """
    retry_after = headers.get("Retry-After")
    used_up = headers.get("X-RateLimit-Remaining", "").strip() == "0"
    if status not in (403, 429, 503) or (status == 403 and retry_after is None and not used_up):
        return None
    if status == 503 and retry_after is None:
        return None
    if retry_after is not None:
        seconds = _seconds(retry_after, now)
    else:
        reset = _number(headers.get("X-RateLimit-Reset", "")) if used_up else None
        seconds = None if reset is None else reset - now
    return UNTOLD_WAIT_S if seconds is None else max(SHORTEST_WAIT_S, seconds)


def _seconds(text: str, now: float) -> float | None:
    if (number := _number(text)) is not None:
        return number
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
