"""Rows of a ledger for tests, and what they come to when they are added up one by one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

from database.queries.spending.usage_queries import TOKENS, Sums

DAY = 86_400.0
NOON = 20_000 * DAY + 43_200


def row(seq: int, **said: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": f"one-{seq}", "ledger": "one", "seq": seq, "agent": "coder0", "launch_id": "l1", "role": "coder",
        "profile": "bubblewrap", "session": None, "turn": None, "task": None, "account": "main",
        "provider": "anthropic",
        "api": "anthropic", "model_asked": "opus", "model": "opus", "attempt": 1, **dict.fromkeys(TOKENS, 1),
        "reported": True, "raw": {"input_tokens": 1}, "status": 200, "ended": "completed", "detail": None,
        "started_at": NOON - 1, "ended_at": NOON, "first_byte_s": 0.1, "total_s": 1.0, "usd": 0.5,
        "tenant_id": "default", "host": "elsewhere",
    }  # fmt: skip
    return plain | said


def random_row(seq: int, chance: random.Random, *, begin: float, end: float, **said: Any) -> dict[str, Any]:
    """One of a small fleet's, which ended within a time: at any moment, or on an hour."""
    at = chance.uniform(begin, end)
    if chance.random() < 0.2:
        at = min(max(at // 3600 * 3600, begin), end)
    nothing = chance.random() < 0.1
    agent = chance.choice(["coder0", "coder1", "writer0"])
    account = chance.choice(["main", "spare"])
    made = row(
        seq,
        agent=agent,
        role=chance.choice(["coder", "research"]),
        profile=chance.choice(["docs", "docs-web", "bubblewrap"]),
        task=chance.choice([None, "t1", "t2"]),
        account=account,
        provider={"main": "anthropic", "spare": "openai"}[account],
        model=chance.choice([None, "opus", "haiku"]),
        reported=chance.random() < 0.8,
        started_at=at - 1.0,
        ended_at=at,
        # Sums of quarters are exact in whatever order they are made.
        usd=chance.choice([None, 0.25, 0.5, 1.0]),
        **{kind: 0 if nothing else chance.randrange(2**33) for kind in TOKENS},
    )
    return made | said


def added_up(rows: Iterable[Mapping[str, Any]]) -> Sums:
    made = Sums()
    for each in rows:
        tokens = sum(each[kind] for kind in TOKENS)
        made += Sums(
            requests=1,
            **{kind: each[kind] for kind in TOKENS},
            usd=each["usd"] or 0.0,
            unpriced=int(each["usd"] is None and tokens > 0),
            estimated=int(not each["reported"] and tokens > 0),
        )
    return made
