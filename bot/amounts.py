"""Amounts of tokens and money, read and written as people do. Pure."""

from __future__ import annotations

import re
from math import floor, log10
from typing import Literal, TypeAlias

from bot.errors import UsageError
from bot.limits import read_share, read_tokens

Unit: TypeAlias = Literal["tokens", "usd", "share"]

_USD = re.compile(r"(?:\$\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)|([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?:usd|\$))", re.IGNORECASE)

#: More places are not shown.
_PLACES = 9


def read(text: str) -> tuple[float, Unit]:
    """An amount and its unit: ``500k`` and ``2M`` are tokens, ``20usd`` and ``$20`` US dollars, ``20%`` a share of a
    subscription's window, as a fraction.

    Raises:
        UsageError: it is none, or not above 0.
    """
    match = _USD.fullmatch(text.strip())
    if match is not None and (usd := float(match[1] or match[2])) > 0:
        return usd, "usd"
    if text.strip().endswith("%"):
        try:
            return read_share(text), "share"
        except ValueError as error:
            raise UsageError(f"{str(error)[:1].upper()}{str(error)[1:]}") from None
    try:
        return float(read_tokens(re.sub(r"\s*tokens?$", "", text.strip(), flags=re.IGNORECASE))), "tokens"
    except ValueError:
        raise UsageError(
            f"{text[:40]!r} is no limit. Write tokens, like 500k or 2M, US dollars, like 20usd, or a share of an "
            "account's window, like 20%."
        ) from None


def is_nothing(text: str) -> bool:
    """Whether it is an amount of nothing, in whatever unit."""
    return re.fullmatch(r"\$?\s*0+(?:\.0+)?\s*(?:%|usd|\$|[kmg]|tokens?)?", text.strip(), re.IGNORECASE) is not None


def tokens(count: float) -> str:
    """``950``, ``12.3k``, ``2M``; never rounded to more than there is room for."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            # Cut and not rounded: 999,900 are not a million yet.
            step = size // (100 if count < 10 * size else 10 if count < 100 * size else 1)
            return f"{int(count) // step * step / size:,.12g}{letter}"
    return f"{count:.0f}"


def money(usd: float | None) -> str:
    """``$1.25``; below a dollar with four places, or as many as show two digits of it; unknown is ``?``."""
    if usd is None:
        return "?"
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


def per(window: str | None) -> str:
    """`` a day``, `` in 5h``; empty for a limit that holds for good."""
    if not window:
        return ""
    return f" a {window}" if window in ("day", "week", "month") else f" in {window}"


def percent(share: float) -> str:
    """``20%``, ``2.5%``, ``0.03%``; what is less than that and not nothing, ``<0.01%``."""
    if 0 < share < 0.0001:
        return "<0.01%"
    # Cut and not rounded: 99.996 percent are not all of it yet.
    return f"{floor(share * 10_000 + 1e-6) / 100:,.12g}%"


def amount(count: float, unit: str) -> str:
    """An amount of this unit."""
    if unit == "share":
        return percent(count)
    return money(count) if unit == "usd" else f"{tokens(count)} tokens"
