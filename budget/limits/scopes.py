"""Scopes, the limits set on them, and what a request draws on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias

from budget.amounts import CountedUnit
from budget.windows import window_boundaries

LimitKind: TypeAlias = Literal["allowance", "pool"]
Policy: TypeAlias = Literal["cutoff", "freeze", "kill"]
"""What happens to an agent at a limit: `cutoff` closes its routes but the agent lives; `freeze` stops it and keeps all
its state; `kill` also gives up its session."""

#: The number of nano-USD in a dollar. Money is counted in whole nano-USD, so that sums stay exact.
NANO_USD = 10**9

#: The sorts of scopes. An allowance belongs to an agent, so it cannot have the scope of a provider or an account.
SORTS = ("launch", "agent", "role", "profile", "host", "provider", "account")
_OF_AGENTS = ("launch", "agent", "profile", "host")

#: The maximum amount.
MOST = 10**15
#: The amount of a limit that bounds nothing and only paces.
BOUNDLESS = MOST * NANO_USD * 10
_SCOPES = "launch:ID, agent:NAME, role:NAME, profile:NAME, host, provider:NAME, account:NAME"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """The scope of a limit."""

    sort: str
    """One of `SORTS`."""
    name: str
    """The name; empty for the host."""

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Parse a scope such as ``agent:coder0``.

        Raises:
            ValueError: `text` is not a scope; the message says what to write.
        """
        sort, colon, name = text.partition(":")
        if sort == "host":
            if colon:
                raise ValueError(f"{text!r}: there is one host. Write host.")
        elif sort not in SORTS:
            raise ValueError(f"{text!r} is no scope of a budget. There are {_SCOPES}.")
        elif not _NAME.fullmatch(name):
            raise ValueError(
                f"{text!r} does not say which {sort}. Write {sort}: and its name: letters, digits, . _ @ + -"
            )
        return cls(sort=sort, name=name)

    def __str__(self) -> str:
        return f"{self.sort}:{self.name}" if self.name else self.sort


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A bound on spending. An allowance bounds each agent by itself; a pool bounds the sum of its scope.

    Raises:
        ValueError: the scope or the window is invalid, the scope cannot have an allowance, or the amount is below 1.
    """

    kind: LimitKind
    scope: str
    amount: int
    """Weighted tokens or nano-USD; see `amount_of`."""
    unit: CountedUnit = "tokens"
    window: str | None = None
    """A window of budget.windows.window_boundaries; None for no end, or for an allowance the end of the launch."""
    policy: Policy = "cutoff"
    may_raise: bool = False
    """Whether an allowance of a launch may exceed the allowance that it replaces, because an admin set it. Otherwise
    it only lowers that allowance."""
    set_at: float = 0.0
    """When an admin set it by command or at a launch (seconds since the epoch); 0 if a file sets it."""
    account: str | None = None
    """The only account whose usage counts and is bounded; None for every account."""
    lift: int = 0
    """An additional amount until `lift_until`, in the limit's unit."""
    lift_until: float = 0.0
    """The end of `lift` (seconds since the epoch)."""

    def at(self, now: float) -> Limit:
        """Return the limit that applies now, with its lift."""
        return replace(self, amount=self.amount + self.lift, lift=0) if self.lift and now < self.lift_until else self

    @property
    def bounds(self) -> bool:
        """Whether the limit bounds anything, besides its pace."""
        return self.amount < BOUNDLESS

    def __post_init__(self) -> None:
        scope = Scope.parse(self.scope)
        if self.kind == "allowance" and scope.sort not in _OF_AGENTS:
            raise ValueError(
                f"{self.scope}: an allowance is an agent's share, and is set on launch:ID, agent:NAME, profile:NAME or "
                f"host. What all spend together with a {scope.sort} is bounded by a pool."
            )
        if self.amount < 1:
            raise ValueError(f"{self.scope}: a budget of {self.amount} bounds nothing. Write an amount above 0.")
        window_boundaries.check(self.window)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """The agent, provider and account of a request, which decide the limits that it draws on."""

    agent: str
    launch_id: str
    profiles: tuple[str, ...] = ()
    """The agent's sandbox profile and the profiles that it extends, the most specific first."""
    provider: str
    account: str
    role: str = ""
    """The agent's role; empty if unknown, as in records from before roles had budgets."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every scope on which this spending counts."""
        return (
            f"launch:{self.launch_id}",
            f"agent:{self.agent}",
            *([f"role:{self.role}"] if self.role else []),
            *self.profile_scopes,
            "host",
            f"provider:{self.provider}",
            f"account:{self.account}",
        )

    @property
    def profile_scopes(self) -> tuple[str, ...]:
        """Those of the sandbox profiles."""
        return tuple(f"profile:{profile}" for profile in self.profiles)

    @property
    def is_joined(self) -> bool:
        """Whether the agent's sandbox is several profiles joined, such as ``web+data``."""
        return bool(self.profiles) and "+" in self.profiles[0]

    @property
    def every_scope(self) -> tuple[str, ...]:
        """All scopes, and each of them restricted to this account."""
        return (*self.scopes, *(_of_account(scope, self.account) for scope in self.scopes))


def of_role(role: str, account: str) -> tuple[str, str]:
    """Return the scopes on which a role's spending with an account counts, besides the agent's own scopes."""
    return f"role:{role}", _of_account(f"role:{role}", account)


def _of_account(scope: str, account: str) -> str:
    return f"{scope}/account:{account}"


def amount_of(written: str | float | Decimal, unit: CountedUnit) -> int:
    """Convert a written amount of weighted tokens or USD to the exact amount of a limit (tokens or nano-USD).

    Smaller fractions are cut off.

    Raises:
        ValueError: `written` is not a number, or is too small or too large.
    """
    try:
        number = Decimal(str(written))
    except InvalidOperation:
        number = Decimal("NaN")
    sane = number.is_finite() and 0 < number <= MOST
    amount = int(number * NANO_USD if unit == "usd" else number) if sane else 0
    if amount < 1:
        example = "2.50" if unit == "usd" else "500000"
        raise ValueError(f"{str(written)[:40]!r} is no amount. Write a number above 0, such as {example}.")
    return amount


def counted_on(limit: Limit, draw: Draw) -> str:
    """Return the scope whose spending counts against a limit that governs a request.

    A pool counts its own scope. An allowance counts one agent: within its window over all launches, or without a
    window only the current launch. An allowance on a launch never counts another launch.
    """
    if limit.kind == "pool":
        counted = limit.scope
    elif limit.window is None or limit.scope.startswith("launch:"):
        counted = f"launch:{draw.launch_id}"
    else:
        counted = f"agent:{draw.agent}"
    return counted if limit.account is None else _of_account(counted, limit.account)
