"""Amounts of tokens and money, read as people write them; how they are written is `budget.amounts`. Pure."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from bot.text.errors import UsageError
from budget.amounts import read_share, read_tokens

Unit: TypeAlias = Literal["tokens", "usd", "share"]

_USD = re.compile(r"(?:\$\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)|([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?:usd|\$))", re.IGNORECASE)


def read(text: str) -> tuple[float, Unit]:
    """Return an amount and its unit: ``500k`` and ``2M`` are tokens, ``20usd`` and ``$20`` US dollars, ``20%`` a share
    of a subscription's window, as a fraction.

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
    """Return whether it is an amount of nothing, in whatever unit."""
    return re.fullmatch(r"\$?\s*0+(?:\.0+)?\s*(?:%|usd|\$|[kmg]|tokens?)?", text.strip(), re.IGNORECASE) is not None
