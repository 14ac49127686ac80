"""Scopes, amounts, and what counts against a limit."""

from __future__ import annotations

import pytest

from budget.limits.scopes import Draw, Limit, Scope, amount_of, counted_on

DRAW = Draw(agent="coder0", launch_id="l1", profiles=("rust", "base"), provider="anthropic", account="team")


def _allowance(scope: str, amount: int = 100, window: str | None = None, may_raise: bool = False) -> Limit:
    return Limit(kind="allowance", scope=scope, amount=amount, window=window, may_raise=may_raise)


def _pool(scope: str, window: str | None = None) -> Limit:
    return Limit(kind="pool", scope=scope, amount=1000, window=window)


@pytest.mark.parametrize(
    ("limit", "scope"),
    [
        (_allowance("host"), "launch:l1"),
        (_allowance("host", window="day"), "agent:coder0"),
        (_allowance("launch:l1", window="day"), "launch:l1"),
        (_pool("host"), "host"),
        (_pool("profile:base", window="day"), "profile:base"),
    ],
)
def test_what_counts_against_a_limit(limit: Limit, scope: str) -> None:
    assert counted_on(limit, DRAW) == scope
    assert scope in DRAW.scopes


@pytest.mark.parametrize(
    "text", ["launch:l1", "agent:coder0", "profile:rust", "host", "provider:openai", "account:a.b"]
)
def test_scopes_are_read_and_written(text: str) -> None:
    assert str(Scope.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "coder0", "agent", "agent:", "agent: x", "Agent:x", "host:", "host:a", "team:x", "agent:a\nb"]
)
def test_what_is_no_scope_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match=r"Write|There are"):
        Scope.parse(text)


def test_an_allowance_is_no_accounts() -> None:
    with pytest.raises(ValueError, match="pool"):
        _allowance("account:team")


@pytest.mark.parametrize(
    ("written", "unit", "amount"),
    [
        (0.1, "usd", 100_000_000),
        ("2.50", "usd", 2_500_000_000),
        (500000, "tokens", 500_000),
        (1e6, "tokens", 1_000_000),
        (1.5, "tokens", 1),
        (100 / 3, "usd", 33_333_333_333),
    ],
)
def test_amounts_are_exact(written: float | str, unit: str, amount: int) -> None:
    assert amount_of(written, "usd" if unit == "usd" else "tokens") == amount


@pytest.mark.parametrize("written", [0, -1, "nan", "inf", "much", 0.5, "1e-10", "1e999999999", 1e300])
def test_what_is_no_amount_is_refused(written: float | str) -> None:
    with pytest.raises(ValueError, match="Write"):
        amount_of(written, "tokens")
