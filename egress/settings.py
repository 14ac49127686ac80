"""What the egress is told, over its control socket and from its own files: the wire, validated.

Secrets never are here: credentials are references (core.secret_references), resolved by the egress itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from egress.provider_endpoints import Provider

if TYPE_CHECKING:
    from collections.abc import Callable

Policy: TypeAlias = Literal["cutoff", "freeze", "kill"]
"""What happens at a limit: routes closed and the agent lives; stopped with all that it is kept; session given up."""
Unit: TypeAlias = Literal["tokens", "usd"]
LimitKind: TypeAlias = Literal["allowance", "pool"]


ROLES = "roles"
"""What an egress says that it understands in `LimitSettings`: pools of roles, and windows from a moment on."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class AccountSettings(_Wire):
    """One login or API key with a provider."""

    name: str
    provider: Provider
    upstream: str
    """Where requests go: scheme, host, and a path before the provider's own, if any."""
    credential: str | None = None
    """A reference: env:NAME, file:PATH, keyring:NAME."""
    passthrough: bool = False
    """The agent's own credential goes through: a person's own login, on that person's host, without a sandbox."""
    server_tools: bool = False
    """Tools that the provider runs may be asked for, though they are billed by call or by time
    (egress.http.request_body_policy)."""
    premium: bool = False
    """Service tiers and speeds may be asked for that cost more than the prices that are known."""


class LimitSettings(_Wire):
    """A bound on spending.

    Scopes: ``launch:ID``, ``agent:NAME``, ``role:NAME``, ``profile:NAME``, ``host``, ``provider:NAME``,
    ``account:NAME``. An allowance bounds each agent by itself, and only the most specific one that is set governs
    (launch, agent, profile, the profiles that it extends, host); a pool bounds the sum over all that draw on its scope,
    and each one holds.
    """

    kind: LimitKind
    scope: str
    amount: float = Field(gt=0)
    """Weighted tokens, or USD."""
    unit: Unit = "tokens"
    window: str | None = None
    """``day``, ``week``, ``month`` (UTC), or a length such as ``5h``; None: without an end (allowance: the launch)."""
    policy: Policy = "cutoff"
    may_raise: bool = False
    """Of an allowance of a launch: an admin's, which may be higher than what would hold without it
    (budget.limits.scopes)."""
    set_at: float = 0.0
    """When an admin set it by command, or launched with it; 0: a file says it. One of the agent that was set after one
    that may raise holds beside that."""
    account: str | None = None
    """Only what is used of this account counts, and only who uses it is bounded; None: of whatever account."""
    lift: float = Field(default=0.0, ge=0)
    """So much more may be used, in the same unit: what is left of an authorization."""
    lift_until: float | None = None
    """Until then (seconds since the epoch); without it there is no lift. Nobody needs to be there to take it back."""

    def without_lift(self) -> LimitSettings:
        """Return the same, not lifted."""
        return self.model_copy(update={"lift": 0.0, "lift_until": None})


class PaceSettings(_Wire):
    """How much of a window may be used by when: straight from one moment to another, after which its limit alone holds.

    It belongs to what is counted, and so to whatever limit counts that: of an allowance that many agents have, each
    has a pace of its own.
    """

    counted_on: str
    """``agent:NAME``, ``host``, ``role:NAME``, ..., as far as it is of one account ``SCOPE/account:NAME``."""
    unit: Unit = "tokens"
    window: str
    """As its limit has it."""
    from_at: float = Field(allow_inf_nan=False)
    """Seconds since the epoch."""
    from_amount: float = Field(allow_inf_nan=False)
    """In `unit`; less than nothing where others used more of it than what passes here."""
    until_at: float = Field(allow_inf_nan=False)
    until_amount: float = Field(allow_inf_nan=False)
    lift: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """So much more may be used: what is left of authorizations,"""
    lift_until: float | None = Field(default=None, allow_inf_nan=False)
    """until then; without it nothing is."""
    by_itself: bool = False
    """It is a provider's own window, which the provider holds: nothing here has a limit on it."""

    def without_lift(self) -> PaceSettings:
        """Return the same, with nothing authorized."""
        return self.model_copy(update={"lift": 0.0, "lift_until": None})


class EgressSettings(_Wire):
    """Everything that does not belong to one agent."""

    tenant_id: str = "default"
    host: str
    accounts: tuple[AccountSettings, ...] = ()
    limits: tuple[LimitSettings, ...] = ()
    paces: tuple[PaceSettings, ...] = ()
    """What cannot be understood of them paces nothing: for its sake no limit is refused."""
    weights: dict[str, float] = {}
    """Factors by kind of tokens; what is not said keeps its default."""
    revision: str = ""
    """Tells one set of settings from another."""
    told_at: float | None = None
    """When this egress was told them (seconds since the epoch); it writes that down itself."""

    @field_validator("paces", mode="before")
    @classmethod
    def _understood(cls, value: object) -> tuple[object, ...]:
        return tuple(filter(_is_pace, value)) if isinstance(value, list | tuple) else ()

    def without_lifts(self, is_over: Callable[[float], bool] = lambda until: True) -> EgressSettings:
        """Return the same limits and paces, not lifted.

        Args:
            is_over: only those whose lift ends at a time of which this says so.
        """

        def is_lifted(each: LimitSettings | PaceSettings) -> bool:
            return each.lift_until is not None and is_over(each.lift_until)

        return self.model_copy(
            update={
                "limits": tuple(each.without_lift() if is_lifted(each) else each for each in self.limits),
                "paces": tuple(each.without_lift() if is_lifted(each) else each for each in self.paces),
            }
        )


def _is_pace(found: object) -> bool:
    try:
        PaceSettings.model_validate(found)
    except ValidationError:
        return False
    return True


class AgentRegistration(_Wire):
    """An agent that may use the egress, and how."""

    agent: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    launch_id: str
    role: str = ""
    accounts: dict[Provider, str] = {}
    """The account that it uses of each provider."""
    profile: str = "bubblewrap"
    """Its sandbox profile."""
    profiles: tuple[str, ...] = ()
    """That profile and those that it extends, the most specific first."""
    routes: tuple[str, ...] = ()
    """Hosts that it may reach: ``docs.python.org`` (port 443), ``github.com:443``, ``*.example.org``."""
    listener: Literal["unix", "port"] = "unix"
    """A socket of its own for its sandbox; or, without one, a loopback port with a secret path."""
    limits: tuple[LimitSettings, ...] = ()
    """Allowances that belong to it alone (scopes ``launch:ID`` and ``agent:NAME``)."""
    control_socket: str = ""
    """Its agent host's, by which it is asked to freeze or to kill."""
    marker: str = ""
    """The word in the environment of each of its processes, by which they are found when its agent host is silent."""
    turn_file: str = ""
    """Where its agent host writes which session and turn it is in: a JSON object with session, turn and task."""


class Address(_Wire):
    """Where a registered agent reaches the egress."""

    socket: str | None = None
    url: str | None = None
    """Up to the provider's name: ``URL/anthropic`` is the base URL of Anthropic's API."""
