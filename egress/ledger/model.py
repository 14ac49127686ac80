"""A row of the ledger: one request of one agent, and what it used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from budget.tokens import Tokens
from core.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from budget.tokens import Tokens

Ended: TypeAlias = Literal["completed", "client_gone", "upstream_gone", "cut", "error"]
"""How a request ended. error: the provider refused it, or said in its response that it failed."""

#: Types of errors that providers name (Anthropic documentation, "Errors"; OpenAI documentation, "Error codes").
_OF_PROVIDERS: Final = """
api_error authentication_error billing_error billing_hard_limit_reached content_filter content_policy_violation
context_length_exceeded insufficient_quota invalid_api_key invalid_prompt invalid_request_error invalid_value
max_output_tokens model_not_found not_found_error overloaded_error permission_error previous_response_not_found
rate_limit_error rate_limit_exceeded request_too_large requests server_error server_is_overloaded service_unavailable
slow_down string_above_max_length timeout_error tokens unsupported_parameter unsupported_value usage_limit_reached
usage_not_included
"""
#: A provider's error that names no type, or another one.
OTHER_ERROR: Final = "other_error"
#: The provider could not be reached, or was lost before it had said all.
UNREACHABLE: Final = "unreachable"
BROKEN_OFF: Final = "broken_off"
#: Something in the response could not be read.
UNREADABLE: Final = "unreadable"
#: With what the limits leave, no such request can be made.
TOO_LITTLE_LEFT: Final = "too_little_left"
#: A fault of the egress's own; its log has more.
EGRESS_ERROR: Final = "egress_error"
#: The egress ended while this was under way, and never heard how it ended.
EGRESS_ENDED: Final = "egress_ended"
#: The database refused the entry for what was in it.
NOT_WRITTEN: Final = "not_written"
#: All that an entry says of what went wrong, besides the status. Entries never repeat what a provider wrote: some
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


#: The result of a refusal that waiting ends.
FOR_NOW: Final = "refused for now"
#: What a refusal's detail says was in the way where it is the pace, and no limit (budget.limits.request_admission.Why).
PACE: Final = "pace"
#: The action of the audit with which a request was let go that may pass a limit by its input.
EXCESS: Final = "excess"
#: The ids of denials by commands that end an agent begin so; what they do to it (freeze, kill) is behind it.
ENDING: Final = "ending/"


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One request. Times are seconds since the epoch."""

    seq: int
    """Counts from 1 without gaps, in the order of settlement."""
    id: str
    """Unique for ever, also over the ledgers of other hosts."""
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
    """The one that answered."""
    attempt: int
    """Which try of the client's this was, from 1, as far as it says so."""
    tokens: Tokens
    reported: bool
    """False: the provider did not tell, and `tokens` is an estimate."""
    raw: Mapping[str, Any] | None
    status: int | None
    """Of the upstream's response; None: there was none."""
    ended: Ended
    detail: str | None
    """The type of the error (ERROR_TYPES), if there was one."""
    started_at: float
    ended_at: float
    first_byte_s: float | None
    total_s: float
    usd: float | None
    """None: no price is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What a provider said of an account's quota, passively read from a response's headers."""

    account: str
    provider: str
    window: str
    """The provider's own name where it has one: ``5h``, ``7d``, ``7d_opus``, ``requests``, ``input-tokens``, ..."""
    seen_at: float
    used: float | None = None
    """A fraction of the window's limit; may pass 1."""
    limit: float | None = None
    remaining: float | None = None
    reset_at: float | None = None
    window_s: float | None = None
    """The length of the window, where it is known."""
    status: str | None = None
    """The provider's word: allowed, allowed_warning, rejected, ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """Something that the egress did to an agent, or let no one do: a row of the audit."""

    seq: int
    id: str
    at: float
    agent: str
    action: str
    """cutoff, restore, freeze, kill, estop, estop-clear, refused, route-refused, ..."""
    cause: str
    by: str
    """Whose command, or ``egress``."""
    result: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class LedgerUnwritable(MusterError):
    """The ledger cannot be written (a full disk?). Nothing is admitted before it can be again."""
