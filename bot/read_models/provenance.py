"""Where a shown value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Source: TypeAlias = Literal[
    "protocol", "adapter", "process", "journal", "register", "egress", "ledger", "provider", "settings", "none"
]
"""The first four are evidence of an agent, as `fleet.supervision.liveness` has it. ``none``: the value is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who says something, and when it did."""

    source: Source = "none"
    at: float | None = None
    """Seconds since the epoch; None if unknown."""
