"""Parsing of token and money amounts that people type. `budget.amounts` formats them. Pure."""

from __future__ import annotations

import re

from bot.text.errors import UsageError
from budget.amounts import read_share, read_tokens
from budget.windows.even_spread_line import Unit

_USD = re.compile(r"(?:\$\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)|([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?:usd|\$))", re.IGNORECASE)


def read(text: str) -> tuple[float, Unit]:
    """Return an amount and its unit.

    ``500k`` and ``2M`` are tokens, ``20usd`` and ``$20`` are US dollars. ``20%`` is a share of a subscription's window,
    returned as a fraction.

    Raises:
        UsageError: `text` is not an amount, or not above 0.
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
    """Return whether `text` is a zero amount, in any unit."""
    return re.fullmatch(r"\$?\s*0+(?:\.0+)?\s*(?:%|usd|\$|[kmg]|tokens?)?", text.strip(), re.IGNORECASE) is not None
