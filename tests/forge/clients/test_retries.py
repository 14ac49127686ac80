"""How long a forge asks to wait."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from forge.clients.retries import SHORTEST_WAIT_S, UNTOLD_WAIT_S, said_at, wait_asked

NOW = 1_764_072_000.0  # 2025-11-25 12:00:00 UTC


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (429, {"retry-after": "Tue, 25 Nov 2025 12:00:30 GMT"}, 30.0),
        (429, {"Retry-After": "Tue, 25 Nov 2025 11:00:00 GMT"}, SHORTEST_WAIT_S),
        (429, {"Retry-After": "0"}, SHORTEST_WAIT_S),
        (429, {"Retry-After": "soon"}, UNTOLD_WAIT_S),
        (429, {"Retry-After": "nan"}, UNTOLD_WAIT_S),
        (429, {"Retry-After": "-5"}, UNTOLD_WAIT_S),
        (429, {}, UNTOLD_WAIT_S),
        (503, {"Retry-After": "5"}, 5.0),
        (403, {"Retry-After": "5"}, 5.0),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 90)}, 90.0),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) - 90)}, SHORTEST_WAIT_S),
        (403, {"x-ratelimit-remaining": "0"}, UNTOLD_WAIT_S),
        (429, {"x-ratelimit-remaining": "12", "x-ratelimit-reset": str(int(NOW) + 90)}, UNTOLD_WAIT_S),
    ],
)
def test_a_rate_limit_says_how_long(status: int, headers: dict[str, str], seconds: float) -> None:
    assert wait_asked(status, CIMultiDict(headers), NOW) == seconds


@pytest.mark.parametrize(
    ("date", "at"),
    [
        ("Tue, 25 Nov 2025 12:00:30 GMT", NOW + 30),
        ("Mon, 01 Jan 1900 00:00:00 GMT", 0.0),
        ("yesterday", None),
        ("Tue, 99 Nov 2025 12:00:30 GMT", None),
    ],
)
def test_a_response_says_when_it_was_made(date: str, at: float | None) -> None:
    assert said_at(CIMultiDict({"date": date})) == at
    assert said_at({}) is None


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}),
        (403, {}),
        (403, {"x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1"}),
        (404, {"Retry-After": "5"}),
        (500, {"Retry-After": "5"}),
        (503, {}),
    ],
)
def test_a_refusal_or_a_failure_is_no_rate_limit(status: int, headers: dict[str, str]) -> None:
    assert wait_asked(status, CIMultiDict(headers), NOW) is None
