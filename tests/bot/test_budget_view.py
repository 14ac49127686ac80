"""The table of `budget`: what is reserved has a column while anything is."""

from __future__ import annotations

from typing import Any

from bot import budget_view


def limit(scope: str, *, reserved: int) -> dict[str, Any]:
    return {
        "scope": scope,
        "limit": 1_000_000,
        "unit": "tokens",
        "used": 200_000,
        "reserved": reserved,
        "remaining": 800_000 - reserved,
        "window": "day",
        "policy": "cutoff",
        "state": "open",
        "pace": None,
    }


def test_what_is_reserved_has_a_column_where_something_is() -> None:
    idle, busy = limit("host", reserved=0), limit("role:coder", reserved=50_000)
    assert "reserved" not in budget_view.table([idle], unknown="-")
    told = budget_view.table([idle, busy], unknown="-")
    assert "| scope | limit | used | reserved | left | now | then |" in told
    assert "| role:coder | 1M tokens a day | 200k tokens | 50k tokens | 750k tokens |" in told
