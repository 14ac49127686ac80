"""What the egress receives over its control socket and from its own files: the validated wire format.

Secrets are never part of it: credentials are references (core.secret_references), which the egress itself resolves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from budget.amounts import CountedUnit
from budget.limits.scopes import LimitKind, Policy
from egress.provider_endpoints import Provider

ROLES = "roles"
"""The feature by which an egress declares that it understands pools of roles, and windows that start at a given moment,
in `LimitSettings`."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class AccountSettings(_Wire):
    """One login or API key with a provider."""

    name: str
    provider: Provider
    upstream: str
    """Where requests are sent: scheme, host, and an optional path before the provider's own."""
    credential: str | None = None
    """A reference: env:NAME, file:PATH, keyring:NAME."""
    passthrough: bool = False
    """Whether the agent's own credential is forwarded: a person's own login, on that person's host, without a
    sandbox."""
    server_tools: bool = False
    """Whether requests may use tools that the provider runs, although they are billed by call or by time
    (egress.http.unmetered_costs)."""
    premium: bool = False
    """Whether requests may ask for service tiers and speeds that cost more than the known prices."""


class LimitSettings(_Wire):
    """A bound on spending.

    Scopes: ``launch:ID``, ``agent:NAME``, ``role:NAME``, ``profile:NAME``, ``host``, ``provider:NAME``,
    ``account:NAME``.

    An allowance bounds each agent separately, and only the most specific one that is set governs. The order is launch,
    agent, profile, the profiles that it extends, host. A pool bounds the sum over everything that draws on its scope,
    and every pool applies.
    """

    kind: LimitKind
    scope: str
    amount: float = Field(gt=0)
    """Weighted tokens, or USD."""
    unit: CountedUnit = "tokens"
    window: str | None = None
    """``day``, ``week``, ``month`` (UTC), or a length such as ``5h``. None: unlimited, or the launch for an
    allowance."""
    policy: Policy = "cutoff"
    may_raise: bool = False
    """For an allowance of a launch: whether an admin set it, so that it may exceed the limit that would otherwise apply
    (budget.limits.scopes)."""
    set_at: float = 0.0
    """When an admin set it by command or at launch (seconds since the epoch); 0 if it comes from a file. An agent's
    allowance that was set after one with `may_raise` applies in addition to it."""
    account: str | None = None
    """The only account whose usage counts and whose users are bounded; None: every account."""
    lift: float = Field(default=0.0, ge=0)
    """The additional amount that may be used, in the same unit: the rest of an authorization."""
    lift_until: float | None = None
    """When the lift ends (seconds since the epoch); None: there is no lift. It ends without anyone's action."""

    def without_lift(self) -> LimitSettings:
        """Return a copy without its lift."""
        return self.model_copy(update={"lift": 0.0, "lift_until": None})


class PaceSettings(_Wire):
    """How much of a window may be used by when: a straight line between two moments.

    After the second moment only the limit applies. A pace belongs to a counter, and so to every limit that uses that
    counter. If many agents share an allowance, each of them has its own pace.
    """

    counted_on: str
    """``agent:NAME``, ``host``, ``role:NAME``, ...; restricted to one account as ``SCOPE/account:NAME``."""
    unit: CountedUnit = "tokens"
    window: str
    """The window, as in its limit."""
    from_at: float = Field(allow_inf_nan=False)
    """Seconds since the epoch."""
    from_amount: float = Field(allow_inf_nan=False)
    """In `unit`; negative if clients outside this egress used more of it than passes here."""
    until_at: float = Field(allow_inf_nan=False)
    until_amount: float = Field(allow_inf_nan=False)
    lift: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The additional amount that may be used: the rest of all authorizations."""
    lift_until: float | None = Field(default=None, allow_inf_nan=False)
    """When the lift ends; None: there is no lift."""
    by_itself: bool = False
    """Whether this is a provider's own window, which the provider enforces: no limit here applies to it."""

    def without_lift(self) -> PaceSettings:
        """Return a copy without authorizations."""
        return self.model_copy(update={"lift": 0.0, "lift_until": None})


class EgressSettings(_Wire):
    """All settings that do not belong to one agent."""

    tenant_id: str = "default"
    host: str
    accounts: tuple[AccountSettings, ...] = ()
    limits: tuple[LimitSettings, ...] = ()
    paces: tuple[PaceSettings, ...] = ()
    """Invalid paces are dropped, so that they cannot invalidate the limits."""
    weights: dict[str, float] = {}
    """Factors by kind of token; a missing kind keeps its default."""
    revision: str = ""
    """Identifies this set of settings."""
    told_at: float | None = None
    """When this egress received them (seconds since the epoch); the egress fills it in."""

    @field_validator("paces", mode="before")
    @classmethod
    def _understood(cls, value: object) -> tuple[object, ...]:
        return tuple(filter(_is_pace, value)) if isinstance(value, list | tuple) else ()

    def without_lifts(self, is_over: Callable[[float], bool] = lambda until: True) -> EgressSettings:
        """Return a copy of the settings whose limits and paces have no lift.

        Args:
            is_over: removes only the lifts for whose end it returns True.
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
    """The account that it uses for each provider."""
    profile: str = "bubblewrap"
    """Its sandbox profile."""
    profiles: tuple[str, ...] = ()
    """That profile and the profiles that it extends, the most specific first."""
    routes: tuple[str, ...] = ()
    """Hosts that it may reach: ``docs.python.org`` (port 443), ``github.com:443``, ``*.example.org``."""
    listener: Literal["unix", "port"] = "unix"
    """`unix`: a socket for its sandbox. `port`: a loopback port with a secret path, for an agent without a sandbox."""
    limits: tuple[LimitSettings, ...] = ()
    """Allowances that belong to this agent alone (scopes ``launch:ID`` and ``agent:NAME``)."""
    control_socket: str = ""
    """The control socket of its agent host, which receives requests to freeze or kill the agent."""
    marker: str = ""
    """The marker in the environment of each of its processes, to find them if its agent host does not answer."""
    turn_file: str = ""
    """The file to which its agent host writes the current session and turn: a JSON object with session, turn and
    task."""


class Address(_Wire):
    """Where a registered agent reaches the egress."""

    socket: str | None = None
    url: str | None = None
    """The URL up to the provider's name: ``URL/anthropic`` is the base URL of Anthropic's API."""
