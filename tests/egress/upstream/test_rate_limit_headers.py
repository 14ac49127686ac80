"""What response headers say of an account's quota."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.ledger.model import Observation
from egress.provider_endpoints import Provider
from egress.upstream.rate_limit_headers import observe
from fleet.sim.provider.quota_headers import SimQuota, SimWindows

NOW = 1_800_000_000.0
U = "anthropic-ratelimit-unified-"


def seen(provider: Provider, headers: Mapping[str, str]) -> dict[str, Observation]:
    return {one.window: one for one in observe(provider, "work", headers, NOW)}


def test_a_subscription_of_anthropics() -> None:
    found = seen(
        "anthropic",
        {
            "Anthropic-RateLimit-Unified-Status": "allowed_warning",
            U + "reset": str(int(NOW) + 100),
            U + "representative-claim": "five_hour",
            U + "fallback-percentage": "0.5",
            U + "overage-status": "rejected",
            U + "5h-status": "allowed",
            U + "5h-utilization": "1.04",
            U + "5h-reset": str(int(NOW) + 100),
            U + "7d-utilization": "0.25",
            U + "7d_opus-utilization": "0.9",
            "content-type": "application/json",
        },
    )
    assert set(found) == {"unified", "overage", "5h", "7d", "7d_opus"}
    five = found["5h"]
    assert (five.used, five.status, five.reset_at, five.window_s) == (1.04, "allowed", NOW + 100, 18_000)
    assert (five.account, five.provider, five.seen_at) == ("work", "anthropic", NOW)
    assert (found["7d"].used, found["7d_opus"].used, found["7d_opus"].window_s) == (0.25, 0.9, 604_800)
    assert (found["unified"].status, found["unified"].reset_at) == ("allowed_warning", NOW + 100)
    assert found["overage"].status == "rejected"


def test_an_api_key_of_anthropics() -> None:
    found = seen(
        "anthropic",
        {
            "anthropic-ratelimit-requests-limit": "1000",
            "anthropic-ratelimit-requests-remaining": "250",
            "anthropic-ratelimit-requests-reset": "2027-01-15T08:01:00Z",
            "anthropic-ratelimit-input-tokens-limit": "450000",
            "anthropic-ratelimit-input-tokens-remaining": "450000",
        },
    )
    requests = found["requests"]
    assert (requests.limit, requests.remaining, requests.used, requests.reset_at) == (1000, 250, 0.75, NOW + 60)
    assert (found["input-tokens"].used, found["input-tokens"].reset_at) == (0.0, None)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("6m0s", 360), ("1.5s", 1.5), ("12ms", 0.012), ("1h2m3s", 3723), ("2d", 172_800), ("0s", 0), ("59.9", 59.9)],
)
def test_an_api_key_of_openais(written: str, seconds: float) -> None:
    found = seen(
        "openai",
        {
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "10",
            "x-ratelimit-reset-tokens": written,
        },
    )
    tokens = found["tokens"]
    assert tokens.reset_at == pytest.approx(NOW + seconds)
    assert (tokens.limit, tokens.remaining) == (1000, 10)
    assert tokens.used == pytest.approx(0.99)


def codex(which: str, used: str, minutes: str, limit: str = "codex", **more: str) -> dict[str, str]:
    prefix = f"x-{limit}-{which}-"
    return {
        prefix + "used-percent": used,
        prefix + "window-minutes": minutes,
        **{prefix + name.replace("_", "-"): value for name, value in more.items()},
    }


def test_codexs_windows_are_known_by_their_length() -> None:
    found = seen(
        "openai",
        {
            **codex("primary", "12.5", "10079", reset_at=str(int(NOW) + 60)),
            **codex("secondary", "80", "299", reset_after_seconds="120"),
            **codex("primary", "50", "1440", limit="codex-bengalfox"),
        },
    )
    assert set(found) == {"7d", "5h", "1d_bengalfox"}
    assert (found["7d"].used, found["7d"].reset_at) == (0.125, NOW + 60)
    assert (found["5h"].used, found["5h"].reset_at) == (0.8, NOW + 120)


def test_a_window_of_zeros_is_none() -> None:
    assert seen("openai", codex("secondary", "0", "0", reset_after_seconds="0")) == {}
    assert set(seen("openai", codex("primary", "0", "300"))) == {"5h"}


@pytest.mark.parametrize(
    "garbage",
    [
        *("", "many", "-1", "nan", "inf", "1_000", "١٢", "0x10", "9" * 50, "soon", "1e400", "2026-13-45T99:00:00Z"),
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
    ],
)
def test_garbage_is_unknown_and_never_zero(garbage: str) -> None:
    names = [
        *(U + name for name in ("reset", "5h-utilization", "5h-reset", "7d-reset")),
        *(f"anthropic-ratelimit-tokens-{name}" for name in ("limit", "remaining", "reset")),
    ]
    assert seen("anthropic", dict.fromkeys(names, garbage)) == {}
    names = [f"x-ratelimit-{name}-tokens" for name in ("limit", "remaining", "reset")]
    names += [f"x-codex-primary-{name}" for name in ("used-percent", "window-minutes", "reset-at")]
    assert seen("openai", dict.fromkeys(names, garbage)) == {}


def test_a_status_that_nobody_knows_is_kept() -> None:
    assert seen("anthropic", {U + "5h-status": "queueing_soft"})["5h"].status == "queueing_soft"


def test_a_reset_beyond_all_windows_is_unknown() -> None:
    found = seen("anthropic", {U + "5h-utilization": "0.5", U + "5h-reset": "99999999999"})
    assert (found["5h"].used, found["5h"].reset_at) == (0.5, None)


def test_the_windows_of_one_response_are_bounded() -> None:
    assert len(seen("anthropic", {f"{U}w{number}-utilization": "0.5" for number in range(1_000)})) <= 24


@given(
    st.dictionaries(
        st.sampled_from([U, "anthropic-ratelimit-", "x-ratelimit-", "x-codex-", "x-codex-primary-"]).flatmap(
            lambda prefix: st.text(max_size=20).map(lambda rest: prefix + rest)
        ),
        st.text(max_size=30),
    ),
    st.sampled_from(["anthropic", "openai"]),
)
def test_nothing_in_a_header_does_harm(headers: dict[str, str], provider: Provider) -> None:
    for one in observe(provider, "work", headers, NOW):
        assert one.used is None or one.used >= 0


@pytest.mark.parametrize("subscription", [True, False])
@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_what_the_simulated_provider_sends_is_read(provider: Provider, subscription: bool) -> None:
    windows = SimWindows(
        SimQuota(tokens_per_five_hours=1_000, input_tokens_per_minute=1_000, output_tokens_per_minute=0)
    )
    windows.spend(NOW, 400, 100)
    headers = windows.headers("anthropic" if provider == "anthropic" else "responses", NOW, subscription=subscription)
    found = seen(provider, headers)
    assert found["5h" if subscription else "tokens"].used == pytest.approx(0.5)
