"""When an agent has spent so much without anything to show for it that a person should look. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class RunawayLimit:
    """What may be spent from one visible result to the next; None: no limit of that unit."""

    tokens: float | None = None
    """Weighted."""
    usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SpentSinceResult:
    tokens: float
    """Weighted."""
    usd: float
    """Of what has a known price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunawayFound:
    """The limit is passed."""

    unit: Literal["tokens", "usd"]
    spent: float
    limit: float


def breaker(spent: SpentSinceResult, limit: RunawayLimit) -> RunawayFound | None:
    """Return whether an agent is to be paused.

    Args:
        spent: since its last visible result.
        limit: as `pacing.runaway` of muster.yaml has it.
    """
    if limit.tokens is not None and spent.tokens > limit.tokens:
        return RunawayFound(unit="tokens", spent=spent.tokens, limit=limit.tokens)
    if limit.usd is not None and spent.usd > limit.usd:
        return RunawayFound(unit="usd", spent=spent.usd, limit=limit.usd)
    return None
