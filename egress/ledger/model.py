"""The ledger's records: entries, observations and actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from budget.tokens import Tokens
from core.errors import MusterError

Ended: TypeAlias = Literal["completed", "client_gone", "upstream_gone", "cut", "error"]
"""How a request ended. error: the provider refused it, or its response reported a failure."""

#: Error types that providers use (Anthropic documentation, "Errors"; OpenAI documentation, "Error codes").
_OF_PROVIDERS: Final = """
api_error authentication_error billing_error billing_hard_limit_reached content_filter content_policy_violation
context_length_exceeded insufficient_quota invalid_api_key invalid_prompt invalid_request_error invalid_value
max_output_tokens model_not_found not_found_error overloaded_error permission_error previous_response_not_found
rate_limit_error rate_limit_exceeded request_too_large requests server_error server_is_overloaded service_unavailable
slow_down string_above_max_length timeout_error tokens unsupported_parameter unsupported_value usage_limit_reached
usage_not_included
"""
#: A provider's error without a type, or with an unknown one.
OTHER_ERROR: Final = "other_error"
#: The provider could not be reached, or its connection broke before the response was complete.
UNREACHABLE: Final = "unreachable"
BROKEN_OFF: Final = "broken_off"
#: Part of the response could not be read.
UNREADABLE: Final = "unreadable"
#: The rest of the limits is too small for such a request.
TOO_LITTLE_LEFT: Final = "too_little_left"
#: An internal error of the egress; its log has details.
EGRESS_ERROR: Final = "egress_error"
#: The egress ended while the request was running, so its end is unknown.
EGRESS_ENDED: Final = "egress_ended"
#: The database rejected the entry's values.
NOT_WRITTEN: Final = "not_written"
#: All error types of entries; the status is the only other detail. Entries never repeat a provider's text: some
#: providers write the account's key into their errors.
ERROR_TYPES: Final = frozenset(
    {
        *_OF_PROVIDERS.split(),
        OTHER_ERROR,
        UNREACHABLE,
        BROKEN_OFF,
        UNREADABLE,
        TOO_LITTLE_LEFT,
        EGRESS_ERROR,
        EGRESS_ENDED,
        NOT_WRITTEN,
    }
)


def error_type(text: str | None) -> str | None:
    """Return the type of an error as an entry may have it."""
    return text if text is None or text in ERROR_TYPES else OTHER_ERROR


#: The result of a temporary refusal.
FOR_NOW: Final = "refused for now"
#: The cause in a refusal's detail if the pace forbids the request, not a limit (budget.limits.request_admission.Why).
PACE: Final = "pace"
#: The audit action for an admitted request that may pass a limit by its input.
EXCESS: Final = "excess"
#: The prefix of denial ids from commands that end an agent; the action (freeze, kill) follows it.
ENDING: Final = "ending/"


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One request. Times are seconds since the epoch."""

    seq: int
    """Counts from 1 without gaps, in the order of settlement."""
    id: str
    """Unique forever, even across the ledgers of other hosts."""
    tenant_id: str
    host: str
    agent: str
    launch_id: str
    role: str
    profile: str
    session: str | None
    turn: str | None
    task: str | None
    account: str
    provider: str
    api: str
    model_asked: str | None
    model: str | None
    """The model that answered."""
    attempt: int
    """The number of the client's attempt, from 1, if the client reports it."""
    tokens: Tokens
    reported: bool
    """Whether the provider reported the usage; if False, `tokens` is an estimate."""
    raw: Mapping[str, Any] | None
    status: int | None
    """The status of the provider's response; None: there was none."""
    ended: Ended
    detail: str | None
    """The type of the error (ERROR_TYPES), if there was one."""
    started_at: float
    ended_at: float
    first_byte_s: float | None
    total_s: float
    usd: float | None
    """The cost; None: no price is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """An account's quota as a provider reported it, read passively from response headers."""

    account: str
    provider: str
    window: str
    """The provider's own name, if it has one: ``5h``, ``7d``, ``7d_opus``, ``requests``, ``input-tokens``, ..."""
    seen_at: float
    used: float | None = None
    """A fraction of the window's limit; may exceed 1."""
    limit: float | None = None
    remaining: float | None = None
    reset_at: float | None = None
    window_s: float | None = None
    """The length of the window, if known."""
    status: str | None = None
    """The provider's status: allowed, allowed_warning, rejected, ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """An action of the egress on an agent, or a refusal: a row of the audit."""

    seq: int
    id: str
    at: float
    agent: str
    action: str
    """cutoff, restore, freeze, kill, estop, estop-clear, refused, route-refused, ..."""
    cause: str
    by: str
    """The person who gave the command, or ``egress``."""
    result: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class LedgerUnwritable(MusterError):
    """The ledger cannot be written (a full disk?). Nothing is admitted until it can be."""
