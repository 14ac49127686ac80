"""The detection of agents that spend too much without a visible result. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from budget.amounts import CountedUnit


@dataclass(frozen=True, kw_only=True, slots=True)
class RunawayLimit:
    """The most that may be spent between two visible results; None for no limit in that unit."""

    tokens: float | None = None
    """Weighted tokens."""
    usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SpentSinceResult:
    tokens: float
    """Weighted tokens."""
    usd: float
    """US dollars, without requests of unknown price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunawayFound:
    """An exceeded limit."""

    unit: CountedUnit
    spent: float
    limit: float


def breaker(spent: SpentSinceResult, limit: RunawayLimit) -> RunawayFound | None:
    """Return the exceeded limit if an agent must be paused, or None.

    Args:
        spent: the spending since the last visible result.
        limit: `pacing.runaway` of muster.yaml.
    """
    if limit.tokens is not None and spent.tokens > limit.tokens:
        return RunawayFound(unit="tokens", spent=spent.tokens, limit=limit.tokens)
    if limit.usd is not None and spent.usd > limit.usd:
        return RunawayFound(unit="usd", spent=spent.usd, limit=limit.usd)
    return None
