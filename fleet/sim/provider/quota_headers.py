"""The quota headers of a provider, from what was billed in the windows.

Names and forms: Anthropic API documentation, "Rate limits"; the `unified` headers as Anthropic's subscription endpoint
sends them; OpenAI's "Rate limits in headers"; `x-codex-` as Codex reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleet.sim.provider.normalized_request import Api

MINUTE, FIVE_HOURS, WEEK = 60.0, 5 * 3_600.0, 7 * 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SimQuota:
    """Tokens and requests that an account has, per window."""

    requests_per_minute: int = 1_000
    input_tokens_per_minute: int = 450_000
    output_tokens_per_minute: int = 90_000
    tokens_per_five_hours: int = 20_000_000
    tokens_per_week: int = 200_000_000
    families: Mapping[str, int] = field(default_factory=dict)
    """Of a week, what models of a family may have of it: those whose name holds the word."""
    refuses: bool = False
    """Whether a plan whose window is used up is turned away (429), as real ones are, and not only told."""


class SimWindows:
    """What one account used, and when. Fixed windows that begin at multiples of their length."""

    def __init__(self, limits: SimQuota) -> None:
        self.limits = limits
        #: By length, the number of the latest window and its requests, input and output tokens.
        self._latest: dict[tuple[float, str], tuple[int, tuple[int, int, int]]] = {}

    def spend(self, now: float, input_tokens: int, output_tokens: int, model: str = "") -> None:
        of_model = [(WEEK, family) for family in self.limits.families if family in model]
        for key in ((MINUTE, ""), (FIVE_HOURS, ""), (WEEK, ""), *of_model):
            window, latest = int(now // key[0]), self._latest.get(key)
            if latest is None or latest[0] < window:
                self._latest[key] = (window, (1, input_tokens, output_tokens))
            elif latest[0] == window:
                requests, read, written = latest[1]
                self._latest[key] = (window, (requests + 1, read + input_tokens, written + output_tokens))

    def used(self, now: float, length: float, family: str = "") -> tuple[int, int, int]:
        """Requests, input and output tokens in the window that `now` lies in: a minute, five hours or a week."""
        window, spent = self._latest.get((length, family), (-1, (0, 0, 0)))
        return spent if window == int(now // length) else (0, 0, 0)

    def turns_away(self, now: float, model: str) -> bool:
        """Return whether a plan has nothing left for this model."""
        shares = [
            *self._shares(now).values(),
            *(self._share(now, each) for each in self.limits.families if each in model),
        ]
        return self.limits.refuses and max(shares) >= 1

    def headers(self, api: Api, now: float, *, subscription: bool) -> Mapping[str, str]:
        """Return what a response carries. `subscription`: the client logged in with a plan instead of an API key."""
        if api == "anthropic":
            return self._unified(now) if subscription else self._anthropic(now)
        return self._codex(now) if subscription else self._openai(now)

    def _anthropic(self, now: float) -> dict[str, str]:
        requests, read, written = self.used(now, MINUTE)
        reset = _rfc3339(_end(now, MINUTE))
        limits = self.limits
        rows = {
            "requests": (limits.requests_per_minute, requests),
            "input-tokens": (limits.input_tokens_per_minute, read),
            "output-tokens": (limits.output_tokens_per_minute, written),
            "tokens": (limits.input_tokens_per_minute + limits.output_tokens_per_minute, read + written),
        }
        headers = {}
        for name, (limit, used) in rows.items():
            headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(max(0, limit - used))
            headers[f"anthropic-ratelimit-{name}-reset"] = reset
        return headers

    def _unified(self, now: float) -> dict[str, str]:
        prefix = "anthropic-ratelimit-unified"
        headers: dict[str, str] = {}
        shares = self._shares(now)
        for name, length in (("5h", FIVE_HOURS), ("7d", WEEK)):
            headers[f"{prefix}-{name}-status"] = _status(shares[length])
            headers[f"{prefix}-{name}-utilization"] = f"{shares[length]:.4f}"
            headers[f"{prefix}-{name}-reset"] = str(int(_end(now, length)))
        for family in self.limits.families:
            share = self._share(now, family)
            headers[f"{prefix}-7d_{family}-status"] = _status(share)
            headers[f"{prefix}-7d_{family}-utilization"] = f"{share:.4f}"
            headers[f"{prefix}-7d_{family}-reset"] = str(int(_end(now, WEEK)))
        length = max(shares, key=lambda window: shares[window])
        headers[f"{prefix}-status"] = _status(shares[length])
        headers[f"{prefix}-reset"] = str(int(_end(now, length)))
        headers[f"{prefix}-representative-claim"] = "five_hour" if length == FIVE_HOURS else "seven_day"
        headers[f"{prefix}-fallback-percentage"] = "0.5"
        headers[f"{prefix}-overage-status"] = "rejected"
        return headers

    def _openai(self, now: float) -> dict[str, str]:
        requests, read, written = self.used(now, MINUTE)
        limit = self.limits.input_tokens_per_minute + self.limits.output_tokens_per_minute
        left = f"{_end(now, MINUTE) - now:.3f}s"
        return {
            "x-ratelimit-limit-requests": str(self.limits.requests_per_minute),
            "x-ratelimit-remaining-requests": str(max(0, self.limits.requests_per_minute - requests)),
            "x-ratelimit-reset-requests": left,
            "x-ratelimit-limit-tokens": str(limit),
            "x-ratelimit-remaining-tokens": str(max(0, limit - read - written)),
            "x-ratelimit-reset-tokens": left,
        }

    def _codex(self, now: float) -> dict[str, str]:
        shares = self._shares(now)
        headers = {}
        for name, length in (("primary", FIVE_HOURS), ("secondary", WEEK)):
            headers[f"x-codex-{name}-used-percent"] = f"{shares[length] * 100:.1f}"
            headers[f"x-codex-{name}-window-minutes"] = str(int(length // 60))
            headers[f"x-codex-{name}-reset-at"] = str(int(_end(now, length)))
        return headers

    def _share(self, now: float, family: str) -> float:
        """Of what models of a family may have in a week."""
        _, read, written = self.used(now, WEEK, family)
        return (read + written) / self.limits.families[family]

    def _shares(self, now: float) -> dict[float, float]:
        shares = {}
        for length, limit in (
            (FIVE_HOURS, self.limits.tokens_per_five_hours),
            (WEEK, self.limits.tokens_per_week),
        ):
            _, read, written = self.used(now, length)
            shares[length] = (read + written) / limit
        return shares


def _status(share: float) -> str:
    return "rejected" if share >= 1 else "allowed_warning" if share >= 0.8 else "allowed"


def _end(now: float, length: float) -> float:
    return now - now % length + length


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
