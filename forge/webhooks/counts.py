"""What is counted of webhooks. Loads nothing of a server."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class WebhookCounts:
    """What arrived since the start."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """How often: taken, unsupported, elsewhere, unsigned, malformed, too large, busy, not written."""
    last_malformed: str | None = None
    """What was wrong with the last one that was signed but could not be read."""
