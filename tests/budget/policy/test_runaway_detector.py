from __future__ import annotations

import pytest

from budget.policy.runaway_detector import RunawayLimit, SpentSinceResult, breaker


@pytest.mark.parametrize(
    ("tokens", "usd", "limit", "unit"),
    [
        (5e6, 0.0, RunawayLimit(tokens=5e6), None),
        (5e6 + 1, 0.0, RunawayLimit(tokens=5e6), "tokens"),
        (1.0, 20.5, RunawayLimit(tokens=5e6, usd=20.0), "usd"),
        (1e9, 1e9, RunawayLimit(), None),
        (6e6, 30.0, RunawayLimit(tokens=5e6, usd=20.0), "tokens"),
    ],
)
def test_past_a_limit_it_is_a_runaway(tokens: float, usd: float, limit: RunawayLimit, unit: str | None) -> None:
    found = breaker(SpentSinceResult(tokens=tokens, usd=usd), limit)
    assert (None if found is None else found.unit) == unit
