"""How amounts of tokens, US dollars and shares are written, in every answer, report and alarm. Pure."""

from __future__ import annotations

import re
from math import floor, isfinite, log10

#: More places are not shown.
_PLACES = 9
#: What is written for what no one knows: never 0, and never left out.
UNKNOWN = "?"


def tokens(count: float) -> str:
    """``950``, ``12.3k``, ``2M``; never rounded to more than there is room for."""
    if not isfinite(count):
        return "more than anything"
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            # Cut and not rounded: 999,900 are not a million yet.
            step = size // (100 if count < 10 * size else 10 if count < 100 * size else 1)
            return f"{int(count) // step * step / size:,.12g}{letter}"
    return f"{count:.0f}"


def money(usd: float | None) -> str:
    """``$1.25``; below a dollar with four places, or as many as show two digits of it; unknown is ``?``."""
    if usd is None:
        return UNKNOWN
    if not isfinite(usd):
        return "more than anything"
    if usd >= 0.995 or usd == 0:
        return f"${usd:,.2f}"
    if usd >= 0.0001:
        return f"${usd:.4f}"
    # A single cheap token costs a fraction of that, and is not nothing.
    return (
        f"${usd:.{min(1 - floor(log10(usd)), _PLACES)}f}"
        if usd >= 10.0**-_PLACES
        else f"<${10.0**-_PLACES:.{_PLACES}f}"
    )


def percent(share: float) -> str:
    """``20%``, ``2.57%``, ``41.2%``, ``5,368%``; what is less than 0.01% and not nothing, ``<0.01%``."""
    if not isfinite(share * 10_000):
        return "more than anything"
    if 0 < share < 0.0001:
        return "<0.01%"
    # Cut and not rounded: 99.996 percent are not all of it yet.
    per = 100 if share < 0.1 else 10 if share < 1 else 1
    return f"{floor(share * 100 * per + 1e-6) / per:,.12g}%"


def amount(count: float | None, unit: str) -> str:
    """Return an amount of this unit; unknown is ``?``."""
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
    """Return a number of tokens from ``500000``, ``500k`` or ``2M``.

    Raises:
        ValueError: it is none; the message says what one looks like.
    """
    match = _TOKENS.fullmatch(str(value).replace("_", "")) if isinstance(value, int | str) else None
    if match is None or isinstance(value, bool):
        raise ValueError(f"found {str(value)[:40]!r}; a number of tokens is wanted, like 500000, 500k or 2M.")
    tokens = round(float(match[1]) * _FACTORS[match[2].casefold()])
    if not 1 <= tokens <= _MOST:
        raise ValueError(f"found {str(value)[:40]!r}; from one token to 10^12 are allowed.")
    return tokens


def read_share(value: object) -> float:
    """Return a share of a window, as a fraction of it, from ``20%``.

    Raises:
        ValueError: it is none.
    """
    match = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f"found {str(value)[:40]!r}; a share above 0% and up to 100% is wanted, like 20%.")
    return float(match[1]) / 100


def per(window: str | None) -> str:
    """`` a day``, `` in 5h``; empty for a limit that holds for good."""
    if not window:
        return ""
    return f" a {window}" if window in ("day", "week", "month") else f" in {window}"
