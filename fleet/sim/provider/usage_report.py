"""How the simulated provider tells what it billed: as the documentation shows it, or in an odd way that was seen.

What is odd is only the telling, save for three: `sparse` of OpenAI's shapes tells no parts, and bills none; `huge` and
`free` bill what no real answer costs. `BilledRequest.reported` in the ledger says whether the report is the whole bill.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.token_count import BilledTokens

Kind: TypeAlias = Literal[
    "full", "none", "null", "unfinal", "nulls", "zeros", "sparse", "steps", "huge", "free", "garbage"
]
"""full: as documented. none: the key is missing. null: it is null. unfinal: Anthropic's placeholder, and nothing after
it (elsewhere as none). nulls: what is zero, or was told before, is null. zeros: what was told before is 0 later on.
sparse: only what must be there. steps: told again and again, while it grows. huge: a hundred thousand million tokens.
free: nothing at all is billed. garbage: words, fractions, negative numbers and lists for numbers."""
Place: TypeAlias = Literal["start", "middle", "end", "document"]
"""Where in an answer: at its start, while it streams, at its end; or the whole of it at once."""

KINDS: tuple[Kind, ...] = get_args(Kind)
#: Told by no kind of these, so that it can only be estimated.
UNTOLD: frozenset[Kind] = frozenset({"none", "null", "unfinal", "garbage"})
HUGE = BilledTokens(input=10**11 + 3, output=10**10 + 7)


def billed(kind: Kind, api: Api, usage: BilledTokens) -> BilledTokens:
    """Return what is billed where it is told in this way."""
    match kind:
        case "huge":
            return HUGE
        case "free":
            return BilledTokens()
        case "sparse" if api != "anthropic":
            return BilledTokens(input=usage.whole_input, output=usage.output)
    return usage


def put(source: Mapping[str, Any], kind: Kind, api: Api, place: Place, usage: BilledTokens) -> dict[str, Any]:
    """`source` with its usage as this kind tells it in this place, or without."""
    if kind == "none" or (kind == "unfinal" and place != "start"):
        return {name: value for name, value in source.items() if name != "usage"}
    return {**source, "usage": None if kind == "null" else told(kind, api, place, usage)}


def told(kind: Kind, api: Api, place: Place, usage: BilledTokens) -> dict[str, Any]:
    """Return the usage object itself."""
    shown = _anthropic(kind, place, usage) if api == "anthropic" else _openai(kind, api, usage)
    if kind == "garbage":
        odd = ("many", -7, 1.5, [3], True, 10**40)
        numbers = [name for name, value in shown.items() if isinstance(value, int)]
        shown |= {name: odd[index % len(odd)] for index, name in enumerate(numbers)}
    return shown


def _anthropic(kind: Kind, place: Place, usage: BilledTokens) -> dict[str, Any]:
    shown = usage.as_anthropic()
    if place in {"middle", "end"}:
        # Every field of a message_delta's usage is cumulative; only output_tokens must be there.
        shown = {name: value for name, value in shown.items() if name.endswith("_tokens")}
        before = [name for name in shown if name != "output_tokens"]
    else:
        before = [name for name, value in shown.items() if value == 0 and name != "output_tokens"]
    if kind == "sparse":
        return {name: value for name, value in shown.items() if name not in before}
    if kind == "nulls":
        return {**shown, **dict.fromkeys(before)}
    if kind == "zeros":
        return {**shown, **dict.fromkeys(before, 0)}
    return shown


def _openai(kind: Kind, api: Api, usage: BilledTokens) -> dict[str, Any]:
    shown = usage.as_responses() if api == "responses" else usage.as_chat()
    details = [name for name in shown if name.endswith("_details")]
    if kind == "sparse":
        return {name: value for name, value in shown.items() if name not in (*details, "total_tokens")}
    if kind == "nulls":
        emptied = {name: value if any(value.values()) else None for name, value in shown.items() if name in details}
        return {**shown, **emptied}
    return shown


def part(usage: BilledTokens, output: int) -> BilledTokens:
    """Return the bill when so much of the output was written."""
    return dataclasses.replace(usage, output=min(output, usage.output), reasoning=min(output, usage.reasoning))
