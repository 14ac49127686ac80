"""The notation of tokens, US dollars and shares in every answer, report and alert. Pure."""

from __future__ import annotations

import re
from math import floor, isfinite, log10
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["tokens", "usd", "share"]
"""The unit of an amount; a share is a fraction of a provider's window."""
CountedUnit: TypeAlias = Literal["tokens", "usd"]
"""The unit in which usage is counted."""

#: The maximum number of decimal places.
_PLACES = 9
#: The notation of an unknown amount, which is never shown as 0 or omitted.
UNKNOWN = "?"
#: The names of the units of limits.
UNITS = {"tokens": "tokens", "usd": "US dollars", "share": "shares"}


def tokens(count: float) -> str:
    """Format a number of tokens: ``950``, ``12.3k``, ``2M``. Abbreviated numbers are rounded down."""
    if not isfinite(count):
        return "more than anything"
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            # Round down: 999,900 must not become a million.
            step = size // (100 if count < 10 * size else 10 if count < 100 * size else 1)
            return f"{int(count) // step * step / size:,.12g}{letter}"
    return f"{count:.0f}"


def money(usd: float | None) -> str:
    """Format US dollars: ``$1.25``, with more places below a dollar; ``?`` if unknown."""
    if usd is None:
        return UNKNOWN
    if not isfinite(usd):
        return "more than anything"
    if usd >= 0.995 or usd == 0:
        return f"${usd:,.2f}"
    if usd >= 0.0001:
        return f"${usd:.4f}"
    # A single cheap token costs less than that, but must not appear as 0.
    return (
        f"${usd:.{min(1 - floor(log10(usd)), _PLACES)}f}"
        if usd >= 10.0**-_PLACES
        else f"<${10.0**-_PLACES:.{_PLACES}f}"
    )


def percent(share: float) -> str:
    """Format a share: ``20%``, ``2.57%``, ``41.2%``, ``5,368%``; ``<0.01%`` for a smaller share above 0."""
    if not isfinite(share * 10_000):
        return "more than anything"
    if 0 < share < 0.0001:
        return "<0.01%"
    # Round down: 99.996 percent must not become 100.
    per = 100 if share < 0.1 else 10 if share < 1 else 1
    return f"{floor(share * 100 * per + 1e-6) / per:,.12g}%"


def amount(count: float | None, unit: str) -> str:
    """Format an amount in this unit; ``?`` if unknown."""
    if count is None:
        return UNKNOWN
    if not isfinite(count):
        return "more than anything"
    if unit == "share":
        return percent(count)
    return money(count) if unit == "usd" else f"{tokens(count)} tokens"


_TOKENS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([kKmMgG]?)")


_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


_MOST = 10**12


_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%")


def read_tokens(value: object) -> int:
    """Read a number of tokens: ``500000``, ``500k`` or ``2M``.

    Raises:
        ValueError: `value` is not a number of tokens; the message says how to write one.
    """
    match = _TOKENS.fullmatch(str(value).replace("_", "")) if isinstance(value, int | str) else None
    if match is None or isinstance(value, bool):
        raise ValueError(f"found {str(value)[:40]!r}; expected a number of tokens, like 500000, 500k or 2M.")
    tokens = round(float(match[1]) * _FACTORS[match[2].casefold()])
    if not 1 <= tokens <= _MOST:
        raise ValueError(f"found {str(value)[:40]!r}; from one token to 10^12 are allowed.")
    return tokens


def read_share(value: object) -> float:
    """Read a share of a window, such as ``20%``, as a fraction.

    Raises:
        ValueError: `value` is not a share.
    """
    match = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f"found {str(value)[:40]!r}; expected a share above 0% and up to 100%, like 20%.")
    return float(match[1]) / 100


def per(window: str | None) -> str:
    """Return `` a day`` or `` in 5h``; empty for a limit without a window."""
    if not window:
        return ""
    return f" a {window}" if window in ("day", "week", "month") else f" in {window}"
