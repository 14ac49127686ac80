"""What is left of a rate limit, also while several requests are under way."""

from __future__ import annotations

from connectors.discord.rate_limit_buckets import Buckets


def headers(limit: int, left: int, after: float) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(left),
        "X-RateLimit-Reset-After": str(after),
    }


def test_what_is_under_way_counts_as_used() -> None:
    buckets = Buckets()
    assert [buckets.take("b", 0.0) for _ in range(9)] == [None] * 9, "nothing is known of it"
    buckets.answered("b", headers(3, 2, 5.0), 0.0)
    assert [buckets.take("b", 1.0) for _ in range(3)] == [None, None, 4.0]
    buckets.answered("b", headers(3, 0, 4.0), 1.0)
    assert buckets.take("b", 4.0) == 1.0
    assert buckets.take("other", 4.0) is None


def test_a_new_window_is_not_asked_for_more_than_the_last_had_before_its_first_answer_came() -> None:
    buckets = Buckets()
    buckets.answered("b", headers(2, 0, 1.0), 0.0)
    waits = [buckets.take("b", 1.5) for _ in range(3)]
    assert waits[:2] == [None, None]
    assert waits[2] is not None
    buckets.answered("b", headers(2, 1, 1.0), 1.6)
    assert buckets.take("b", 1.6) == 1.0, "the other one is under way still"


def test_a_request_without_an_answer_keeps_nobody_waiting_for_ever() -> None:
    buckets = Buckets()
    buckets.refused("b", 1.0, 0.0)
    assert buckets.take("b", 0.5) == 0.5
    assert buckets.take("b", 1.0) is None
    buckets.lost("b")
    assert buckets.take("b", 1.0) is None


def test_headers_that_are_none_change_nothing() -> None:
    buckets = Buckets()
    for value in ("", "x", "-1", "9" * 30, "\u0661"):
        buckets.answered("b", {"X-RateLimit-Remaining": value, "X-RateLimit-Reset-After": "5"}, 0.0)
        buckets.answered("b", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": f"{value}s"}, 0.0)
    assert buckets.take("b", 0.0) is None
