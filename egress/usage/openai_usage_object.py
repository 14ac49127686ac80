"""OpenAI's usage objects, whose input includes cached tokens, and whose output includes reasoning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from budget.tokens import Tokens
from egress.usage import usage_number_checks


def disjoint(usage: Mapping[str, Any], read: str, written: str) -> tuple[Tokens, bool]:
    """Return the tokens in disjoint kinds, and whether no part was larger than its total.

    Args:
        usage: the merged usage object.
        read: the API's name for input: ``input`` or ``prompt``.
        written: the API's name for output: ``output`` or ``completion``.
    """
    whole_input = usage_number_checks.number(usage, f"{read}_tokens")
    whole_output = usage_number_checks.number(usage, f"{written}_tokens")
    details = f"{read}_tokens_details"
    cache_read = usage_number_checks.number(usage, details, "cached_tokens")
    cache_write = usage_number_checks.number(usage, details, "cache_write_tokens")
    reasoning = usage_number_checks.number(usage, f"{written}_tokens_details", "reasoning_tokens")
    if reasoning and usage_number_checks.number(usage, "total_tokens") == whole_input + whole_output + reasoning:
        # Some compatible servers (xAI's) do not include reasoning in the output: the total shows it.
        whole_output += reasoning
    fresh = whole_input - cache_read - cache_write
    said = whole_output - reasoning
    tokens = Tokens(
        input=max(0, fresh),
        output=max(0, said),
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=reasoning,
    )
    return tokens, fresh >= 0 and said >= 0
