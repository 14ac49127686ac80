"""How the simulated provider tells what it billed: as the documentation of each API shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.token_count import BilledTokens

Place: TypeAlias = Literal["start", "middle", "end", "document"]
"""Where in an answer: at its start, while it streams, at its end; or the whole of it at once."""


class UsageReport:
    """Tells usage as documented. A subclass may tell it in another way, as some providers do."""

    complete = True
    """A whole answer tells all that was billed."""

    def billed(self, api: Api, usage: BilledTokens) -> BilledTokens:
        """Return what is billed where it is told in this way."""
        return usage

    def put(self, source: Mapping[str, Any], api: Api, place: Place, usage: BilledTokens) -> dict[str, Any]:
        """Return `source` with its usage as it is told in this place."""
        return {**source, "usage": self.told(api, place, usage)}

    def told(self, api: Api, place: Place, usage: BilledTokens) -> dict[str, Any]:
        """Return the usage object itself."""
        if api == "responses":
            return usage.as_responses()
        if api == "chat":
            return usage.as_chat()
        shown = usage.as_anthropic()
        if place in {"middle", "end"}:
            # Every field of a message_delta's usage is cumulative; only output_tokens must be there.
            return {name: value for name, value in shown.items() if name.endswith("_tokens")}
        return shown
